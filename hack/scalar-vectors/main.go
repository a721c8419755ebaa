// Command scalar-vectors asks the two YAML libraries that count what a scalar is, and what they read
// back from what regent wrote.
//
//	go run . vectors -seed 1 -count 20000 > plugin/sops/tests/data/scalar/vectors.tsv
//	go run . readback < cases
//
// The libraries: go.yaml.in/yaml/v3 as SOPS uses it, and sigs.k8s.io/yaml as Kubernetes does.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	yamlv3 "go.yaml.in/yaml/v3"
	kubernetes "sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) < 2 {
		fail("expects `vectors` or `readback`")
	}
	switch os.Args[1] {
	case "vectors":
		flags := flag.NewFlagSet("vectors", flag.ExitOnError)
		seed := flags.Int64("seed", 1, "seed of the random part")
		count := flags.Int("count", 20000, "how many cases")
		_ = flags.Parse(os.Args[2:])
		vectors(*seed, *count)
	case "readback":
		readback(os.Stdin)
	default:
		fail("expects `vectors` or `readback`")
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "scalar-vectors: "+format+"\n", args...)
	os.Exit(1)
}

// A scalar as it stands in a file: its tag, its text, and whether it is in double quotes.
type scalar struct {
	tag    string
	quoted bool
	text   string
}

func vectors(seed int64, count int) {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "# tag, p(lain) or q(uoted), text, what SOPS reads, what Kubernetes reads (= for the same)")
	seen := map[scalar]bool{}
	written := 0
	write := func(s scalar) {
		if written >= count || seen[s] || !asWritten(s) {
			return
		}
		seen[s] = true
		sops, kube := bySops(s), byKubernetes(s)
		if kube == sops {
			kube = "="
		}
		style, tag := "p", s.tag
		if s.quoted {
			style = "q"
		}
		if tag == "" {
			tag = "-"
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", tag, style, strconv.QuoteToASCII(s.text), sops, kube)
		written++
	}
	for _, text := range fixed() {
		write(scalar{text: text})
	}
	random := rand.New(rand.NewSource(seed))
	pool := fixed()
	tags := []string{"!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!str", "!!binary", "!!merge", "!", "!own", "!!own"}
	for written < count {
		text := generate(random, pool)
		if random.Intn(8) == 0 {
			write(scalar{tag: tags[random.Intn(len(tags))], quoted: random.Intn(2) == 0, text: text})
		} else {
			write(scalar{text: text})
		}
	}
}

func document(s scalar) []byte {
	text := s.text
	if s.quoted {
		text = strconv.QuoteToASCII(text)
	}
	return []byte("- " + strings.TrimLeft(s.tag+" "+text, " ") + "\n")
}

// asWritten tells whether the scalar is one at all: plain text may not hold every sequence.
func asWritten(s scalar) bool {
	var node yamlv3.Node
	if !utf8.ValidString(s.text) || yamlv3.Unmarshal(document(s), &node) != nil || len(node.Content) != 1 {
		return false
	}
	list := node.Content[0]
	if list.Kind != yamlv3.SequenceNode || len(list.Content) != 1 {
		return false
	}
	found := list.Content[0]
	quoted := found.Style&yamlv3.DoubleQuotedStyle != 0
	return found.Kind == yamlv3.ScalarNode && found.Anchor == "" && found.Value == s.text && quoted == s.quoted &&
		found.LineComment == "" && (s.tag != "" || found.Style&yamlv3.TaggedStyle == 0)
}

// bySops decodes a node as the YAML store of SOPS does.
func bySops(s scalar) string {
	var node yamlv3.Node
	if err := yamlv3.Unmarshal(document(s), &node); err != nil {
		return "error"
	}
	var value any
	if err := node.Content[0].Content[0].Decode(&value); err != nil {
		return "error"
	}
	return describe(value, s.text)
}

// byKubernetes reads a document as the API machinery does; the type comes from the library below.
func byKubernetes(s scalar) string {
	if _, err := kubernetes.YAMLToJSON(document(s)); err != nil {
		return "error"
	}
	var value []any
	if err := yamlv2.Unmarshal(document(s), &value); err != nil || len(value) != 1 {
		return "error"
	}
	if text, ok := value[0].(string); ok && !utf8.ValidString(text) {
		// json.Marshal would replace bytes in silence; regent refuses.
		return "error"
	}
	return describe(value[0], s.text)
}

