package main

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/forgepipe/forgepipe/pipeline"
)

// markdown writes the plain text of declarations as Markdown: names, paths and
// settings such as "pick: best" become code, and what Markdown would take for
// markup is escaped.
type markdown struct {
	words map[string][]string // the words that a field of some stage can have
}

func newMarkdown(r pipeline.Registry) markdown {
	m := markdown{words: map[string][]string{"device": {"host", "auto", "gpu", "gpu:1"}}}
	for _, in := range slices.Concat(r.Sources(), r.Stages()) {
		for _, f := range in.Fields {
			m.words[f.Name] = append(m.words[f.Name], f.Enum...)
			if f.Type == pipeline.FieldBool {
				m.words[f.Name] = append(m.words[f.Name], "true", "false")
			}
		}
	}
	return m
}

// prose writes paragraphs and lists.
func (m markdown) prose(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		item, isItem := strings.CutPrefix(l, "- ")
		if isItem {
			l = item
		}
		l = m.line(l)
		if isItem {
			name, rest, _ := strings.Cut(l, ": ")
			if rest != "" && !strings.ContainsAny(name, " `") {
				l = code(name) + ": " + rest
			}
			l = "- " + l
		}
		lines[i] = l
	}
	return strings.Join(lines, "\n")
}

// row writes the cells of a table, which are Markdown.
func row(cells ...string) string {
	text := "|"
	for _, c := range cells {
		text += " " + strings.NewReplacer("|", `\|`, "\n", " ").Replace(c)
		text = strings.TrimRight(text, " ") + " |"
	}
	return text + "\n"
}

// head writes the head of a table.
func head(cells ...string) string {
	return row(cells...) + "|" + strings.Repeat("---|", len(cells)) + "\n"
}

// name is what is written as code: a path or name of a file, an attribute with a
// dot, a name with an underscore, a placeholder.
var (
	name   = regexp.MustCompile(`^(\.{0,2}/)?[\w.*{}/@%=,+-]*$`)
	inside = regexp.MustCompile(`[A-Za-z]\.[A-Za-z]|\w_\w|[\w*]/|/[\w*]|^\.[a-z]+$|\{\w+\}|\*\*`)
)

func (m markdown) line(text string) string {
	words := strings.Split(text, " ")
	var out []string
	for i := 0; i < len(words); i++ {
		lead, core, tail := trim(words[i])
		if key, ok := strings.CutSuffix(words[i][len(lead):], ":"); ok && i+1 < len(words) {
			if _, value, end := trim(words[i+1]); slices.Contains(m.words[key], value) {
				out = append(out, lead+code(key+": "+value)+end)
				i++
				continue
			}
		}
		if name.MatchString(core) && inside.MatchString(core) {
			out = append(out, lead+code(core)+tail)
			continue
		}
		out = append(out, escape(words[i]))
	}
	return strings.Join(out, " ")
}

// trim takes apart what stands around a word.
func trim(word string) (lead, core, tail string) {
	core = strings.TrimLeft(word, `("`)
	lead = word[:len(word)-len(core)]
	core = strings.TrimRight(core, `.,;:)"`)
	return lead, core, word[len(lead)+len(core):]
}

var markup = strings.NewReplacer(`\`, `\\`, "*", `\*`, "<", "&lt;", "`", "\\`", "_", `\_`)

func escape(text string) string { return markup.Replace(text) }

func code(text string) string {
	if strings.Contains(text, "`") {
		return "`` " + text + " ``"
	}
	return "`" + text + "`"
}

func codes(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = code(s)
	}
	return strings.Join(out, ", ")
}

// plain is what YAML takes for a text without quotes, also within braces. A list
// or a mapping is YAML already.
var plain = regexp.MustCompile(`^[\w./$-][\w./$ :%+-]*$|^[.]`)

// quoted writes a value as it has to be typed.
func quoted(value string) string {
	if strings.HasPrefix(value, "[") || plain.MatchString(value) && !strings.Contains(value, ": ") {
		return value
	}
	if strings.Contains(value, `"`) {
		return "'" + value + "'"
	}
	return `"` + value + `"`
}

// sentence begins with a capital letter, but where it begins with a name such as
// pHash.
func sentence(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	if second, _ := utf8.DecodeRuneInString(text[n:]); unicode.IsUpper(second) {
		return text
	}
	return string(unicode.ToUpper(r)) + text[n:]
}

// closed is a sentence with its full stop.
func closed(text string) string { return strings.TrimSuffix(sentence(text), ".") + "." }
