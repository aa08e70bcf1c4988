package pipeline_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// base has all kinds of keys. Those who use it are in a folder of their own.
const base = `name: base
memory: {host: {limit: 60%}, gpu: {headroom: 512MiB, when_busy: share}, strategy: adaptive}
limits: {pixels: 1000000, file_bytes: 1GiB}
on_error: quarantine
max_failed: 5%
source:
  images: {path: photos, recursive: true, sidecars: [.txt]}
` + baseStages

const baseStages = `stages:
  - tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}
  - score: {metrics: [laplacian, blockiness]}
  - id: keep
    workers: 2
    batch: 4
    device: host
    on_error: stop
    filter: {keep: "laplacian >= 4"}
  - dedup: {by: [sha256, {pdq: {max_distance: 20}}], prefer: [pixels, -source.bytes]}
  - write: {path: out, format: png, level: 1, overwrite: false}
  - manifest: {path: out/manifest.jsonl, vectors: false}
`

// changed is base with one part replaced.
func changed(t *testing.T, from, to string) string {
	t.Helper()
	if strings.Count(base, from) != 1 {
		t.Fatalf("%q stands %d times in the base", from, strings.Count(base, from))
	}
	return strings.Replace(base, from, to, 1)
}

func inFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("photos", 0o777); err != nil {
		t.Fatal(err)
	}
}