func describe(value any, text string) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprintf("bool %t", value)
	case int:
		return fmt.Sprintf("int %d", value)
	case int64:
		return fmt.Sprintf("int %d", value)
	case uint64:
		return fmt.Sprintf("uint %d", value)
	case float64:
		if math.IsNaN(value) {
			return "float nan"
		}
		return fmt.Sprintf("float %x", math.Float64bits(value))
	case time.Time:
		text, err := value.MarshalText()
		if err != nil {
			return "error"
		}
		return "time " + string(text)
	case string:
		if value == text {
			return "str"
		}
		return "bytes " + base64.StdEncoding.EncodeToString([]byte(value))
	default:
		fail("an unknown type, %T", value)
		return ""
	}
}

func fixed() []string {
	var texts []string
	for _, word := range []string{"", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf",
		"+.inf", "-.inf", "+.nan", "-.nan", "nan", "inf", "infinity", "+inf", "=", "<<", "nil", "none"} {
		// Every combination of cases.
		for bits := 0; bits < 1<<min(len(word), 6); bits++ {
			cased := []byte(word)
			for i := 0; i < len(cased) && i < 6; i++ {
				if bits>>i&1 == 1 {
					cased[i] = bytes.ToUpper(cased[i : i+1])[0]
				}
			}
			texts = append(texts, string(cased))
		}
	}
	for _, edge := range []uint64{0, 1, 7, 8, 9, 10, 63, 64, 255, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 53, 1<<53 + 1,
		1<<63 - 2, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 2, 1<<64 - 1} {
		for _, sign := range []string{"", "+", "-"} {
			for _, form := range []string{"%d", "0x%x", "0X%X", "0b%b", "0B%b", "0o%o", "0O%o", "0%o", "00%o", "%d.", "%d.0",
				"%d_", "_%d", "0x_%x", "%de0", "%dE+2", "%d.5e-3", "0b+%b", "0b-%b", "0o+%o", "0o-%o", "0x+%x", "0%d"} {
				texts = append(texts, sign+fmt.Sprintf(form, edge))
			}
		}
	}
	for _, edge := range []string{"18446744073709551616", "9223372036854775809", "-9223372036854775809", "1e308", "1e309", "-1e400",
		"1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "4.9e-324", "2.4e-324", "2.5e-324",
		"2.2250738585072011e-308", "2.2250738585072014e-308", "9007199254740993", "9007199254740993.0", "0.1", "-0", "-0.0", "+0", ".5",
		".5_0", ".5__0", "._5", ".5_", ".5e400", ".5e-400", ".5e1_0", ".5_e1", ".5e_1", "1_0.5", "1__0.5", ".", "..", ".e5", "-.5", "+.5",
		"1.2.3", "--1", "1e", "1e+", "0x", "0b", "0o", "0x1p-2", "0b2", "0o8", "08", "09", "09e1", "12:30:45", "190:20:30", "1,000",
		"-_1", "+_1", "-", "+", "0x_", "0_", "0_8", "0o_7", "0b_1", "1_e_3", "0x1F", "0xfF_ff"} {
		texts = append(texts, edge)
	}
	for _, edge := range []string{"2001-12-14", "2001-1-1", "0000-02-29", "1900-02-29", "2000-02-29", "2001-02-29", "2001-12-14T21:59:43.10-05:00",
		"2001-12-14t21:59:43Z", "2001-12-14T21:59:43z", "2001-12-14 21:59:43", "2001-12-14    21:59:43.5", "2001-12-14 21:59:43 Z",
		"2001-12-14 21:59:43Z", "2001-12-14 21:59:43 -5", "2001-12-14T21:59:43", "2001-12-14T21:59:43+0530", "2001-12-14T21:59:43+5:30",
		"2001-12-14T1:2:3,123456789123Z", "2001-12-14T1:2:3.000Z", "2001-12-14T1:2:3.Z", "2001-12-14T24:00:00Z", "2001-12-14T23:59:60Z",
		"2001-12-14T1:2:3+05:60", "2001-12-14T1:2:3-00:00", "2001-12-14T1:2:3+00:00", "2001-12-14T1:2:3+24:00", "2001-12-14T1:2:3+23:60",
		"2001-12-14T1:2:3+25:00", "2001-12-14T1:2:3+05:61", "2001-12", "2001-12-", "2001-00-01", "2001-13-01", "2001-12-00", "2001-12-32",
		"12001-12-14", "201-12-14", "2001-012-14", "2001-12-014", "2001--12-14", "9999-12-31T23:59:59.999999999Z"} {
		texts = append(texts, edge)
	}
	return texts
}

