// Command regex-vectors asks Go's regexp package what it does, for the tests of go_regex.rs.
//
//	go run . patterns SEED COUNT   random patterns: which are errors, and which texts the others match
//	go run . classes               every named class, also folded: size and hash of its members
//
// A line of `patterns` is a JSON list: the pattern, then texts, each with `1` (it matches) or `0` in
// front; a pattern alone is an error in Go. A line of `classes` is a JSON list of pattern, number of
// members and FNV-1a hash of their ranges (`61-7a,`; surrogates do not interrupt a range).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	switch {
	case len(os.Args) == 4 && os.Args[1] == "patterns":
		seed, err := strconv.ParseInt(os.Args[2], 10, 64)
		check(err)
		count, err := strconv.Atoi(os.Args[3])
		check(err)
		patterns(out, rand.New(rand.NewSource(seed)), count)
	case len(os.Args) == 2 && os.Args[1] == "classes":
		classes(out)
	default:
		fmt.Fprintln(os.Stderr, "usage: regex-vectors patterns SEED COUNT | classes")
		os.Exit(2)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func line(out *bufio.Writer, values any) {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	check(encoder.Encode(values))
}

func patterns(out *bufio.Writer, r *rand.Rand, count int) {
	seen := map[string]bool{}
	emit := func(pattern string) {
		if seen[pattern] || !utf8.ValidString(pattern) {
			return
		}
		seen[pattern] = true
		vector := []string{pattern}
		if expression, err := regexp.Compile(pattern); err == nil {
			for _, text := range texts(r, pattern) {
				if expression.MatchString(text) {
					vector = append(vector, "1"+text)
				} else {
					vector = append(vector, "0"+text)
				}
			}
		}
		line(out, vector)
	}
	for _, pattern := range fixed {
		emit(pattern)
	}
	for len(seen) < count {
		var pattern string
		switch r.Intn(4) {
		case 0:
			pattern = soup(r)
		case 1:
			pattern = damage(r, alternation(r, 3))
		default:
			pattern = alternation(r, 3)
		}
		emit(pattern)
	}
}

