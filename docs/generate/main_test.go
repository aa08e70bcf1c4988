package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// What is written is up to date, and every change of it is told.
func TestDrift(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir, true); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "stages/tile.md")+" is missing\n") {
		t.Errorf("an empty folder: %v", err)
	}
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err != nil {
		t.Errorf("what was just written: %v", err)
	}
	page, old := filepath.Join(dir, "yaml.md"), filepath.Join(dir, "stages/gone.md")
	for _, name := range []string{page, old} {
		if err := os.WriteFile(name, []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want := old + " is about a stage that there is not\n" + page + " is not what the declarations say\nrun make docs, and commit what it writes"
	if err := run(dir, true); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := run(dir, false); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true); err != nil {
		t.Errorf("after writing again: %v", err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the page of a stage that there is not stays")
	}
}

// Links of generated pages lead somewhere, within the pages and to those that
// are written by hand.
func TestLinks(t *testing.T) {
	files, err := pages(standard.Registry())
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)
	found := 0
	for name, data := range files {
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			found++
			target := filepath.Join(filepath.Dir(name), m[1])
			page, generated := files[target]
			if !generated {
				if page, err = os.ReadFile(filepath.Join("..", target)); err != nil {
					t.Errorf("%s links to %s", name, m[1])
				}
			}
			if m[2] != "" && !strings.Contains(strings.ToLower(string(page)), "\n## "+strings.ReplaceAll(m[2][1:], "-", " ")+"\n") {
				t.Errorf("%s links to %s%s", name, m[1], m[2])
			}
		}
	}
	if found < 40 {
		t.Errorf("%d links", found)
	}
}

func TestMarkdown(t *testing.T) {
	m := newMarkdown(standard.Registry())
	for _, tt := range []struct{ name, text, want string }{
		{"a setting", "With pick: best, the tile is (apply: both).", "With `pick: best`, the tile is (`apply: both`)."},
		{"no setting", "The size: large or small, pick: carefully.", "The size: large or small, pick: carefully."},
		{"files", "photo.txt beside (sub/photo.jpg), photos/**/*.jpg: done.", "`photo.txt` beside (`sub/photo.jpg`), `photos/**/*.jpg`: done."},
		{"names", "limits.pixels and pdq_quality, {stem} and .npz.", "`limits.pixels` and `pdq_quality`, `{stem}` and `.npz`."},
		{"numbers", "0.299 R + 0.587 G, 1 / 2 and 8x8 in 0..1.", "0.299 R + 0.587 G, 1 / 2 and 8x8 in 0..1."},
		{"markup", "v * 257 < a", "v \\* 257 &lt; a"},
		{"a list", "- pdq: near.\n- two words: no.", "- `pdq`: near.\n- two words: no."},
	} {
		if got := m.prose(tt.text); got != tt.want {
			t.Errorf("%s: got  %s\nwant %s", tt.name, got, tt.want)
		}
	}
	if got, want := row("a|b", "", "c\nd"), "| a\\|b | | c d |\n"; got != want {
		t.Errorf("a row is %q, want %q", got, want)
	}
	for value, want := range map[string]string{
		"512": "512", "./out": "./out", "{hash}{ext}": `"{hash}{ext}"`, "[.txt]": "[.txt]", "laplacian >= 4": `"laplacian >= 4"`,
		`source.format != "gif"`: `'source.format != "gif"'`, "a: b": `"a: b"`, "60%": "60%", "photos/**/*.jpg": `"photos/**/*.jpg"`,
	} {
		if got := quoted(value); got != want {
			t.Errorf("%s is typed as %s, want %s", value, got, want)
		}
	}
}

// A page has the parts that there are, and no others.
func TestPage(t *testing.T) {
	m := newMarkdown(standard.Registry())
	page := m.stage(pipeline.Description{Name: "x", Kind: "source", Short: "Offers x."})
	for _, heading := range []string{"## Details", "## Attributes", "## Running again"} {
		if strings.Contains(page, heading) {
			t.Errorf("a source that has none of it says %s", heading)
		}
	}
	tile, _ := standard.Registry().Stage("tile")
	page = m.stage(tile.Describe())
	for _, part := range []string{
		"# tile\n\nCuts images into square tiles.\n\n",
		"```yaml\n- tile: {size: 512}\n```\n",
		"\n| `size` | a whole number from 16 to 65535 px | required | Width and height of a tile. For example `512`, `256`. |\n",
		"\n| `pick` | `grid`, `best` | `grid` | ",
		"Results are cached with `pick: best`: ",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page has no %q:\n%s", part, page)
		}
	}
}
