package terminal

import (
	"strings"
	"unicode/utf8"

	"github.com/forgepipe/forgepipe/pipeline"
)

// textWidth is how wide descriptions are: they are read in a terminal, a pager or
// a file.
const textWidth = 80

// Stages lists sources and stages, one a line.
func Stages(sources, stages []pipeline.Info) string {
	var rows [][]string
	for _, in := range append(append([]pipeline.Info{}, sources...), stages...) {
		rows = append(rows, []string{"  " + in.Name, in.Short})
	}
	lines := table(rows)
	text := ""
	for _, group := range []struct {
		title string
		count int
	}{{"sources", len(sources)}, {"stages", len(stages)}} {
		if group.count == 0 {
			continue
		}
		if text != "" {
			text += "\n"
		}
		text += group.title + "\n" + strings.Join(lines[:group.count], "\n") + "\n"
		lines = lines[group.count:]
	}
	return text
}

// Stage describes a stage or source.
func Stage(d pipeline.Description) string {
	var b page
	b.line(0, d.Name+" ("+d.Kind+")")
	b.line(0, d.Short)
	for _, e := range d.Examples {
		b.blank()
		b.text(2, "# "+e.Doc, "# ")
		for l := range strings.SplitSeq(d.Snippet(e), "\n") {
			b.line(2, l)
		}
	}
	inList := false
	for l := range strings.SplitSeq(d.Long, "\n") {
		if l == "" {
			continue
		}
		isItem, hang := strings.HasPrefix(l, "- "), ""
		if isItem {
			hang = "  "
		}
		if !isItem || !inList {
			b.blank()
		}
		b.text(0, l, hang)
		inList = isItem
	}
	b.blank()
	b.line(0, "fields")
	b.fields(2, d.Fields, d)
	if len(d.Fields) == 0 {
		b.line(2, "none")
	}
	if d.Kind == "stage" {
		var keys []string
		for _, k := range pipeline.EntryKeys() {
			keys = append(keys, k.Name)
		}
		b.blank()
		b.text(0, "beside the name of every stage: "+strings.Join(keys, ", "), "")
	}
	if len(d.Makes) > 0 {
		b.blank()
		b.line(0, "makes"+given(d.With))
		for _, m := range d.Makes {
			b.line(2, m.Name+": "+m.Type+given(m.With))
			if !strings.Contains(d.Long, m.Doc) {
				b.text(6, m.Doc, "")
			}
		}
	}
	for _, l := range []struct {
		title string
		names []string
	}{{"needs", d.Needs}, {"uses where an item has them", d.Uses}} {
		if len(l.names) > 0 {
			b.blank()
			b.line(0, l.title+given(d.With))
			b.text(2, strings.Join(l.names, ", "), "")
		}
	}
	if d.Kind == "stage" {
		b.blank()
		b.text(0, "Results are "+d.WhenCached()+".", "")
	}
	return b.String()
}

func given(with string) string {
	if with == "" {
		return ""
	}
	return ", with " + with
}

// page is a text that is put together from lines.
type page struct{ strings.Builder }

func (b *page) blank() { b.WriteByte('\n') }

func (b *page) line(indent int, text string) {
	b.WriteString(strings.Repeat(" ", indent) + text + "\n")
}

// text writes a paragraph in lines of at most textWidth, where the words allow
// it. Lines after the first begin with hang.
func (b *page) text(indent int, text, hang string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case indent+utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > textWidth:
			b.line(indent, line)
			line = hang + word
		default:
			line += " " + word
		}
	}
	b.line(indent, line)
}

func (b *page) fields(indent int, fields []pipeline.FieldDescription, d pipeline.Description) {
	for _, f := range fields {
		head := f.Name + ": " + f.Values
		switch {
		case f.Required:
			head += "; required"
		case f.Default != "":
			head += "; default " + f.Default
		}
		b.text(indent, head, "    ")
		b.text(indent+4, f.Doc, "")
		if len(f.Examples) > 0 {
			b.text(indent+4, "For example: "+strings.Join(f.Examples, "; "), "")
		}
		for _, c := range f.Choices {
			if !strings.Contains(d.Long, c.Doc) {
				b.text(indent+4, c.Name+": "+c.Doc, "  ")
			} else if len(c.Options) > 0 {
				b.line(indent+4, c.Name)
			}
			b.fields(indent+8, c.Options, d)
		}
	}
}
