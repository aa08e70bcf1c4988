package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	stagesDir  = "stages"
	schemaFile = "pipeline.schema.json"
	made       = "<!-- Made by make docs from %s: change it there. -->\n\n"
)

//go:embed yaml.md.tmpl
var yamlPage string

// pages are the files to write, by their names below docs.
func pages(r pipeline.Registry) (map[string][]byte, error) {
	m := newMarkdown(r)
	files := map[string][]byte{stagesDir + "/README.md": []byte(m.index(r))}
	for _, in := range slices.Concat(r.Sources(), r.Stages()) {
		files[stagesDir+"/"+in.Name+".md"] = []byte(m.stage(in.Describe()))
	}
	schema, err := r.Schema(nil)
	if err != nil {
		return nil, fmt.Errorf("making the schema: %w", err)
	}
	files[schemaFile] = schema
	t, err := template.New("yaml.md").Parse(yamlPage)
	if err != nil {
		return nil, fmt.Errorf("reading the template of yaml.md: %w", err)
	}
	var page bytes.Buffer
	err = t.Execute(&page, map[string]any{
		"Made":     fmt.Sprintf(made, "docs/generate/yaml.md.tmpl and pipeline/keys.go"),
		"Keys":     fieldsHead("key") + m.keys("", pipeline.FileKeys()),
		"Reserved": fieldsHead("key") + m.keys("", pipeline.EntryKeys()),
		"MiB":      pipeline.MaxSpecBytes >> 20,
		"Depth":    pipeline.MaxSpecDepth,
		"Nodes":    pipeline.MaxSpecNodes,
		"Schema":   schemaFile,
	})
	if err != nil {
		return nil, fmt.Errorf("writing yaml.md: %w", err)
	}
	files["yaml.md"] = page.Bytes()
	return files, nil
}

// index lists what there is.
func (m markdown) index(r pipeline.Registry) string {
	var b strings.Builder
	fmt.Fprintf(&b, made, "the declarations of the stages")
	b.WriteString("# Stages and sources\n\n")
	b.WriteString("A pipeline has one source, which offers items, and a chain of stages, which every item goes through from top to bottom. " +
		"[The pipeline file](../yaml.md) says how they are put together. `forgepipe list` and `forgepipe describe NAME` tell the same in a terminal.\n")
	for _, group := range []struct {
		title string
		infos []pipeline.Info
	}{{"source", r.Sources()}, {"stage", r.Stages()}} {
		b.WriteString("\n## " + sentence(group.title) + "s\n\n" + head(group.title, ""))
		for _, in := range group.infos {
			b.WriteString(row(fmt.Sprintf("[`%s`](%s.md)", in.Name, in.Name), m.prose(in.Short)))
		}
	}
	b.WriteString("\n## Attributes that every item has\n\nConditions and rules can use them without any stage.\n\n" + head("attribute", "type", ""))
	for _, a := range pipeline.BuiltinAttributes() {
		b.WriteString(row(code(a.Name), a.Type.String(), m.prose(a.Doc)))
	}
	return b.String()
}

// stage is the page of one stage or source.
func (m markdown) stage(d pipeline.Description) string {
	var b strings.Builder
	fmt.Fprintf(&b, made, "the declaration in stages/"+d.Name)
	fmt.Fprintf(&b, "# %s\n\n%s\n", d.Name, m.prose(d.Short))
	for _, e := range d.Examples {
		fmt.Fprintf(&b, "\n%s\n\n```yaml\n%s\n```\n", m.prose(e.Doc), d.Snippet(e))
	}
	b.WriteString("\n## Fields\n\n" + m.fields(d.Fields))
	for _, f := range d.Fields {
		if len(f.Choices) > 0 {
			b.WriteString(m.choices(d, f))
		}
	}
	fmt.Fprintf(&b, "\nBeside the %s, its entry can have the [reserved keys](../yaml.md#entries).\n", d.Kind)
	if d.Long != "" {
		fmt.Fprintf(&b, "\n## Details\n\n%s\n", m.prose(d.Long))
	}
	if len(d.Makes)+len(d.Needs)+len(d.Uses) > 0 {
		b.WriteString("\n## Attributes and vectors\n" + m.attributes(d))
	}
	if d.Kind == "stage" {
		b.WriteString("\n## Running again\n\n" + m.again(d) + "\n")
	}
	b.WriteString("\n[All stages and sources](README.md)\n")
	return b.String()
}

