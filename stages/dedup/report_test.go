package dedup_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/resize"
)

// runIn runs a dedup of the items with a store in a folder of their own.
func (c cascade) runIn(t testing.TB, state string, values map[string]any) (map[string]string, *pipeline.Summary) {
	t.Helper()
	b := c.bench(t, values)
	s, _ := b.Run(t, pipeline.RunOptions{StateDir: state})
	return b.Messages(pipeline.EventRejected), s
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func hashed(hashes map[string]uint64) cascade {
	c := cascade{given: given{}}
	for id, h := range hashes {
		c.given[id] = attrs{"phash": hash64(h)}
	}
	return c
}

func TestGroupsAndPairs(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	jsonl, pairs := filepath.Join(dir, "out", "groups.jsonl"), filepath.Join(dir, "out", "pairs.jsonl")
	c := hashed(map[string]uint64{"a": 0, "b": 1, "c": 3, "d": 0xff00, "e": 0xff01, "f": 0xff00ff00})
	values := config("by", []any{option("phash", "max_distance", 2)}, "prefer", []string{}, "groups", []string{jsonl, filepath.Join(dir, "groups.parquet")}, "pairs", pairs)
	_, s := c.runIn(t, state, values)
	if note := s.Stages[2].Note; note != "3 of 6 are duplicates in 2 groups (by phash 3)" {
		t.Errorf("the note is %q", note)
	}
	lines := strings.Split(strings.TrimSpace(read(t, jsonl)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"id":"a"`) || !strings.Contains(lines[0], `"id":"c"`) || !strings.Contains(lines[1], `"distances":{"phash":1}`) {
		t.Errorf("groups:\n%s", strings.Join(lines, "\n"))
	}
	// Those of two rejected items are there, too: b and c.
	got := read(t, pairs)
	if n := strings.Count(got, `"a_rank"`); n != 4 || !strings.Contains(got, `"a":"b","b":"c"`) {
		t.Errorf("%d pairs:\n%s", n, got)
	}
	if info, err := os.Stat(filepath.Join(dir, "groups.parquet")); err != nil || info.Size() == 0 {
		t.Errorf("the Parquet file: %v", err)
	}

	// A file of more pairs than anybody reads is not begun on a disk for long.
	undo := dedup.SetMostPairs(1000, 3)
	_, err := c.bench(t, values).Try(t, pipeline.RunOptions{StateDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "more than 3 pairs are within the thresholds: make these stricter") {
		t.Errorf("4 pairs: %v", err)
	}
	if again := read(t, pairs); again != got {
		t.Errorf("a file of pairs that ends at once:\n%s", again)
	}
	undo()

	// Another threshold, and no pairs any more: what is there is what a fresh run leaves.
	c.runIn(t, state, config("by", []any{option("phash", "max_distance", 0)}, "prefer", []string{}, "groups", jsonl))
	if text := read(t, jsonl); text != "" {
		t.Errorf("groups of nothing:\n%s", text)
	}
	if _, err := os.Stat(pairs); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pairs stay: %v", err)
	}
}

func TestDecisions(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "decisions.csv")
	c := hashed(map[string]uint64{"a": 0, "b": 1, "c": 3, "d": 0xff00, "e": 0xff01})
	values := config("by", "phash", "prefer", []string{}, "decisions", file)
	said, _ := c.runIn(t, state, values)
	if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, []string{"b", "c", "e"}) {
		t.Fatalf("at first %v", said)
	}
	text := strings.TrimPrefix(read(t, file), "\ufeff")
	want := "decision,item,keeper,by,distance,rule\n,b,a,phash,1,id\n,c,a,phash,2,id\n,e,d,phash,1,id\n"
	if text != want {
		t.Fatalf("the file is\n%s", text)
	}
	edited := strings.Replace(strings.Replace(text, ",b,a", "different,b,a", 1), ",e,d", "keep,e,d", 1) + "reject,nobody,\n"
	if err := os.WriteFile(file, []byte(edited), 0o666); err != nil {
		t.Fatal(err)
	}
	said, sum := c.runIn(t, state, values)
	if note := sum.Stages[2].Note; !strings.HasSuffix(note, "; 1 of the decisions is about nobody, which is not in this run") {
		t.Errorf("the note is %q", note)
	}
	wantSaid := map[string]string{
		// e is kept by hand, and so comes first; b is no duplicate of a any more, and c is nearer to it.
		"c": "duplicate: keeper b, by phash, distance 1, rule id",
		"d": "duplicate: keeper e, by phash, distance 1, rule decisions",
	}
	if !maps.Equal(said, wantSaid) {
		t.Errorf("got %q\nwant %q", said, wantSaid)
	}
	text = strings.TrimPrefix(read(t, file), "\ufeff")
	for _, row := range []string{"different,b,a,", "keep,e,d,", "reject,nobody,", ",c,b,phash,1,id\n", ",d,e,phash,1,decisions\n"} {
		if !strings.Contains(text, row) {
			t.Errorf("no row %q in\n%s", row, text)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files were left: %v, %v", entries, err)
	}
}

// A link to a file of decisions stays one: the file is written.
func TestDecisionsBehindALink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "shared", "mine.csv"), filepath.Join(dir, "decisions.csv")
	err := errors.Join(
		os.Mkdir(filepath.Dir(real), 0o777),
		os.WriteFile(real, []byte("decision,item,keeper\nkeep,b,\n"), 0o666),
		os.Symlink(filepath.Join("shared", "mine.csv"), link),
	)
	if err != nil {
		t.Fatal(err)
	}
	c := hashed(map[string]uint64{"a": 0, "b": 1, "c": 3})
	said, _ := c.runIn(t, t.TempDir(), config("by", "phash", "prefer", []string{}, "decisions", link))
	if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("rejected %v", said)
	}
	if to, err := os.Readlink(link); err != nil || to != "shared/mine.csv" {
		t.Errorf("the link leads to %q: %v", to, err)
	}
	if text := read(t, real); !strings.Contains(text, "keep,b,") || !strings.Contains(text, ",c,b,phash,1,decisions\n") {
		t.Errorf("the file is\n%s", text)
	}
}

// unreadable is a file system in which no file can be read.
type unreadable struct{ pipeline.FS }

type unreadableFolder struct{ pipeline.Folder }

func (u unreadable) OpenRoot(dir string) (pipeline.Folder, error) {
	r, err := u.FS.OpenRoot(dir)
	return unreadableFolder{r}, err
}

func (unreadableFolder) Open(string) (fsys.File, error) { return nil, errors.New("fault") }

func TestDecisionsThatCannotBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.csv")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	p := pipeline.New("test", pipeline.Options{FS: unreadable{fsys.OS}})
	err := p.Use(t.Context(), pipeline.NewRegistry(dedup.Info()), "dedup", "dedup", config("by", "phash", "decisions", file))
	if err == nil || !strings.HasSuffix(err.Error(), "opening decisions: fault") {
		t.Errorf("got %v", err)
	}
}

func TestIndex(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	folder := filepath.Join(dir, "set")
	with := func(hashes map[string]uint64, first float32) cascade {
		c := hashed(hashes)
		c.embedded, c.vectors = embedded{}, []string{"v"}
		for id := range hashes {
			c.embedded[id] = map[string]pipeline.Vector{"v": vec(first, float32(len(id)))}
		}
		return c
	}
	by := []any{option("phash", "max_distance", 3), option("vector", "name", "v", "min_similarity", 0.1, "confirm", true)}
	values := config("by", by, "prefer", []string{}, "against", folder, "index", folder)
	all := map[string]uint64{"m": 0, "n": 1, "o": 0xffff0000}
	said, s := with(all, 1).runIn(t, state, values)
	if note := s.Stages[2].Note; len(said) != 1 || !strings.HasSuffix(note, "; 2 were added to "+folder) {
		t.Fatalf("at first %v; %s", said, note)
	}
	// Now a comes first and is preferred, and is a duplicate of m all the same, which stands
	// for its entry. Without it, the entry stands.
	all["a"], all["z"] = 3, 0x0f0f0f0f0f0f
	said, s = with(all, 1).runIn(t, state, values)
	want := map[string]string{
		"a": "duplicate: keeper m, by phash, distance 2, v_similarity 1, rule against",
		"n": "duplicate: keeper m, by phash, distance 1, v_similarity 1, rule against",
	}
	if note := s.Stages[2].Note; !maps.Equal(said, want) || !strings.HasSuffix(note, "; 2 were in an index already; 1 was added to "+folder) {
		t.Errorf("got %q\nwant %q\n%s", said, want, note)
	}
	delete(all, "m")
	said, s = with(all, 1).runIn(t, state, values)
	for id, text := range want {
		want[id] = strings.Replace(text, "keeper m", "keeper m, keeper_index "+folder, 1)
	}
	if note := s.Stages[2].Note; !maps.Equal(said, want) || !strings.HasSuffix(note, "; 2 were in an index already; compared with 1 of indexes; 0 were added to "+folder) {
		t.Errorf("got %q\nwant %q\n%s", said, want, note)
	}
	x, err := index.Open(fsys.OS, folder)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var ids []string
	for e, err := range x.All(t.Context(), []string{"v"}) {
		if err != nil || len(e.Prints[0]) != 8 {
			t.Fatalf("%+v, %v", e, err)
		}
		ids = append(ids, e.ID)
	}
	if !slices.Equal(ids, []string{"m", "o", "z"}) {
		t.Errorf("the index has %v", ids)
	}

	// Vectors of another network cannot be compared with it.
	other := with(all, 1)
	for _, v := range other.embedded {
		v["v"] = pipeline.Vector{Model: "another", Data: v["v"].Data}
	}
	_, err = other.bench(t, values).Try(t, pipeline.RunOptions{NoStore: true})
	if err == nil || !strings.Contains(err.Error(), "mixed models: column v of the index "+folder+" was made by the model net, here it is made by the model another") {
		t.Errorf("mixed models: %v", err)
	}
}

func TestAction(t *testing.T) {
	photos, out := t.TempDir(), t.TempDir()
	var src stagetest.Source
	for i, picture := range []uint64{1, 1, 2} {
		in := save(t, photos, fmt.Sprintf("%d.png", i), texture(picture, 32, 32))
		text := filepath.Join(photos, fmt.Sprintf("%d.txt", i))
		if err := os.WriteFile(text, []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(text)
		if err != nil {
			t.Fatal(err)
		}
		in.Sidecars = []pipeline.Sidecar{{Ext: ".txt", Path: text, Size: 1, Time: info.ModTime().UnixNano()}}
		src = append(src, in)
	}
	files := func(dir string) []string {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	everything := []string{"0.png", "0.txt", "1.png", "1.txt", "2.png", "2.txt"}
	try := func(o pipeline.RunOptions, more ...any) (string, error) {
		b := stagetest.New(t, src, stagetest.Step{Info: dedup.Info(), Values: config(append([]any{"by", "sha256"}, more...)...)})
		s, err := b.Try(t, o)
		return s.Stages[0].Note, err
	}
	to := filepath.Join(out, "duplicates")
	record := filepath.Join(out, "deleted.jsonl")
	if _, err := try(pipeline.RunOptions{}, "action", "delete", "record", record, "delete_count", 2); err == nil || !strings.Contains(err.Error(), "1 picture would be deleted") {
		t.Errorf("another number than is there is deleted: %v", err)
	}
	if _, err := try(pipeline.RunOptions{Sample: 3, StateDir: filepath.Join(out, "state")}, "action", "move", "to", to); err != nil {
		t.Error(err)
	}
	if _, err := try(pipeline.RunOptions{DryRun: true}, "action", "move", "to", to); err != nil {
		t.Error(err)
	}
	// What is preferred then is not what would be moved.
	b := stagetest.New(t, src, stagetest.Step{Info: resize.Info(), Values: map[string]any{"longest": 16}}, stagetest.Step{Info: dedup.Info(), Values: config("by", "pixels", "action", "move", "to", to)})
	if _, err := b.Try(t, pipeline.RunOptions{}); err == nil || !strings.Contains(err.Error(), "a stage before changed the picture of 0.png, and action: move is for source files as they are: put dedup before that stage") {
		t.Errorf("pictures that were changed before: %v", err)
	}
	// What should stay is not found, and so nothing goes, nor is it told.
	groups := filepath.Join(out, "groups.jsonl")
	misspelt := []any{"action", "move", "to", to, "groups", groups, "reference", []string{"0.png", "in/master/**", "mastre"}}
	if _, err := try(pipeline.RunOptions{}, misspelt...); err == nil || !strings.HasSuffix(err.Error(), `: no item is named by "in/master/**", nor any by "mastre" of reference, and action is move: correct the pattern or leave it out (patterns are relative to the input folder, as the name "0.png" is)`) {
		t.Errorf("misspelt references: %v", err)
	}
	if _, err := os.Stat(groups); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are groups: %v", err)
	}
	for name, o := range map[string]pipeline.RunOptions{"dry": {DryRun: true}, "sample": {Sample: 3, StateDir: filepath.Join(out, "state")}} {
		if note, err := try(o, misspelt...); err != nil || !strings.Contains(note, `; 1 is named by reference; no item is named by "in/master/**", nor any by "mastre" of reference`) {
			t.Errorf("%s, misspelt references: %s, %v", name, note, err)
		}
	}
	if got := files(photos); !slices.Equal(got, everything) {
		t.Fatalf("there are %v", got)
	}
	note, err := try(pipeline.RunOptions{}, "action", "move", "to", to)
	if err != nil || !strings.Contains(note, "of source images 1 was moved (2 files)") {
		t.Errorf("%v, %s", err, note)
	}
	if got := files(photos); !slices.Equal(got, []string{"0.png", "0.txt", "2.png", "2.txt"}) {
		t.Errorf("there are %v", got)
	}
	if got := files(to); !slices.Contains(got, "1.png") || !slices.Contains(got, "1.txt") {
		t.Errorf("moved were %v", got)
	}
}

func TestLintOfCascades(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.csv")
	if err := os.WriteFile(bad, []byte("decision,item,keeper\nkept,a,b\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(dir, "dangling.csv")
	if err := os.Symlink("nothing.csv", dangling); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FORGEPIPE_MODELS", dir)
	tests := map[string]struct{ stage, want string }{
		"a first step that confirms": {"{by: [{pdq: {confirm: true}}]}", "4:18: stage dedup: by: the first step has none before it whose pairs it could confirm: leave confirm out, or put the step that proposes before it"},
		"a vector twice":             {"{by: [{vector: {name: v, min_similarity: 0.9}}, {vector: {name: v, min_similarity: 0.8}}]}", "4:60: stage dedup: by: v is named twice"},
		"a vector that is not there": {"{by: [pdq, {vector: {name: w, min_similarity: 0.9}}]}", `4:23: stage dedup: by: no stage before this one makes the vector "w" (there are v): put embed before it`},
		"no similarity":              {"{by: {vector: {name: v}}}", "4:18: dedup.by.vector needs min_similarity: The least cosine similarity, 1 for vectors of one direction."},
		"too similar":                {"{by: {clip: {min_similarity: 1.1}}}", "4:41: dedup.by.clip.min_similarity: 1.1 is above the maximum, 1"},
		"no folder of an index":      {"{by: pdq, against: " + dir + "/no}", "4:31: stage dedup: against: opening the index " + dir + "/no: there is no index: name the folder of one, or make one with dedup: {index: " + dir + "/no}: stat " + dir + "/no: no such file or directory"},
		"a wrong decision":           {"{by: pdq, decisions: " + bad + "}", "4:33: stage dedup: decisions: " + bad + `:2: "kept" is no decision: write keep, reject or different, or nothing to leave it to the run`},
		"a link to nothing":          {"{by: pdq, decisions: " + dangling + "}", "4:33: stage dedup: decisions: " + dangling + ": this is a symbolic link to what is not there: make the file that it leads to, or remove the link"},
		"a format of groups":         {"{by: pdq, groups: [a.jsonl, b.csv]}", "4:40: stage dedup: groups: the extension of b.csv must be .parquet or .jsonl"},
		"two of one format":          {"{by: pdq, groups: [a.jsonl, b.jsonl]}", "4:40: stage dedup: groups: there is a file that ends in .jsonl already: name one, or one of each kind"},
		"a pattern":                  {"{by: pdq, reference: [a, x**]}", `4:37: stage dedup: reference: "x**": ** stands for whole folders and must be alone between two slashes`},
		"an absolute pattern":        {"{by: pdq, reference: /in/master}", `4:33: stage dedup: reference: "/in/master": a pattern is relative to the input folder: leave out the slash at its beginning and the path of that folder`},
		"a pattern upwards":          {"{by: pdq, reference: x/../master}", `4:33: stage dedup: reference: "x/../master": a pattern is relative to the input folder, and .. leads out of it or is not needed: leave it out`},
		"a pattern of nothing":       {"{by: pdq, reference: ./}", `4:33: stage dedup: reference: "./": the pattern names no file: write ** for all of them`},
		"orientations of nothing":    {"{by: [sha256, {vector: {name: v, min_similarity: 0.9}}], orientations: all}", "4:83: stage dedup: orientations: no method in by compares pictures that are turned: leave it out, or add pixels, pdq, phash or dhash"},
		"a vector of one turned":     {"{by: [sha256, pdq, {phash: {confirm: true}}, {vector: {name: v, min_similarity: 0.9, confirm: true}}], orientations: mirrored}", "4:57: stage dedup: by: v sees pictures upright and so cannot confirm what pdq proposes with orientations: mirrored: leave orientations out, or confirm that with another hash"},
		"LPIPS of one turned":        {"{by: [pixels, {lpips: {model: x.onnx, confirm: true}}], orientations: all}", "4:26: stage dedup: by: lpips sees pictures upright and so cannot confirm what pixels proposes with orientations: all: leave orientations out, or confirm that with another hash"},
		"turning and confirming":     {"{by: [sha256, {vector: {name: v, min_similarity: 0.9, confirm: true}}, {pdq: {confirm: true}}, pixels], orientations: all}", ""},
		"nowhere to move to":         {"{by: pdq, action: move}", "4:30: stage dedup: action: move needs to: The folder that source files are moved, copied or linked to. It must not lie in the input folder."},
		"sidecars that move away":    {"{by: pdq, action: move, to: x, sidecars: merge}", "4:30: stage dedup: action: move takes away the sidecars that sidecars: merge has the kept images take over, and the next run would not find them: say sidecars: keep, or action: copy"},
		"sidecars that are deleted":  {"{by: pdq, action: delete, record: r.jsonl, delete_count: 1, sidecars: merge}", "4:30: stage dedup: action: delete takes away the sidecars that sidecars: merge has the kept images take over, and the next run would not find them: say sidecars: keep, or action: copy"},
		"a folder for nothing":       {"{by: pdq, to: x}", "4:26: stage dedup: to: it is for another action than report: leave it out, or say which"},
		"delete without a number":    {"{by: pdq, action: delete, record: r.jsonl}", "4:30: stage dedup: action: delete needs delete_count: How many pictures action: delete removes: with any other number nothing is deleted. -1 is any number."},
	}
	delete(tests, "an index of pictures")
	var many []string
	for i := range 65 {
		many = append(many, fmt.Sprintf("{vector: {name: v%02d, min_similarity: 0.9}}", i))
	}
	tests["too many steps"] = struct{ stage, want string }{"{by: [" + strings.Join(many, ", ") + "]}", "4:2834: stage dedup: by: there are more than 64 entries: leave some out, or give them to a second dedup"}
	g := given{"x": {"a": yes}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			yaml := "source: {made: {}}\nstages:\n  - embedded:\n  - dedup: " + tt.stage + "\n"
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: registry(nil, g.giver().Info, embedded{}.giver("v").Info)})
			got := ""
			if err != nil {
				got = err.Error()
			}
			want := tt.want
			if want != "" {
				want = "p.yaml:" + want
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