// generate makes a text that some rule might take for its own.
func generate(random *rand.Rand, pool []string) string {
	pick := func(of ...string) string { return of[random.Intn(len(of))] }
	digits := func(least, most int, of string) string {
		text := make([]byte, least+random.Intn(most-least+1))
		for i := range text {
			text[i] = of[random.Intn(len(of))]
		}
		return string(text)
	}
	switch random.Intn(6) {
	case 0: // a number in any base, with underscores
		return pick("", "", "+", "-") + pick("", "", "0", "0x", "0X", "0b", "0B", "0o", "0O", "_") +
			digits(1, 20, pick("0123456789", "01", "01234567", "0123456789abcdefABCDEF", "0123456789_"))
	case 1: // a float
		return pick("", "", "+", "-") + digits(0, 5, "0123456789_") + pick(".", "", "_.") + digits(0, 18, "0123456789") +
			pick("", "e", "E", "e+", "e-", "E-") + digits(0, 3, "0123456789")
	case 2: // a time
		number := func(most int) string {
			return fmt.Sprintf(pick("%d", "%02d", "%02d"), random.Intn(most+2))
		}
		date := fmt.Sprintf("%04d", random.Intn(10000)) + "-" + number(12) + "-" + number(31)
		if random.Intn(4) == 0 {
			return date
		}
		return date + pick("T", "t", " ", "  ", "_") + number(23) + ":" + number(59) + ":" + number(59) +
			pick("", ".", ",") + digits(0, 11, "0123456789") + pick("", "Z", "z", "+", "-", " +") +
			pick("", "0", "00", "05", "24") + pick("", ":00", ":30", ":60", ":61", "30")
	case 3: // a known text with one character changed
		text := []byte(pool[random.Intn(len(pool))])
		if len(text) == 0 {
			return ""
		}
		alphabet := "0123456789+-._eExXbBoOnNyY:T Z,"
		text[random.Intn(len(text))] = alphabet[random.Intn(len(alphabet))]
		return string(text)
	case 4: // anything
		return digits(1, 7, "0123456789+-._eExXbBoOaAfFnNiIyYtTzZ:, ~=<|>!")
	default: // base64, for its tag
		return base64.StdEncoding.EncodeToString([]byte(digits(0, 8, "abc\xff\x00\xe9"))) + pick("", "", "", "=", "A")
	}
}

// A value as regent means it, one field set; the tests of regent-sops write it.
type value struct {
	Null  bool     `json:"null"`
	Bool  *bool    `json:"bool"`
	Int   *string  `json:"int"`
	Float *string  `json:"float"` // shortest decimal
	Time  *string  `json:"time"`
	Text  *string  `json:"text"` // base64
	List  *[]value `json:"list"`
	Map   *[]keyed `json:"map"`
	Docs  *[]value `json:"documents"`
}

type keyed struct {
	Key   string `json:"key"`
	Value value  `json:"value"`
}

// readback reads lines `manifest|people <base64 of the YAML> <JSON of the value>`.
func readback(in io.Reader) {
	lines := bufio.NewReaderSize(in, 1<<20)
	count := 0
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		parts := strings.SplitN(strings.TrimRight(line, "\n"), " ", 3)
		if err != nil || len(parts) != 3 {
			fail("a malformed case")
		}
		text, err := base64.StdEncoding.DecodeString(parts[1])
		if err != nil {
			fail("a malformed case: %v", err)
		}
		var want value
		if err := json.Unmarshal([]byte(parts[2]), &want); err != nil {
			fail("a malformed case: %v", err)
		}
		switch parts[0] {
		case "manifest":
			err = readManifest(text, want)
		case "people":
			err = readDocuments(text, *want.Docs)
		default:
			fail("an unknown kind of case")
		}
		if err != nil {
			fail("case %d, %s: %v\nwritten: %q", count+1, parts[0], err, text)
		}
		count++
	}
	if count == 0 {
		fail("no case at all")
	}
	fmt.Printf("%d documents read back as they were meant\n", count)
}

