package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// chooser is a stage with a field of words that have options. It says what it
// was given.
func chooser(said *string) pipeline.Info {
	return pipeline.Info{
		Name: "choose", Short: "has choices",
		Fields: []pipeline.Field{{
			Name: "by", Type: pipeline.FieldChoices, Doc: "How.", Required: true,
			Choices: []pipeline.Choice{
				{Name: "bytes", Doc: "By bytes."},
				{Name: "hash", Doc: "By hash.", Fields: []pipeline.Field{
					{Name: "max_distance", Type: pipeline.FieldInt, Doc: "Distance.", Max: 64, Unit: "bits", Default: "6"},
					{Name: "exact", Type: pipeline.FieldBool, Doc: "Exactly."},
				}},
			},
		}},
		New: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) {
			var words []string
			for i, m := range c.Choices("by") {
				word := m.Name
				if m.Name == "hash" {
					word += fmt.Sprintf("(%d %t)", m.Options.Int("max_distance"), m.Options.IsSet("max_distance"))
				}
				for _, before := range words {
					if before == word {
						return nil, c.ElementErrorf("by", i, "%s stands twice", word)
					}
				}
				words = append(words, word)
			}
			*said = strings.Join(words, " ")
			return pass, nil
		},
	}
}

func TestChoices(t *testing.T) {
	const source = "source: {images: {path: a}}\nstages:\n  - choose: "
	tests := map[string]struct{ by, want string }{
		"a word":                    {`{by: bytes}`, "bytes"},
		"a word with options":       {`{by: {hash: {max_distance: 3}}}`, "hash(3 true)"},
		"words":                     {`{by: [bytes, hash]}`, "bytes hash(6 false)"},
		"words and options":         {`{by: [bytes, {hash: {max_distance: 31}}]}`, "bytes hash(31 true)"},
		"options left empty":        {`{by: [{hash: }, {bytes: {}}]}`, "hash(6 false) bytes"},
		"a variable":                {`{by: ["${X:-bytes}", {hash: {max_distance: "${Y:-9}"}}]}`, "bytes hash(9 true)"},
		"missing":                   {`{}`, "p.yaml:3:5: choose needs by: How."},
		"null":                      {`{by: }`, "p.yaml:3:18: choose.by: each element is a word or {word: {options}}, not nothing"},
		"unknown word":              {`{by: [bytes, hsah]}`, `p.yaml:3:26: choose.by: "hsah" is none of bytes, hash; did you mean "hash"?`},
		"unknown word with options": {`{by: {clip: {x: 1}}}`, `p.yaml:3:19: choose.by: "clip" is none of bytes, hash`},
		"unknown option":            {`{by: [{hash: {distance: 3}}]}`, `p.yaml:3:27: choose.by.hash has no field "distance" (it has max_distance, exact)`},
		"misspelled option":         {`{by: [{hash: {max_distanc: 3}}]}`, `p.yaml:3:27: choose.by.hash has no field "max_distanc"; did you mean "max_distance"? (it has max_distance, exact)`},
		"option of a word without":  {`{by: [{bytes: {max_distance: 3}}]}`, `p.yaml:3:28: choose.by.bytes has no field "max_distance" (it has none)`},
		"a key of the entry":        {`{by: bytes, device: gpu}`, `p.yaml:3:25: choose has no field "device" (it has by): device stands beside the stage's name, as in {choose: {...}, device: ...}`},
		"the same in options":       {`{by: {hash: {device: 3}}}`, `p.yaml:3:26: choose.by.hash has no field "device" (it has max_distance, exact)`},
		"out of range":              {`{by: [{hash: {max_distance: 65}}]}`, `p.yaml:3:41: choose.by.hash.max_distance: 65 is above the maximum, 64 bits`},
		"options that are a list":   {`{by: [{hash: [1]}]}`, `p.yaml:3:26: choose.by.hash wants a mapping of fields, not a list`},
		"two words in one element":  {`{by: [{hash: , bytes: }]}`, `p.yaml:3:19: choose.by: each element is a word or {word: {options}}, not a mapping`},
		"a list in the list":        {`{by: [[bytes]]}`, `p.yaml:3:19: choose.by: each element is a word or {word: {options}}, not a list`},
		"constructor's error":       {`{by: [hash, bytes, {bytes: }]}`, "p.yaml:3:32: stage choose: by: bytes stands twice"},
		"two faults":                {`{by: [x, y]}`, "p.yaml:3:19: choose.by: \"x\" is none of bytes, hash\np.yaml:3:22: choose.by: \"y\" is none of bytes, hash"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got string
			_, err := pipeline.Load(t.Context(), "p.yaml", []byte(source+tt.by+"\n"), pipeline.Options{Registry: fakes().With(chooser(&got))})
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestChoicesInGo(t *testing.T) {
	tests := map[string]struct {
		by   any
		want string
	}{
		"a word":              {"hash", "hash(6 false)"},
		"words":               {[]string{"bytes", "hash"}, "bytes hash(6 false)"},
		"a word with options": {map[string]any{"hash": map[string]any{"max_distance": 3}}, "hash(3 true)"},
		"a list":              {[]any{"bytes", map[string]any{"hash": nil}}, "bytes hash(6 false)"},
		"unknown":             {"x", `stage choose: by: "x" is none of bytes, hash`},
		"unknown option":      {map[string]any{"hash": map[string]any{"x": 3}}, `stage choose: by: choose.by.hash has no field "x"`},
		"no word":             {7, "stage choose: by: an element must be a string or a map[string]any, not int"},
		"two words":           {map[string]any{"hash": nil, "bytes": nil}, "stage choose: by: an element has one word, not 2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got string
			p := pipeline.New("t", pipeline.Options{})
			err := p.Use(t.Context(), pipeline.NewRegistry(chooser(&got)), "choose", "c", map[string]any{"by": tt.by})
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Written out or left to its default, an option is the same pipeline; another
// value is another one.
func TestChoicesAreInTheFingerprint(t *testing.T) {
	of := func(by any) string {
		var said string
		p := pipeline.New("t", pipeline.Options{})
		if err := p.Use(t.Context(), pipeline.NewRegistry(chooser(&said)), "choose", "c", map[string]any{"by": by}); err != nil {
			t.Fatal(err)
		}
		return p.Fingerprint()
	}
	distance := func(d int) any { return map[string]any{"hash": map[string]any{"max_distance": d}} }
	if of("hash") != of(distance(6)) {
		t.Error("a default that is written out changes the fingerprint")
	}
	if of("hash") == of(distance(7)) || of("hash") == of("bytes") {
		t.Error("what is chosen does not change the fingerprint")
	}
}

// lessee asks for memory when all has come.
type lessee struct {
	holder
	env   pipeline.Env
	bytes int64
	got   int64
}

func (l *lessee) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	lease, err := l.env.Lease(ctx, l.bytes)
	if err != nil {
		return fmt.Errorf("making room: %w", err)
	}
	defer lease.Release()
	l.got = lease.Bytes()
	return l.holder.Flush(ctx, held, emit)
}

func TestABarrierLeasesWhatItNeeds(t *testing.T) {
	run := func(bytes int64) (*lessee, *pipeline.Summary, error) {
		l := &lessee{bytes: bytes}
		in := pipeline.Info{Name: "lessee", Short: "leases", New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			l.env = e
			return l, nil
		}}
		p := pipeline.New("t", pipeline.Options{})
		p.HostLimit = pipeline.Amount{Bytes: 128 << 20}
		p.SetSource(inputs(10))
		if err := p.Use(t.Context(), pipeline.NewRegistry(in), "lessee", "lessee", nil); err != nil {
			t.Fatal(err)
		}
		s, err := runIt(t, p)
		return l, s, err
	}
	l, s, err := run(20 << 20)
	if err != nil || l.got != 20<<20 || s.Devices[0].Peak < 20<<20 {
		t.Errorf("leased %d, peak %+v, %v", l.got, s.Devices, err)
	}
	var over *memory.OversizeError
	if _, _, err := run(1 << 30); !errors.As(err, &over) || over.Need != 1<<30 || over.Holder != "lessee" {
		t.Errorf("got %v", err)
	}
}

// What was given to one configuration makes another one like it.
func TestGivenValuesMakeTheSameConfig(t *testing.T) {
	in := pipeline.Info{Name: "all", Fields: []pipeline.Field{
		{Name: "text", Type: pipeline.FieldString}, {Name: "number", Type: pipeline.FieldFloat},
		{Name: "whole", Type: pipeline.FieldInt}, {Name: "size", Type: pipeline.FieldSize},
		{Name: "share", Type: pipeline.FieldShare}, {Name: "wait", Type: pipeline.FieldDuration},
		{Name: "on", Type: pipeline.FieldBool}, {Name: "list", Type: pipeline.FieldStrings},
		{Name: "usual", Type: pipeline.FieldInt, Default: "7"},
		{Name: "by", Type: pipeline.FieldChoices, Choices: []pipeline.Choice{
			{Name: "far", Doc: "far", Fields: []pipeline.Field{{Name: "least", Type: pipeline.FieldFloat, Default: "0.5"}, {Name: "why", Type: pipeline.FieldString}}},
			{Name: "near", Doc: "near"},
		}},
	}}
	given := map[string]any{
		"text": "a, [b]", "number": "0.1", "whole": "12", "size": "1.5MiB", "share": "12.5%", "wait": "90s", "on": "true",
		"list": []string{"x, y", "z"}, "by": []any{"near", map[string]any{"far": map[string]any{"why": "not"}}},
	}
	first, err := pipeline.NewConfig(in, given)
	if err != nil {
		t.Fatal(err)
	}
	second, err := pipeline.NewConfig(in, first.Given())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]pipeline.Config{"first": first, "second": second} {
		by := c.Choices("by")
		if c.String("text") != "a, [b]" || c.Float("number") != 0.1 || c.Int("whole") != 12 || c.Int("size") != 3<<19 || c.Float("share") != 0.125 ||
			c.Duration("wait") != 90*time.Second || !c.Bool("on") || !slices.Equal(c.Strings("list"), []string{"x, y", "z"}) ||
			len(by) != 2 || by[0].Name != "near" || by[1].Options.String("why") != "not" || by[1].Options.Float("least") != 0.5 || by[1].Options.IsSet("least") || c.IsSet("usual") {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
