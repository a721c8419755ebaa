// Command kustomize-vectors asks kustomize, as kustomize-controller runs it, what it builds.
//
//	go run . builds FOLDER...        for each case of plugin/core/tests/reach: writes its built.tsv
//	go run . generators FOLDER...    for each case of plugin/core/tests/generators: writes its built.json and stubs.json
//	go run . hashes SEED COUNT       Secrets with random values, and the name that a secretGenerator gives them
//
// A case: `tree/` is the repository, `flux.yaml` the spec of the Flux Kustomization, `clear/` what
// kustomize-controller writes over the tree when it decrypts the inputs of generators and patches in place. A line of
// built.tsv is an object: the file (of a generated one the kustomization), kind, namespace, name, and whether it is
// `encrypted`, `clear` or `generated`. Where kustomize refuses, the file is one line that begins with `error`.
//
// The versions are those of kustomize-controller 1.9.6.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	flux "github.com/fluxcd/pkg/kustomize"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "builds":
		for _, folder := range os.Args[2:] {
			check(os.WriteFile(filepath.Join(folder, "built.tsv"), []byte(built(folder)), 0o644))
		}
	case len(os.Args) > 2 && os.Args[1] == "generators":
		for _, folder := range os.Args[2:] {
			generators(folder)
		}
	case len(os.Args) == 4 && os.Args[1] == "hashes":
		seed, err := strconv.ParseInt(os.Args[2], 10, 64)
		check(err)
		count, err := strconv.Atoi(os.Args[3])
		check(err)
		hashes(rand.New(rand.NewSource(seed)), count)
	default:
		fmt.Fprintln(os.Stderr, "usage: kustomize-vectors builds FOLDER... | generators FOLDER... | hashes SEED COUNT")
		os.Exit(2)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "kustomize-vectors:", err)
		os.Exit(1)
	}
}

func built(folder string) string {
	work := workplace()
	defer os.RemoveAll(work)
	check(os.CopyFS(work, os.DirFS(filepath.Join(folder, "tree"))))
	overwrite(filepath.Join(folder, "clear"), work)
	// Tells where an object came from, and changes nothing else.
	path, result, err := build(folder, work, map[string]any{"buildMetadata": []any{"originAnnotations"}})
	if err != nil {
		return refusal(work, err)
	}
	return lines(path, result)
}

func workplace() string {
	work, err := os.MkdirTemp("", "vectors")
	check(err)
	work, err = filepath.EvalSymlinks(work)
	check(err)
	return work
}

// build has kustomize build a tree as the Flux Kustomization of the case says, and more.
func build(folder, work string, spec map[string]any) (string, resmap.ResMap, error) {
	if text, err := os.ReadFile(filepath.Join(folder, "flux.yaml")); err == nil {
		own := map[string]any{}
		check(yaml.Unmarshal(text, &own))
		maps.Copy(spec, own)
	}
	path, _ := spec["path"].(string)
	object := unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	top := filepath.Join(work, path)
	if _, err := flux.NewGenerator(work, object).WriteFile(top); err != nil {
		return path, nil, err
	}
	result, err := flux.SecureBuild(work, top, false)
	return path, result, err
}

// hashed is the end of a generated name: hexadecimal digits, some of them as other letters.
var hashed = regexp.MustCompile(`-[2456789bcdfghkmt]{10}$`)

// generators writes what kustomize makes of a tree with its inputs in clear text, puts the ends of generated names into
// the files that regent has instead, and writes what kustomize makes with these.
func generators(folder string) {
	work := workplace()
	defer os.RemoveAll(work)
	check(os.CopyFS(work, os.DirFS(filepath.Join(folder, "tree"))))
	overwrite(filepath.Join(folder, "clear"), work)
	_, result, err := build(folder, work, map[string]any{})
	check(err)
	check(os.WriteFile(filepath.Join(folder, "built.json"), objects(result), 0o644))

	var ends []string
	for _, object := range result.Resources() {
		if end := hashed.FindString(object.GetName()); object.GetKind() == "Secret" && end != "" {
			ends = append(ends, "@"+strings.TrimSuffix(object.GetName(), end)+"@", end)
		}
	}
	replacer := strings.NewReplacer(ends...)
	instead := filepath.Join(folder, "artifact")
	check(filepath.WalkDir(instead, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		check(err)
		return os.WriteFile(path, []byte(replacer.Replace(string(text))), 0o644)
	}))

	after := workplace()
	defer os.RemoveAll(after)
	check(os.CopyFS(after, os.DirFS(filepath.Join(folder, "tree"))))
	// The inputs are not in the artifact.
	check(filepath.WalkDir(filepath.Join(folder, "clear"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(filepath.Join(folder, "clear"), path)
		check(err)
		return os.Remove(filepath.Join(after, name))
	}))
	overwrite(instead, after)
	_, result, err = build(folder, after, map[string]any{})
	check(err)
	check(os.WriteFile(filepath.Join(folder, "stubs.json"), objects(result), 0o644))
}