func readManifest(text []byte, want value) error {
	asJSON, err := kubernetes.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.UseNumber()
	var got any
	if err := decoder.Decode(&got); err != nil {
		return err
	}
	return sameJSON(got, want)
}

func sameJSON(got any, want value) error {
	switch got := got.(type) {
	case nil:
		if want.Null {
			return nil
		}
	case bool:
		if want.Bool != nil && *want.Bool == got {
			return nil
		}
	case json.Number:
		if want.Int != nil && *want.Int == got.String() {
			return nil
		}
		if want.Float != nil && sameFloat(got.String(), *want.Float) {
			return nil
		}
	case string:
		if want.Text != nil && *want.Text == base64.StdEncoding.EncodeToString([]byte(got)) {
			return nil
		}
		if want.Time != nil && *want.Time == got {
			return nil
		}
	case []any:
		if want.List == nil || len(*want.List) != len(got) {
			break
		}
		for i := range got {
			if err := sameJSON(got[i], (*want.List)[i]); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if want.Map == nil || len(*want.Map) != len(got) {
			break
		}
		for _, entry := range *want.Map {
			found, ok := got[entry.Key]
			if !ok {
				return fmt.Errorf("key %q is not there", entry.Key)
			}
			if err := sameJSON(found, entry.Value); err != nil {
				return fmt.Errorf("%q: %w", entry.Key, err)
			}
		}
		return nil
	}
	return fmt.Errorf("Kubernetes reads %#v", got)
}

func sameFloat(got, want string) bool {
	a, errA := strconv.ParseFloat(got, 64)
	b, errB := strconv.ParseFloat(want, 64)
	return errA == nil && errB == nil && math.Float64bits(a) == math.Float64bits(b)
}

func readDocuments(text []byte, want []value) error {
	decoder := yamlv3.NewDecoder(bytes.NewReader(text))
	for i := range want {
		var node yamlv3.Node
		if err := decoder.Decode(&node); err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
		if err := sameNode(node.Content[0], want[i]); err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	var more yamlv3.Node
	if err := decoder.Decode(&more); err != io.EOF {
		return fmt.Errorf("more than %d documents", len(want))
	}
	return nil
}

func sameNode(node *yamlv3.Node, want value) error {
	switch node.Kind {
	case yamlv3.MappingNode:
		if want.Map == nil || 2*len(*want.Map) != len(node.Content) {
			break
		}
		for i, entry := range *want.Map {
			var key any
			if err := node.Content[2*i].Decode(&key); err != nil || key != entry.Key {
				return fmt.Errorf("key %q reads %#v", entry.Key, key)
			}
			if err := sameNode(node.Content[2*i+1], entry.Value); err != nil {
				return fmt.Errorf("%q: %w", entry.Key, err)
			}
		}
		return nil
	case yamlv3.SequenceNode:
		if want.List == nil || len(*want.List) != len(node.Content) {
			break
		}
		for i := range node.Content {
			if err := sameNode(node.Content[i], (*want.List)[i]); err != nil {
				return err
			}
		}
		return nil
	case yamlv3.ScalarNode:
		var got any
		if err := node.Decode(&got); err != nil {
			return err
		}
		same := false
		switch got := got.(type) {
		case nil:
			same = want.Null
		case bool:
			same = want.Bool != nil && *want.Bool == got
		case int:
			same = want.Int != nil && *want.Int == strconv.Itoa(got)
		case uint64:
			same = want.Int != nil && *want.Int == strconv.FormatUint(got, 10)
		case float64:
			same = want.Float != nil && (sameFloat(strconv.FormatFloat(got, 'g', -1, 64), *want.Float) ||
				(math.IsNaN(got) && *want.Float == "NaN"))
		case time.Time:
			text, err := got.MarshalText()
			same = want.Time != nil && err == nil && *want.Time == string(text)
		case string:
			same = want.Text != nil && *want.Text == base64.StdEncoding.EncodeToString([]byte(got))
		}
		if same {
			return nil
		}
		return fmt.Errorf("SOPS reads %#v", got)
	}
	return fmt.Errorf("SOPS reads another structure")
}
