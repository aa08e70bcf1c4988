package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// What differs from machine to machine or from run to run is in a golden envelope
// by its kind only, whether it is known or null.
var changing = map[string]string{
	"age_seconds": "number", "after": "number", "at": "time", "batch": "number", "before": "number", "began": "number", "busy": "number",
	"bytes": "number", "calls": "number", "decoded": "number", "decoders": "string", "encoders": "string", "ended": "number", "free": "number",
	"freed": "number", "go": "figure or string", "go_heap": "number", "host_budget": "number", "host_limit": "number", "host_source": "string",
	"host_total": "number", "leased": "number", "leases": "number", "left": "number", "lpips": "number", "most_workers": "number", "fill": "number", "limit": "number", "limit_now": "number", "limited": "counts", "ok": "bool", "other": "number", "own": "number",
	"peak": "number", "physical": "number", "pid": "number", "platform": "string", "queued": "number", "reserved": "number",
	"resident": "number", "rss": "number", "seconds": "number", "seconds_per_picture": "number", "since": "time", "started": "time", "fingerprint": "string", "source": "string", "stalled": "number", "time": "time",
	"total": "number", "used": "number", "uses": "string", "version": "string", "waiting": "number", "work": "number", "workers": "number",
}

// changingIn are those of them that change in one part of the document only.
var changingIn = map[string]string{"ok": "checks", "source": "devices", "before": "cleaned", "after": "cleaned"}

// absent are members that only some machines have: of what the path begins with.
var absent = map[string][]string{
	"checks":  {"description", "path", "problem"},
	"devices": {"description", "driver", "held"},
	"nvidia":  {"driver", "problem"},
	"summary": {"held"},
	"history": {"held"},
}

var (
	sizeInText    = regexp.MustCompile(`[0-9.]+ ([KMGT]i)?B\b`)
	processInText = regexp.MustCompile(`process [0-9]+`)
)

// envelopes writes the last command's document into a file, a line for each of its
// values with the way there, and one for an object that has no others inside:
// envelope FILE.
func envelopes(ts *testscript.TestScript, _ bool, args []string) {
	var doc map[string]any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &doc); err != nil {
		ts.Fatalf("not one JSON document: %v\n%s", err, ts.ReadFile("stdout"))
	}
	e := flattened{work: ts.Getenv("WORK")}
	for _, name := range members("", doc) {
		e.add(name, name, doc[name])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(e.lines, "\n")+"\n"), 0o666))
}

type flattened struct {
	work  string
	lines []string
}

func (f *flattened) line(path, value string) {
	f.lines = append(f.lines, path+": "+value)
}

// add writes a value. key is the name of the member that it is, or is a part of.
func (f *flattened) add(path, key string, v any) {
	if all, ok := v.([]any); ok && path == "advice" {
		f.line(path, advice(all))
		return
	}
	if !hasParts(v) {
		f.line(path, f.value(path, key, v))
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range members(path, v) {
			f.add(path+"."+k, k, v[k])
		}
	case []any:
		v = slices.DeleteFunc(v, ofThisMachine)
		if key == "holders" {
			v = v[:1]
		}
		for i, x := range v {
			f.add(path+"["+strconv.Itoa(i)+"]", key, x)
		}
	}
}

// advice is what each advice consists of. How many there are beside the one that has to
// be there depends on what else the machine does.
func advice(all []any) string {
	if len(all) == 0 {
		return "none"
	}
	for _, x := range all {
		a, _ := x.(map[string]any)
		names := slices.Sorted(maps.Keys(a))
		for _, name := range names {
			if text, ok := a[name].(string); !ok || text == "" {
				return fmt.Sprintf("%s is %v", name, a[name])
			}
		}
		if !slices.Equal(names, []string{"do", "what", "why"}) {
			return fmt.Sprintf("one with %q", names)
		}
	}
	return "list of do, what, why"
}

// members are the names of an object's members, but for those that only some
// machines have.
func members(path string, v map[string]any) []string {
	some := absent[part(path)]
	return slices.DeleteFunc(slices.Sorted(maps.Keys(v)), func(k string) bool { return slices.Contains(some, k) })
}

// part is the member of the document that a path begins with.
func part(path string) string {
	if end := strings.IndexAny(path, ".["); end >= 0 {
		return path[:end]
	}
	return path
}

// ofThisMachine tells whether an element is about a GPU.
func ofThisMachine(v any) bool {
	m, _ := v.(map[string]any)
	device, _ := m["device"].(string)
	return strings.HasPrefix(device, "gpu:")
}

// hasParts tells whether a value has objects inside, and is written in several lines.
func hasParts(v any) bool {
	inside := func(v any) bool {
		switch v := v.(type) {
		case map[string]any:
			return true
		case []any:
			return hasParts(v)
		}
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if changing[k] == "" && inside(x) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, inside)
	}
	return false
}

// value is how a value without objects inside is written.
func (f *flattened) value(path, key string, v any) string {
	kind := changing[key]
	if in, limited := changingIn[key]; limited && part(path) != in {
		kind = ""
	}
	switch v := v.(type) {
	case map[string]any:
		if kind == "counts" {
			return kind
		}
		var all []string
		for _, k := range members(path, v) {
			all = append(all, k+": "+f.value(path+"."+k, k, v[k]))
		}
		return "{" + strings.Join(all, ", ") + "}"
	case []any:
		if kind != "" {
			return kind
		}
		var all []string
		for _, x := range v {
			all = append(all, f.value(path, key, x))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	text, isText := v.(string)
	switch {
	case strings.Contains(path, "governed["): // what a network did is another thing each time
		return fmt.Sprintf("%T", v)
	case kind != "":
		return kind
	case isText:
		text = strings.ReplaceAll(text, f.work, "$WORK")
		text = sizeInText.ReplaceAllString(text, "# B")
		v = processInText.ReplaceAllString(text, "process #")
	}
	b, _ := json.Marshal(v)
	return string(b)
}