// again says what another run has of the stage's results.
func (m markdown) again(d pipeline.Description) string {
	const known = "an item that the stage has seen with this configuration is not computed again."
	switch d.Cached {
	case "never":
		return "Results are not cached: the stage sees every item in every run."
	case "sometimes":
		return "Results are " + m.prose(d.WhenCached()) + ": " + known
	}
	return "Results are cached: " + known
}

// fieldsHead is the head of a table of fields, or of what is like them.
func fieldsHead(what string) string { return head(what, "takes", "default", "") }

func (m markdown) fields(fields []pipeline.FieldDescription) string {
	if len(fields) == 0 {
		return "It has none.\n"
	}
	text := fieldsHead("field")
	for _, f := range fields {
		text += m.field(f.Name, f)
	}
	return text
}

// keys is the table of keys that are no stage's, and of those below them.
func (m markdown) keys(above string, keys []pipeline.Key) string {
	text := ""
	for _, k := range keys {
		text += m.field(above+k.Name, k.Describe()) + m.keys(above+k.Name+".", k.Keys)
	}
	return text
}

// field is the row of a field or key.
func (m markdown) field(name string, f pipeline.FieldDescription) string {
	takes := m.prose(f.Values)
	if words := f.Words(); words != nil {
		takes = codes(words)
		if f.List {
			takes = "one or a list of " + takes
		}
	}
	def := ""
	switch {
	case f.Required:
		def = "required"
	case f.Default != "":
		def = code(quoted(f.Default))
	}
	text := m.prose(f.Doc)
	if len(f.Examples) > 0 {
		var list []string
		for _, e := range f.Examples {
			list = append(list, quoted(e))
		}
		text += " For example " + codes(list) + "."
	}
	return row(code(name), takes, def, text)
}

// choices are the tables of the words of a field, and of their options.
func (m markdown) choices(d pipeline.Description, f pipeline.FieldDescription) string {
	words, options, first := "", "", ""
	for _, c := range f.Choices {
		if !strings.Contains(d.Long, c.Doc) {
			words += row(code(c.Name), m.prose(closed(c.Doc)))
		}
		for _, o := range c.Options {
			options += m.field(c.Name+": "+o.Name, o)
			if first == "" {
				first = fmt.Sprintf("{%s: {%s: ...}}", c.Name, o.Name)
			}
		}
	}
	text := ""
	if words != "" {
		text += "\nThe words of " + code(f.Name) + ":\n\n" + head("word", "") + words
	}
	if options != "" {
		text += "\nThe words of " + code(f.Name) + " have options, written as " + code(first) + ":\n\n" + fieldsHead("option") + options
	}
	return text
}

func (m markdown) attributes(d pipeline.Description) string {
	with := ""
	if d.With != "" {
		with = "with " + code(d.With) + " "
	}
	text := ""
	if len(d.Makes) > 0 {
		differ := slices.ContainsFunc(d.Makes, func(a pipeline.MadeDescription) bool { return a.With != "" })
		told := !slices.ContainsFunc(d.Makes, func(a pipeline.MadeDescription) bool { return !strings.Contains(d.Long, a.Doc) })
		titles := []string{"name", "type"}
		if differ {
			titles = append(titles, "made with")
		}
		if !told {
			titles = append(titles, "")
		}
		text += "\n" + sentence(with+"it makes:") + "\n\n" + head(titles...)
		for _, a := range d.Makes {
			cells := []string{code(a.Name), a.Type}
			if differ {
				with := "any"
				if a.With != "" {
					with = code(a.With)
				}
				cells = append(cells, with)
			}
			if !told {
				cells = append(cells, m.prose(closed(a.Doc)))
			}
			text += row(cells...)
		}
	}
	if len(d.Needs) > 0 {
		text += "\n" + sentence(with+"it needs "+codes(d.Needs)+": a pipeline in which no stage before makes that is refused.") + "\n"
	}
	if len(d.Uses) > 0 {
		text += "\n" + sentence(with+"it uses "+codes(d.Uses)+" where an item has them, and does without where not.") + "\n"
	}
	return text
}