// objects is a JSON list of all that was built, sorted.
func objects(result resmap.ResMap) []byte {
	var all []string
	for _, object := range result.Resources() {
		text, err := object.MarshalJSON()
		check(err)
		all = append(all, string(text))
	}
	sort.Strings(all)
	return []byte("[" + strings.Join(all, ",\n") + "]\n")
}

// overwrite puts the files of a folder over those of another.
func overwrite(from, to string) {
	if _, err := os.Stat(from); err != nil {
		return
	}
	check(filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		check(err)
		text, err := os.ReadFile(path)
		check(err)
		check(os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700))
		return os.WriteFile(filepath.Join(to, name), text, 0o600)
	}))
}

func refusal(work string, err error) string {
	text, _, _ := strings.Cut(strings.ReplaceAll(err.Error(), work, ""), "\n")
	// What a network says differs from machine to machine.
	text, _, _ = strings.Cut(text, ": dial ")
	return "error: " + text + "\n"
}

func lines(path string, result resmap.ResMap) string {
	var lines []string
	for _, object := range result.Resources() {
		file, how := origin(path, object)
		namespace := object.GetNamespace()
		if namespace == "" {
			namespace = "-"
		}
		line := []string{file, object.GetKind(), namespace, object.GetName(), how}
		lines = append(lines, strings.Join(line, "\t"))
	}
	sort.Strings(lines)
	return strings.Join(append(lines, ""), "\n")
}

// origin is the file an object came from, seen from the root of the repository.
func origin(path string, object *resource.Resource) (file, how string) {
	var origin struct{ Path, ConfiguredIn string }
	check(yaml.Unmarshal([]byte(object.GetAnnotations()["config.kubernetes.io/origin"]), &origin))
	how = "clear"
	// SOPS puts its block into every document of a file, also into those with no encrypted value.
	own := object.DeepCopy()
	check(own.PipeE(kyaml.Clear("sops")))
	if strings.Contains(own.MustString(), "ENC[AES256_GCM,") {
		how = "encrypted"
	}
	if origin.ConfiguredIn != "" {
		return filepath.Join(path, origin.ConfiguredIn), "generated"
	}
	return filepath.Join(path, origin.Path), how
}

// hashes prints a JSON list a line: the type, the data (base64), the ten characters.
func hashes(random *rand.Rand, count int) {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	types := []string{"", "Opaque", "kubernetes.io/tls", "example.com/<a&b>", "é\u2028"}
	for range count {
		data := map[string][]byte{}
		for range random.Intn(4) {
			value := make([]byte, random.Intn([]int{2, 60, 500}[random.Intn(3)]))
			random.Read(value)
			data[key(random)] = value
		}
		kind := types[random.Intn(len(types))]
		encoded := map[string]string{}
		for key, value := range data {
			encoded[key] = base64.StdEncoding.EncodeToString(value)
		}
		check(out.Encode([]any{kind, encoded, hash(kind, data)}))
	}
}

func key(random *rand.Rand) string {
	const letters = "abcXYZ019-_."
	key := make([]byte, 1+random.Intn(12))
	for index := range key {
		key[index] = letters[random.Intn(len(letters))]
	}
	// A key that begins with `..` is none.
	return "k" + string(key)
}

func hash(kind string, data map[string][]byte) string {
	memory := filesys.MakeFsInMemory()
	var files []string
	for key, value := range data {
		file := fmt.Sprintf("f%d", len(files))
		check(memory.WriteFile(file, value))
		files = append(files, key+"="+file)
	}
	generator := map[string]any{"name": "n", "files": files}
	if kind != "" {
		generator["type"] = kind
	}
	text, err := yaml.Marshal(map[string]any{"secretGenerator": []any{generator}})
	check(err)
	check(memory.WriteFile("kustomization.yaml", text))
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, ".")
	check(err)
	name := []byte(result.Resources()[0].GetName())
	return string(bytes.TrimPrefix(name, []byte("n-")))
}