// What the schema refuses is wrong, and the loader says so too.
func TestSchemaRefuses(t *testing.T) {
	v, o := schemaOf(t, standard.Registry(), nil), pipeline.Options{Registry: standard.Registry()}
	inFolder(t)
	if err := errors.Join(load(t, base, o), v.accepts(t, base)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, from, to string }{
		{"unknown key", "name: base", "nam: base"},
		{"name is a list", "name: base", "name: [base]"},
		{"name is empty", "name: base", "name:"},
		{"memory is a list", "memory: {host: {limit: 60%}, gpu: {headroom: 512MiB, when_busy: share}, strategy: adaptive}", "memory: [60%]"},
		{"unknown key of memory", "strategy: adaptive", "tactics: adaptive"},
		{"unknown key of host", "{limit: 60%}", "{limit: 60%, reserve: 1GiB}"},
		{"unknown key of gpu", "headroom:", "headrom:"},
		{"share above 100%", "60%", "160%"},
		{"limit without a unit", "60%", "400"},
		{"limit with a wrong unit", "60%", "40X"},
		{"limit is a bool", "60%", "true"},
		{"limit is below zero", "60%", "-5GiB"},
		{"headroom without a unit", "512MiB", "512"},
		{"headroom with a wrong unit", "512MiB", "512MX"},
		{"headroom is a list", "512MiB", "[512MiB]"},
		{"headroom is a share", "512MiB", "10%"},
		{"unknown word of when_busy", "when_busy: share", "when_busy: sometimes"},
		{"unknown strategy", "strategy: adaptive", "strategy: adaptiv"},
		{"strategy is a list", "strategy: adaptive", "strategy: [adaptive]"},
		{"no pixels", "pixels: 1000000", "pixels: 0"},
		{"too many pixels", "pixels: 1000000", "pixels: 2000000000000"},
		{"pixels in words", "pixels: 1000000", "pixels: many"},
		{"a fraction of pixels", "pixels: 1000000", "pixels: 1.5"},
		{"file_bytes without a unit", "1GiB", "1000"},
		{"limits is a number", "limits: {pixels: 1000000, file_bytes: 1GiB}", "limits: 5"},
		{"unknown key of limits", "file_bytes:", "bytes:"},
		{"unknown word of on_error", "on_error: quarantine", "on_error: explode"},
		{"max_failed in words", "max_failed: 5%", "max_failed: some"},
		{"max_failed is 0", "max_failed: 5%", "max_failed: 0"},
		{"max_failed is below 0", "max_failed: 5%", "max_failed: -5"},
		{"max_failed above 100%", "max_failed: 5%", "max_failed: 150%"},
		{"no source", "source:\n  images: {path: photos, recursive: true, sidecars: [.txt]}\n", ""},
		{"source without a value", "source:\n  images: {path: photos, recursive: true, sidecars: [.txt]}\n", "source:\n"},
		{"source is a word", "source:\n  images: {path: photos, recursive: true, sidecars: [.txt]}\n", "source: photos\n"},
		{"source is a list", "  images: {path: photos", "  - images: {path: photos"},
		{"unknown source", "images:", "image:"},
		{"a stage as a source", "images: {path: photos, recursive: true, sidecars: [.txt]}", "tile: {size: 512}"},
		{"two sources", "sidecars: [.txt]}", "sidecars: [.txt]}\n  pairs: {hq: a, lq: b, scale: 2}"},
		{"a source without a name", "images: {path: photos, recursive: true, sidecars: [.txt]}", "id: x"},
		{"unknown field of a source", "recursive:", "recurse:"},
		{"recursive in words", "recursive: true", "recursive: perhaps"},
		{"recursive is yes", "recursive: true", "recursive: yes"},
		{"recursive is a number", "recursive: true", "recursive: 1"},
		{"sidecars is a mapping", "sidecars: [.txt]", "sidecars: {txt: 1}"},
		{"sidecars is a list of lists", "sidecars: [.txt]", "sidecars: [[.txt]]"},
		{"an extension is nothing", "sidecars: [.txt]", "sidecars: [.txt, ~]"},
		{"no stages", baseStages, ""},
		{"stages is empty", baseStages, "stages: []\n"},
		{"stages has no value", baseStages, "stages:\n"},
		{"stages is a mapping", baseStages, "stages: {tile: {size: 512}}\n"},
		{"a stage is a word", "- tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "- tile"},
		{"a stage is nothing", "- tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "-"},
		{"unknown stage", "- tile:", "- tiles:"},
		{"a source as a stage", "- tile: {size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "- images: {path: photos}"},
		{"two stages in one entry", "threshold: 4.5}", "threshold: 4.5}\n    hash: {by: pdq}"},
		{"an entry without a stage", "    filter: {keep: \"laplacian >= 4\"}\n", ""},
		{"unknown field", "{size: 512", "{sise: 512, size: 512"},
		{"a required field is missing", "{size: 512, ", "{"},
		{"fields are missing", "{size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", ""},
		{"fields are a number", "{size: 512, pick: best, by: laplacian, count: 4, threshold: 4.5}", "512"},
		{"fields are a list", "{metrics: [laplacian, blockiness]}", "[laplacian]"},
		{"below the range", "size: 512", "size: 8"},
		{"above the range", "size: 512", "size: 100000"},
		{"a whole number in words", "size: 512", "size: large"},
		{"a whole number with a unit", "size: 512", "size: 512px"},
		{"a whole number with a fraction", "size: 512", "size: 512.5"},
		{"a whole number in quotes with a fraction", "size: 512", `size: "512.5"`},
		{"a whole number is a list", "size: 512", "size: [512]"},
		{"a whole number is a mapping", "size: 512", "size: {px: 512}"},
		{"a whole number is nothing", "size: 512", "size: "},
		{"a whole number is true", "size: 512", "size: true"},
		{"unknown word", "pick: best", "pick: bset"},
		{"a word is a number", "pick: best", "pick: 5"},
		{"a word is a list", "pick: best", "pick: [best]"},
		{"a word in capitals", "pick: best", "pick: Best"},
		{"a number below its range", "threshold: 4.5", "threshold: -1"},
		{"a number in words", "threshold: 4.5", "threshold: much"},
		{"none of a count from 1 on", "count: 4", "count: 0"},
		{"unknown word in a list", "blockiness]", "blokiness]"},
		{"a list of words is a mapping", "[laplacian, blockiness]", "{laplacian: 1}"},
		{"an id with a space", "id: keep", `id: "b c"`},
		{"the source's id", "id: keep", "id: source"},
		{"an empty id", "id: keep", `id: ""`},
		{"an id is a list", "id: keep", "id: [keep]"},
		{"no workers", "workers: 2", "workers: 0"},
		{"too many workers", "workers: 2", "workers: 2000"},
		{"workers in words", "workers: 2", "workers: many"},
		{"half a worker", "workers: 2", "workers: 1.5"},
		{"too large a batch", "batch: 4", "batch: 2000000"},
		{"batch in words", "batch: 4", "batch: many"},
		{"unknown device", "device: host", "device: tpu"},
		{"a device that is no number", "device: host", "device: gpu:x"},
		{"a device with a zero before it", "device: host", "device: gpu:01"},
		{"a device is a number", "device: host", "device: 0"},
		{"unknown word of a stage's on_error", "on_error: stop", "on_error: ignore"},
		{"a condition that is empty", `"laplacian >= 4"`, `""`},
		{"a condition that is blank", `"laplacian >= 4"`, `"  "`},
		{"a condition that is a list", `"laplacian >= 4"`, "[a, b]"},
		{"unknown method", "[sha256, {pdq: {max_distance: 20}}]", "md5"},
		{"unknown method in a list", "[sha256,", "[md5,"},
		{"unknown method with options", "{pdq: {", "{pdqq: {"},
		{"unknown option", "max_distance:", "distance:"},
		{"an option above its range", "max_distance: 20", "max_distance: 500"},
		{"options are a number", "{max_distance: 20}", "20"},
		{"an option of a method that has none", "[sha256,", "[{sha256: {max_distance: 3}},"},
		{"two methods in one element", "{pdq: {max_distance: 20}}", "{pdq: {max_distance: 20}, phash: {}}"},
		{"an element without a method", "{pdq: {max_distance: 20}}", "{}"},
		{"a method is a list", "[sha256,", "[[sha256],"},
		{"a method is nothing", "[sha256,", "[null,"},
		{"methods are missing", "by: [sha256, {pdq: {max_distance: 20}}], ", ""},
		{"rules are a mapping", "[pixels, -source.bytes]", "{pixels: 1}"},
		{"a level that PNG does not have", "level: 1", "level: 10"},
		{"unknown format", "format: png", "format: jpg"},
		{"overwrite in words", "overwrite: false", "overwrite: maybe"},
		{"a path is a list", "path: out,", "path: [a, b],"},
		{"a path is missing", "path: out,", ""},
		{"a path is empty", "path: out,", `path: "",`},
		{"a bool is a number", "vectors: false", "vectors: 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := changed(t, tt.from, tt.to)
			if load(t, file, o) == nil {
				t.Error("the loader accepts it")
			}
			if v.accepts(t, file) == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}

// Other forms of what stands in base.
func TestSchemaAccepts(t *testing.T) {
	v, o := schemaOf(t, standard.Registry(), nil), pipeline.Options{Registry: standard.Registry()}
	inFolder(t)
	for _, tt := range []struct{ name, from, to string }{
		{"a number in quotes", "size: 512", `size: "512"`},
		{"a number from a variable", "size: 512", `size: "${SIZE:-512}"`},
		{"a word from a variable", "pick: best", `pick: "${PICK:-best}"`},
		{"a word in a list from a variable", "blockiness]", `"${METRIC:-blockiness}"]`},
		{"a list of one word", "[laplacian, blockiness]", "laplacian"},
		{"a method from a variable", "[sha256,", `["${METHOD:-sha256}",`},
		{"one method", "[sha256, {pdq: {max_distance: 20}}]", "sha256"},
		{"one method with options", "[sha256, {pdq: {max_distance: 20}}]", "{pdq: {max_distance: 20}}"},
		{"a method with no options", "{max_distance: 20}", ""},
		{"an option from a variable", "max_distance: 20", `max_distance: "${D:-20}"`},
		{"a bool from a variable", "recursive: true", `recursive: "${DEEP:-true}"`},
		{"a bool in quotes", "recursive: true", `recursive: "true"`},
		{"a whole number where any will do", "threshold: 4.5", "threshold: 4"},
		{"a number with an exponent", "threshold: 4.5", "threshold: 1e1"},
		{"a name that is a number", "name: base", "name: 512"},
		{"a name that is true", "name: base", "name: true"},
		{"a name that is empty", "name: base", `name: ""`},
		{"an id that is a number", "id: keep", "id: 5"},
		{"an id from a variable", "id: keep", `id: "${ID:-keep}"`},
		{"workers in quotes", "workers: 2", `workers: "2"`},
		{"workers from a variable", "workers: 2", "workers: ${W:-2}"},
		{"a device by number", "device: host", "device: gpu:1"},
		{"a simulated device", "device: host", "device: sim:0"},
		{"a device from a variable", "device: host", "device: ${D:-host}"},
		{"on_error from a variable", "on_error: stop", "on_error: ${E:-stop}"},
		{"memory without a value", "memory: {host: {limit: 60%}, gpu: {headroom: 512MiB, when_busy: share}, strategy: adaptive}", "memory:"},
		{"host without a value", "{limit: 60%}", ""},
		{"a limit that is a size", "60%", "1.5 gib"},
		{"a limit from a variable", "60%", `"${LIMIT:-60%}"`},
		{"a share of everything", "60%", "100%"},
		{"no headroom", "512MiB", "0"},
		{"pixels in quotes", "pixels: 1000000", `pixels: "1000000"`},
		{"a number of failed items", "max_failed: 5%", "max_failed: 20"},
		{"a share of failed items from a variable", "max_failed: 5%", "max_failed: ${MOST:-5}%"},
		{"sidecars that are one extension", "sidecars: [.txt]", "sidecars: .txt"},
		{"no sidecars", "sidecars: [.txt]", "sidecars: []"},
		{"a source with an id", "source:\n", "source:\n  id: photos\n"},
		{"a condition over lines", `{keep: "laplacian >= 4"}`, "\n      keep: >\n        laplacian >= 4\n        && blockiness < 30"},
		{"a condition that is true", `"laplacian >= 4"`, "true"},
		{"an alias", "prefer: [pixels, -source.bytes]}", "prefer: &rules [pixels, -source.bytes]}\n  - id: again\n    dedup: {by: phash, prefer: *rules}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := changed(t, tt.from, tt.to)
			if err := load(t, file, o); err != nil {
				t.Errorf("the loader says %v", err)
			}
			if err := v.accepts(t, file); err != nil {
				t.Errorf("the schema says %v", err)
			}
		})
	}
}
