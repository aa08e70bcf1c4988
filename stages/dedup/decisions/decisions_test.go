package decisions_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/decisions"
)

func rows(all ...decisions.Row) iter.Seq2[decisions.Row, error] {
	return func(yield func(decisions.Row, error) bool) {
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func parse(t *testing.T, text string) *decisions.File {
	t.Helper()
	f, err := decisions.Parse(strings.NewReader(text), "d.csv")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func written(t *testing.T, f *decisions.File, automatic ...decisions.Row) string {
	t.Helper()
	var b bytes.Buffer
	if err := f.Write(&b, rows(automatic...)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What people and their programs make of a file says the same.
func TestReads(t *testing.T) {
	const plain = `decision,item,keeper,by,distance,rule
keep,a.jpg,,,,
reject,"b, c.jpg",x.jpg,pdq,12,pixels
different,d.jpg@tile=8,x.jpg,pdq,3,id
,e.jpg,x.jpg,pdq,3,id
`
	for name, text := range map[string]string{
		"as it was written":    plain,
		"with a mark":          "\ufeff" + plain,
		"lines of Windows":     strings.ReplaceAll(plain, "\n", "\r\n"),
		"no last end of line":  strings.TrimSuffix(plain, "\n"),
		"semicolons":           "decision;item;keeper;by;distance;rule\nkeep;a.jpg;;;;\nreject;b, c.jpg;x.jpg;pdq;12;pixels\ndifferent;d.jpg@tile=8;x.jpg;pdq;3;id\n",
		"tabs":                 "decision\titem\tkeeper\nkeep\ta.jpg\nreject\tb, c.jpg\ndifferent\td.jpg@tile=8\tx.jpg\n",
		"quotes everywhere":    "\"decision\",\"item\",\"keeper\"\n\"keep\",\"a.jpg\",\"\"\n\"reject\",\"b, c.jpg\",\"\"\n\"different\",\"d.jpg@tile=8\",\"x.jpg\"\n",
		"empty columns":        "decision,item,keeper,by,distance,rule,,\nkeep,a.jpg,,,,,,\nreject,\"b, c.jpg\",x.jpg,,,,,\ndifferent,d.jpg@tile=8,x.jpg,,,,,\n,,,,,,,\n",
		"upper case":           "DECISION,Item,Keeper\nKEEP,a.jpg\n Reject ,\"b, c.jpg\"\nDifferent,d.jpg@tile=8,x.jpg\n",
		"another order":        "keeper,decision,note,item\n,keep,mine,a.jpg\n,reject,,\"b, c.jpg\"\nx.jpg,different,,d.jpg@tile=8\n",
		"empty lines, blanks":  "\n\ndecision,item,keeper\n\nkeep, a.jpg \n\nreject,\"b, c.jpg\"\n\ndifferent,d.jpg@tile=8,x.jpg\n\n",
		"the same twice":       plain + "keep,a.jpg,x.jpg,,,\ndifferent,x.jpg,d.jpg@tile=8,,,\n",
		"encoded without need": strings.ReplaceAll(plain, "a.jpg", "%61.jpg"),
	} {
		t.Run(name, func(t *testing.T) {
			f := parse(t, text)
			if !f.Any() || !f.Keep("a.jpg") || !f.Reject("b, c.jpg") || !f.Different("d.jpg@tile=8", "x.jpg") || !f.Different("x.jpg", "d.jpg@tile=8") {
				t.Error("a decision is missing")
			}
			if f.Keep("b, c.jpg") || f.Reject("a.jpg") || f.Keep("e.jpg") || f.Different("b, c.jpg", "x.jpg") || f.Different("d.jpg", "x.jpg") {
				t.Error("there is a decision that nobody took")
			}
		})
	}
}

func TestNothingIsDecided(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "blank": "\n\n", "a mark": "\ufeff", "only the columns": "decision,item,keeper\n", "only the run's": "decision,item,keeper\n,a,b\n"} {
		if f := parse(t, text); f.Any() {
			t.Errorf("%s: something is decided", name)
		}
	}
	f, err := decisions.Read(fsys.OS, filepath.Join(t.TempDir(), "none.csv"))
	if err != nil || f.Any() {
		t.Errorf("a file that is not there: %v", err)
	}
	if got, want := written(t, f), "\ufeffdecision,item,keeper,by,distance,rule\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestWrongRows(t *testing.T) {
	const head = "decision,item,keeper,by,distance,rule\n"
	for _, tt := range []struct{ name, text, want string }{
		{"an unknown word", head + "keep,a,,,,\nmaybe,a.jpg,b.jpg,,,\n", `d.csv:3: "maybe" is no decision: write keep, reject or different, or nothing`},
		{"no item", head + "keep,,b.jpg,,,\n", "d.csv:2: keep says nothing without an item"},
		{"different without the other", head + "different,a.jpg,,,,\n", "d.csv:2: different says of two items"},
		{"different from itself", head + "different,a.jpg,%61.jpg,,,\n", "d.csv:2: a.jpg cannot be different from itself"},
		{"keep and reject", head + "\nkeep,a.jpg,,,,\n,x,y,,,\nREJECT,a.jpg,,,,\n", "d.csv:5: a.jpg is to be rejected here and kept in line 3: leave one"},
		{"no column", "decision,item\nkeep,a.jpg\n", "d.csv:1: there is no column keeper: the first line must be decision,item,keeper,by,distance,rule"},
		{"no header", "keep,a.jpg,\n", "d.csv:1: there is no column decision"},
		{"a column twice", "decision,item,keeper,Item\n", "d.csv:1: the column item is there twice"},
		{"all in one column", "\"decision,item,keeper,by,distance,rule\"\n\"keep,a.jpg,,,,\"\n", "d.csv:1: all columns are in one"},
		{"a quote that stays open", head + "keep,\"a.jpg,,,,\n" + strings.Repeat(",x,y,,,\n", 50000), "d.csv:2: the row that begins here or below is longer than 65536 bytes"},
		{"a quote at the end", head + "keep,\"a.jpg", "d.csv:2: "},
		{"a quote within", head + "keep,a\"b.jpg,,,,\n", "d.csv:2: "},
		{"a row without an end", head + "keep," + strings.Repeat("a", 1<<20), "d.csv:2: the row that begins here or below is longer than"},
		{"a long row", head + "keep," + strings.Repeat("a", 66000) + "\n", "d.csv:2: the row that begins here or below is longer than"},
		{"Latin-1", head + "keep,caf\xe9.jpg,,,,\n", "d.csv:2: the row is not UTF-8"},
		{"UTF-16", "\xff\xfed\x00e\x00", "d.csv:1: the file is UTF-16: save it as CSV UTF-8"},
		{"a percent sign", head + "keep,50%.jpg,,,,\n", "d.csv:2: the item: "},
		{"a percent sign of the keeper", head + "different,a,50%,,,\n", "d.csv:2: the keeper: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decisions.Parse(strings.NewReader(tt.text), "d.csv")
			var wrong *decisions.Error
			if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	if _, err := decisions.Read(fsys.OS, t.TempDir()); err == nil || !strings.Contains(err.Error(), "this is no file") {
		t.Errorf("a folder: %v", err)
	}
}

// A person's rows stay, in front and in their order, with columns of their own; those of
// the run are its latest.
func TestWrite(t *testing.T) {
	f := parse(t, "decision;item;keeper;by;distance;rule;note\n"+
		";old.jpg;x.jpg;pdq;1;id;\n"+
		"Keep;z.jpg;;;;;mine; \n"+
		";older.jpg;x.jpg;pdq;1;id;\n"+
		"reject;a.jpg;b.jpg;pdq;4;-pixels;\"a; b\"\n"+
		"different;not here.jpg;b.jpg\n")
	got := written(t, f,
		decisions.Row{Item: "a.jpg", Keeper: "c.jpg", By: "pdq", Distance: "2", Rule: "id"}, // which a person rejects
		decisions.Row{Item: "new.jpg@tile=2,-1", Keeper: "b.jpg", By: "clip", Distance: "0.991", Rule: "-source.bytes"})
	want := "\ufeffdecision;item;keeper;by;distance;rule;note\n" +
		"keep;z.jpg;;;;;mine\n" +
		"reject;a.jpg;b.jpg;pdq;4;%2Dpixels;\"a; b\"\n" +
		"different;not here.jpg;b.jpg;;;;\n" +
		";new.jpg@tile=2%2C-1;b.jpg;clip;0.991;%2Dsource.bytes;\n"
	if got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
	if again := written(t, parse(t, got), decisions.Row{Item: "new.jpg@tile=2,-1", Keeper: "b.jpg", By: "clip", Distance: "0.991", Rule: "-source.bytes"}); again != want {
		t.Errorf("and read again\n%s\nwant\n%s", again, want)
	}
	var all []string
	for r := range f.Rows() {
		all = append(all, r.Decision+" "+r.Item)
	}
	if want := []string{"keep z.jpg", "reject a.jpg", "different not here.jpg"}; !slices.Equal(all, want) {
		t.Errorf("the rows are %q, want %q", all, want)
	}
	fault := errors.New("no more rows")
	if err := f.Write(&bytes.Buffer{}, func(yield func(decisions.Row, error) bool) { yield(decisions.Row{}, fault) }); !errors.Is(err, fault) {
		t.Errorf("an error of the run: %v", err)
	}
	if err := f.Write(full{}, rows()); err == nil {
		t.Error("a disk that is full: no error")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// hostile are names of files, and what follows them in IDs.
var hostile = []string{
	"=cmd|'/C calc'!A0.jpg", "+1+cmd.jpg", "-2+3.png", "@SUM(1).jpg", "==x", "=", "-", "%3Dx", "%", "\t=x", "\r=x", "\n=1", " =x", "\"=x\"", "'=x", "'", "\"",
	"a;=cmd.jpg", "a,=cmd.jpg", "a;\"=cmd\"", "a; '+1", "a|-x", "a\t=x", "a,;,=x", "x,", "x,'", ",", ";", ";;", " ", "  a  ", "\u00a0=x", "＝x", "＠x", "a；b", "a;＝x",
	"caf\xe9=", "\xff=x", "é,-1", "a b - c.jpg", "0001.jpg", "1e5", "new\nline.jpg", "50% off, now.jpg", "日本, -1.jpg", "\ufeff=x", "\u0085=", "a=b-c+d.jpg", "\u3000",
}

// Whatever a file is called, no spreadsheet finds a formula in a cell, whichever separator it
// splits at, and reading gives the same ID back.
func TestHostileNames(t *testing.T) {
	var ids []string
	for _, name := range hostile {
		id := pipeline.EscapeID(name)
		ids = append(ids, id, id+"@tile=512,-5,0", id+"@=x@"+id)
	}
	text := "decision;item;keeper;by;distance;rule\n"
	for _, separator := range []string{",", ";", "\t"} {
		f := parse(t, strings.ReplaceAll(text, ";", separator))
		var all []decisions.Row
		for _, id := range ids {
			all = append(all, decisions.Row{Item: id, Keeper: "k" + id, By: "=x", Distance: "1", Rule: "-" + id})
		}
		out := written(t, f, all...)
		noFormula(t, out)

		// A person decides about each of them.
		lines := strings.SplitAfter(out, "\n")
		for i := range ids {
			lines[i+1] = "different" + lines[i+1]
		}
		f = parse(t, strings.Join(lines, ""))
		for _, id := range ids {
			if !f.Different(id, "k"+id) {
				t.Errorf("%q is not the ID that was read", id)
			}
		}
		again := written(t, f)
		noFormula(t, again)
		if got := parse(t, again); !slices.Equal(slices.Collect(got.Rows()), slices.Collect(f.Rows())) {
			t.Error("what was written again is something else")
		}
	}
}

// A name that begins with an at sign may be typed as it is.
func TestAtSign(t *testing.T) {
	f := parse(t, "decision,item,keeper\nkeep,@b.jpg,\nreject,@c.jpg@tile=1,\n")
	if !f.Keep("%40b.jpg") || !f.Reject("%40c.jpg@tile=1") {
		t.Errorf("read %q", slices.Collect(f.Rows()))
	}
}

// noFormula looks at the cells that a file has for spreadsheets that split it at one or
// another sign, with or without an eye for quotes.
func noFormula(t *testing.T, text string) {
	t.Helper()
	text = strings.TrimPrefix(text, "\ufeff")
	var cells []string
	for line := range strings.Lines(text) {
		for _, separators := range []string{",", ";", "\t", "|", ",;\t|"} {
			cells = append(cells, strings.FieldsFunc(strings.TrimRight(line, "\r\n"), func(r rune) bool { return strings.ContainsRune(separators, r) })...)
		}
	}
	for _, separator := range ",;\t" {
		r := csv.NewReader(strings.NewReader(text))
		r.Comma, r.LazyQuotes, r.FieldsPerRecord = separator, true, -1
		all, err := r.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range all {
			cells = append(cells, row...)
		}
	}
	for _, c := range cells {
		if c := strings.TrimLeft(c, "\"' \u00a0\u3000\u0085\ufeff"); c != "" && strings.ContainsAny(c[:1], "=+-@") || strings.HasPrefix(c, "＝") || strings.HasPrefix(c, "＠") {
			t.Errorf("a cell is %q", c)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("decision,item,keeper,by,distance,rule\nkeep,a.jpg,b.jpg,pdq,3,id\n"))
	f.Add([]byte("\ufeffdecision;item;keeper;note\r\nDIFFERENT;\"a;\"\"=b\"\"\";c;=x\r\n;;;\r\n"))
	f.Add([]byte("decision\titem\tkeeper\nreject\t%3Da%40@tile=1,-2\t\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decisions.Parse(bytes.NewReader(data), "d.csv")
		if err != nil {
			return
		}
		once := written(t, got)
		noFormula(t, once)
		again := parse(t, once)
		meaning := func(f *decisions.File) (all [][3]string) {
			for r := range f.Rows() {
				all = append(all, [3]string{r.Decision, r.Item, r.Keeper})
			}
			return all
		}
		if !slices.Equal(meaning(got), meaning(again)) {
			t.Errorf("%q was read, and then %q", meaning(got), meaning(again))
		}
		if twice := written(t, again); twice != once {
			t.Errorf("%q was written, and then %q", once, twice)
		}
	})
}

func TestReadsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.csv")
	if err := os.WriteFile(path, []byte("decision,item,keeper\nkeep,a,\nkeep,,\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := decisions.Read(fsys.OS, path); err == nil || !strings.HasPrefix(err.Error(), path+":3: ") {
		t.Errorf("got %v", err)
	}
}