// What every table of differences names, once each.
var fixed = []string{
	``, `(`, `)`, `a|`, `|a`, `()`, `(|)`, `a||b`, `^$`, `^*`, `$*`, `\b+`, `(?:^a)*`, `*`, `+a`, `?`, `|*`, `(*)`, `a**`,
	`a*+`, `a+?`, `a+??`, `a*?*`, `a{2}{3}`, `a{2}*`, `a*{2}`, `x{`, `x{}`, `x{,2}`, `x{2`, `x{2,`, `x{2,}`, `x{02}`, `x{2,1}`,
	`x{1000}`, `x{1001}`, `x{0,1001}`, `x{1000,}`, `x{99999999999}`, `x{2}{`, `x{a}`, `{2}`, `{`, `}`, `]`, `a]`, `a{1}{`,
	`(a{1000}){1}`, `(a{500}){2}`, `(a{501}){2}`, `((a{10}){10}){10}`, `((a{10}){10}){11}`, `(a{600})*`, `((a{600})*){2}`,
	`(((a{1000}){1000}){1000})`, `(a{1000}){0}`, `((a{1000}){0}){1000}`, `(a{2}|b{400}){3}`, `(a{0,}){1000}`, `(a{2,}){501}`,
	`[`, `[]`, `[^]`, `[]]`, `[^]]`, `[]a]`, `[a`, `[a-`, `[a-]`, `[-a]`, `[--a]`, `[a--]`, `[b-a]`, `[a-a]`, `[\]]`, `[\-a]`,
	`[a&&b]`, `[a--b]`, `[a~~b]`, `[[a]`, `[[a]]`, `[a[b]`, `[[:alpha:]]`, `[[:^alpha:]]`, `[^[:^alpha:]]`, `[[:word:]]`,
	`[[:nope:]]`, `[[:alpha]]`, `[:alpha:]`, `[[:alpha:]`, `[[:`, `[[:]`, `[[.a.]]`, `[\d]`, `[\D]`, `[^\D]`, `[\d-z]`,
	`[a-\d]`, `[\pL]`, `[\PL]`, `[^\PL]`, `[\p{Greek}x]`, `[\b]`, `[\Qa\E]`, `[\z]`, `[\x41-\x43]`, `[\101-\103]`, `[.]`, `[$^]`,
	`[^a]`, `[^\n]`, `[^\x00-\x{10FFFF}]`, `(?i)[^k]`, `(?i)[k]`, `(?i)k`, `(?i)ſ`, `(?i)s`, `(?i)K`, `(?i)ß`, `(?i)σ`, `(?i)ǆ`,
	`(?i)[α-ω]`, `(?i)\w`, `(?i)\W`, `(?i)[\W]`, `(?i)[[:lower:]]`, `(?i)[[:^lower:]]`, `(?i)\p{Lu}`, `(?i)\P{Lu}`, `(?i)[^\P{Lu}]`,
	`\d`, `\D`, `\s`, `\S`, `\w`, `\W`, `^\s$`, `^[[:space:]]$`, `\bé`, `é\b`, `\Bé`, `\B`, `\b`, `^\B$`, `\bdata\b`, `\b{start}`, `\b{`,
	`\<`, `\>`, `\<a\>`, `\_`, `\-`, `\é`, `\ `, `\"`, `\a\f\t\n\r\v`, `\e`, `\q`, `\E`, `\G`, `\Z`, `\A`, `\z`, `a\z`, `\Aa`, `\C`,
	`\R`, `\h`, `\K`, `\X`, `\u0041`, `\U`, `\N`, `\cA`, `\`, `a\`, `\0`, `\00`, `\101`, `\1011`, `\1`, `\8`, `\12`, `\19`, `\400`, `\777`,
	`\x`, `\x4`, `\x41`, `\x4g`, `\x{41}`, `\x{}`, `\x{110000}`, `\x{10FFFF}`, `\x{41`, `\x{ 41}`, `\x{00000041}`, `\x7F`,
	`\Qa.b\E`, `\Qa.b`, `\Q\E`, `\Qab\E+`, `a\Q\E*`, `a*\Q\E*`, `\Q\\E`, `\Q\E\E`, `\QQ\Q\E`, `\Q`,
	`\pL`, `\PL`, `\pN`, `\p{L}`, `\p{^L}`, `\P{^L}`, `\p{^^L}`, `\p{}`, `\p{^}`, `\p`, `\p{`, `\p{L`, `\pé`, `\p^L`, `\p{Greek}`,
	`\p{greek}`, `\p{ GREEK }`, `\p{Letter}`, `\p{Old_Italic}`, `\p{L&}`, `\p{LC}`, `\p{Lc}`, `\p{Any}`, `\P{Any}`, `\p{Assigned}`, `\p{ascii}`,
	`\p{Cn}`, `\p{Cs}`, `\p{gc=L}`, `\p{Script=Greek}`, `\p{Alphabetic}`, `\p{IsGreek}`, `\pLu`, `\p{Lu}{2}`,
	`(?i)a`, `(?i)A(?-i)b`, `(?i:a)b`, `(a(?i)b)c`, `(?i)a|b`, `a|(?i)b|c`, `(?s).`, `.`, `(?s-s:.)`, `(?m)^a$`, `(?m)a$`, `(?m)$`, `(?m)^b`, `^b`,
	`(?U)a+`, `(?U)a+?`, `(?x)a`, `(?u)a`, `(?R)a`, `(?n)a`, `(?ii)a`, `(?i-i)a`, `(?-i-s)a`, `(?--i)a`, `(?-)a`, `(?i-)a`, `(?)a`, `(?:)`, `(?:a`,
	`(?`, `(?i`, `(?i:`, `(?-:a)`, `(?i)*`, `a(?i)*`, `a*(?i)*`, `(?i)(?s)`, `(?imsU)a`, `(?imsU-imsU:a)`, `(?^i)a`, `(?i )a`,
	`(?P<n>a)`, `(?<n>a)`, `(?P<n>a)(?P<n>b)`, `(?P<>a)`, `(?P<n`, `(?P<n>`, `(?P<n-x>a)`, `(?P<1>a)`, `(?P<é>a)`, `(?P=n)`, `(?P>n)`, `(?'n'a)`,
	`(?<`, `(?P<`, `(?<n`, `(?=a)`, `(?!a)`, `(?<=a)`, `(?<!a)`, `(?>a)`, `(?|a)`, `(?#a)`, `(?1)`, `(?&n)`, `(a)\1`, `a++`, `a?+`, `(?:a)++`,
	`^(data|stringData)$`, `^enc:`, `_unencrypted$`, `(?i)password|secret`, `^.*[Kk]ey$`, `^(?:[^.]+\.)?token$`, `a.b`, "a\nb", `a b`,
}

var (
	literals = []string{"a", "b", "k", "K", "s", "S", "ſ", "K", "é", "É", "ß", "ẞ", "σ", "ς", "Σ", "ǅ", "ı", "0", "7", "_", "-", ":", ",", " ", "\n",
		"\v", "\t", "!", "~", "&", "]", "}", "{", "/", "<", "語", "😀", "\u0301", "\u0085", "\u00a0", "\u2028", "data", "x"}
	escapes = []string{`\d`, `\D`, `\s`, `\S`, `\w`, `\W`, `\pL`, `\PL`, `\p{Greek}`, `\P{Greek}`, `\p{^Lu}`, `\pN`, `\pZ`, `\p{Ll}`, `\p{letter}`,
		`\p{Han}`, `\x41`, `\x{e9}`, `\x{1F600}`, `\101`, `\0`, `\n`, `\v`, `\.`, `\\`, `\[`, `\-`, `\]`, `\<`, `\{`, `\_`}
	anchors = []string{"^", "$", `\b`, `\B`, `\A`, `\z`}
	posix   = []string{"alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit"}
	flags   = []string{"i", "s", "m", "U", "is", "im", "-i", "i-s", "s-im", "ms-i", ""}
	pieces  = []string{"(", ")", "(?", "(?i", "(?P<n>", "(?<m>", "[", "[^", "]", "[:alpha:]", "[:", ":]", "{", "}", "{2}", "{1,3}", "{,2}", "{2,}", "{0}",
		"*", "+", "?", "|", "^", "$", ".", "-", "&&", "--", `\Q`, `\E`, `\`, `\x`, `\x{`, `\p`, `\p{`, "L}", "Greek}", "^", `\1`, `\12`, ":", "<", ">", "!", "="}
)

func pick(r *rand.Rand, from []string) string { return from[r.Intn(len(from))] }

func alternation(r *rand.Rand, depth int) string {
	branches := make([]string, 1+r.Intn(3)*r.Intn(2))
	for i := range branches {
		for range r.Intn(4) {
			branches[i] += repetition(r, depth)
		}
	}
	return strings.Join(branches, "|")
}

func repetition(r *rand.Rand, depth int) string {
	item := atom(r, depth)
	if r.Intn(3) > 0 {
		return item
	}
	repeat := pick(r, []string{"*", "+", "?", "{2}", "{0,2}", "{1,}", "{3,4}", "{0}", "{0,0}", "{1}", "{,3}", "{ 2}", "{x}", "{"})
	if r.Intn(4) == 0 {
		repeat += "?"
	}
	return item + repeat
}

func atom(r *rand.Rand, depth int) string {
	switch r.Intn(10) {
	case 0:
		return pick(r, escapes)
	case 1:
		return pick(r, anchors)
	case 2:
		return "."
	case 3, 4:
		return bracket(r)
	case 5:
		if depth > 0 {
			opening := pick(r, []string{"(", "(?:", "(?P<n>", "(?<x_1>", "(?" + pick(r, flags) + ":", "(?" + pick(r, flags) + ")("})
			return opening + alternation(r, depth-1) + ")"
		}
	case 6:
		if r.Intn(2) == 0 {
			return "(?" + pick(r, flags) + ")"
		}
		return `\Q` + pick(r, literals) + pick(r, pieces) + `\E`
	}
	literal := pick(r, literals)
	if r.Intn(3) > 0 {
		literal = regexp.QuoteMeta(literal)
	}
	return literal
}

func bracket(r *rand.Rand) string {
	class := pick(r, []string{"[", "[", "[^", "[]", "[^]", "[-"})
	for range 1 + r.Intn(3) {
		switch r.Intn(7) {
		case 0:
			class += pick(r, escapes)
		case 1:
			class += "[:" + pick(r, []string{"", "^"}) + pick(r, posix) + ":]"
		case 2:
			class += pick(r, []string{"a-z", "A-Z", "0-9", "a-k", "α-ω", "à-þ", `\x00-\x1f`, `\x{2000}-\x{2028}`, "z-a", "!--", "+--", "一-龠"})
		case 3:
			class += pick(r, []string{"&&", "--", "~~", "[", "-", "^", ".", "$", "[a"})
		default:
			literal := pick(r, literals)
			if literal == "]" {
				literal = `\]`
			}
			class += literal
		}
	}
	return class + "]"
}

func soup(r *rand.Rand) string {
	var pattern string
	for range 1 + r.Intn(7) {
		switch r.Intn(3) {
		case 0:
			pattern += pick(r, literals)
		case 1:
			pattern += pick(r, escapes)
		default:
			pattern += pick(r, pieces)
		}
	}
	return pattern
}

func damage(r *rand.Rand, pattern string) string {
	runes := []rune(pattern)
	if len(runes) == 0 {
		return pick(r, pieces)
	}
	at := r.Intn(len(runes))
	switch r.Intn(3) {
	case 0:
		return string(slices.Delete(runes, at, at+1))
	case 1:
		return string(slices.Insert(runes, at, []rune(pick(r, pieces))...))
	default:
		return string(runes[:at])
	}
}

// texts are made from the pattern's own tree, then changed, so that about half of them match.
func texts(r *rand.Rand, pattern string) []string {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	check(err)
	set := map[string]bool{"": true}
	for range 4 {
		text := sample(r, tree)
		switch r.Intn(3) {
		case 0:
			text = pick(r, literals) + text + pick(r, literals)
		case 1:
			text = swap(r, text)
		}
		if utf8.ValidString(text) && len(text) < 60 {
			set[text] = true
		}
	}
	set[pick(r, literals)+pick(r, literals)] = true
	var list []string
	for text := range set {
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

func swap(r *rand.Rand, text string) string {
	runes := []rune(text)
	if len(runes) == 0 {
		return pick(r, literals)
	}
	at := r.Intn(len(runes))
	if r.Intn(2) == 0 {
		runes[at] = unicode.SimpleFold(runes[at])
		return string(runes)
	}
	return string(slices.Replace(runes, at, at+1, []rune(pick(r, literals))...))
}

func sample(r *rand.Rand, tree *syntax.Regexp) string {
	var text string
	switch tree.Op {
	case syntax.OpLiteral:
		for _, character := range tree.Rune {
			if tree.Flags&syntax.FoldCase != 0 && r.Intn(2) == 0 {
				character = unicode.SimpleFold(character)
			}
			text += string(character)
		}
	case syntax.OpCharClass:
		if len(tree.Rune) > 0 {
			at := 2 * r.Intn(len(tree.Rune)/2)
			low, high := tree.Rune[at], tree.Rune[at+1]
			text = string(low + r.Int31n(min(high-low, 200)+1))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		text = pick(r, literals)
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range tree.Sub {
			text += sample(r, sub)
		}
	case syntax.OpAlternate:
		text = sample(r, tree.Sub[r.Intn(len(tree.Sub))])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		low, high := tree.Min, tree.Max
		switch tree.Op {
		case syntax.OpStar:
			low, high = 0, 2
		case syntax.OpPlus:
			low, high = 1, 3
		case syntax.OpQuest:
			low, high = 0, 1
		}
		if high < low {
			high = low + 1
		}
		count := low + r.Intn(high-low+1)
		for range min(count, 60) {
			text += sample(r, tree.Sub[0])
			if len(text) > 80 {
				break
			}
		}
	case syntax.OpWordBoundary, syntax.OpNoWordBoundary, syntax.OpEndLine, syntax.OpBeginLine:
		if r.Intn(3) == 0 {
			text = pick(r, []string{" ", "\n", "a"})
		}
	}
	return text
}

func classes(out *bufio.Writer) {
	var names []string
	for name := range unicode.Categories {
		names = append(names, name)
	}
	for name := range unicode.CategoryAliases {
		names = append(names, name)
	}
	for name := range unicode.Scripts {
		names = append(names, name)
	}
	names = append(names, "Any", "ASCII", "Assigned")
	slices.Sort(names)
	var list []string
	for _, name := range names {
		list = append(list, `\p{`+name+`}`, `(?i)\p{`+name+`}`, `(?i)\P{`+name+`}`)
	}
	for _, letter := range "dDsSwW" {
		list = append(list, `\`+string(letter), `(?i)\`+string(letter))
	}
	for _, name := range posix {
		list = append(list, `[[:`+name+`:]]`, `[[:^`+name+`:]]`, `(?i)[[:`+name+`:]]`, `(?i)[[:^`+name+`:]]`)
	}
	list = append(list, `.`, `(?s).`)
	for _, pattern := range list {
		expression, err := regexp.Compile(`^(?:` + pattern + `)$`)
		if err != nil {
			line(out, []any{pattern})
			continue
		}
		count, hash := 0, fnv.New64a()
		first, last := rune(-1), rune(-1)
		for character := rune(0); character <= unicode.MaxRune+1; character++ {
			if character == 0xd800 {
				character = 0xe000
			}
			member := character <= unicode.MaxRune && expression.MatchString(string(character))
			if member {
				count++
				last = character
				if first < 0 {
					first = character
				}
			} else if first >= 0 {
				fmt.Fprintf(hash, "%x-%x,", first, last)
				first = -1
			}
		}
		line(out, []any{pattern, count, fmt.Sprintf("%016x", hash.Sum64())})
	}
	// Each letter alone, folded: the members are hashed together.
	count, hash := 0, fnv.New64a()
	for character := rune(0); character <= unicode.MaxRune; character++ {
		var partners []rune
		for other := unicode.SimpleFold(character); other != character; other = unicode.SimpleFold(other) {
			partners = append(partners, other)
		}
		slices.Sort(partners)
		for _, other := range partners {
			count++
			hash.Write([]byte(string(character) + string(other)))
		}
	}
	line(out, []any{"folds", count, fmt.Sprintf("%016x", hash.Sum64())})
}
