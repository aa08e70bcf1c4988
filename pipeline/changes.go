package pipeline

import (
	"path/filepath"
	"slices"
)

// changes is what a case changes in a pipeline file. Nil changes nothing.
type changes struct {
	file     string
	registry Registry
	set      map[string]*yamlNode // the variables, and where their values stand
	source   []*yamlNode          // fields of the source; a later one takes the place of an earlier
	used     map[string]bool      // variables that the file of cases asks for
}

func (v *changes) uses(name string) bool {
	return v != nil && v.set[name] == nil && v.used[name]
}

// setter says where a variable is given its value, and how.
func (v *changes) setter(name string) (at *yamlNode, who string) {
	if v != nil && v.set[name] != nil {
		return v.set[name], "set"
	}
	return &yamlNode{line: 1, col: 1}, "--set"
}

// apply replaces fields of the source. It comes before variables are expanded:
// those of a value that is replaced need not be set.
func (v *changes) apply(p *parser, root *yamlNode) {
	source := root.get("source")
	if v == nil || source == nil || source.kind != mapNode {
		return // what is wrong is said later
	}
	at := slices.IndexFunc(source.keys, func(k *yamlNode) bool { return !slices.Contains(keyNames(entryKeys()), k.text) })
	if at < 0 {
		return
	}
	fields := source.items[at]
	if fields.kind == nullNode {
		fields = &yamlNode{kind: mapNode, line: fields.line, col: fields.col}
		source.items[at] = fields
	}
	if fields.kind != mapNode {
		return
	}
	in, _ := v.registry.Source(source.keys[at].text)
	for _, fieldsOf := range v.source {
		for i, k := range fieldsOf.keys {
			f, _ := in.field(k.text)
			value := v.take(fieldsOf.items[i], f.Type == FieldPath)
			old := slices.IndexFunc(fields.keys, func(o *yamlNode) bool { return o.text == k.text })
			if old < 0 {
				fields.keys, fields.items = append(fields.keys, v.take(k, false)), append(fields.items, value)
				continue
			}
			p.mention(fields.items[old])
			fields.items[old] = value
		}
	}
}

// mention takes the variables of a value that is replaced for used: the pipeline
// has them.
func (p *parser) mention(n *yamlNode) {
	if n.kind == scalarNode && n.file == "" {
		_, _ = p.vars.Expand(n.text, func(name string) { p.used[name] = true })
	}
	for _, c := range n.items {
		p.mention(c)
	}
}

// take copies a node of the file of cases into the pipeline's tree. A path is
// relative to the file of cases.
func (v *changes) take(n *yamlNode, path bool) *yamlNode {
	out := *n
	out.file = v.file
	if path && n.kind == scalarNode {
		out.text = beside(v.file, n.text)
	}
	out.keys, out.items = nil, nil
	for _, k := range n.keys {
		out.keys = append(out.keys, v.take(k, false))
	}
	for _, c := range n.items {
		out.items = append(out.items, v.take(c, false))
	}
	return &out
}

// beside is a path that is relative to the folder of a file.
func beside(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}
