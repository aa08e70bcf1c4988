package pipeline

import (
	"maps"
	"slices"
)

// Variable is a ${NAME} of a pipeline file.
type Variable struct {
	Name     string // without ${ and }
	Required bool   // some place has no default for it
}

// Variables lists the variables of a pipeline file, by name. Nothing of the file is
// checked but that it is YAML; the error is a *SpecError.
func Variables(file string, data []byte) ([]Variable, error) {
	root, problems := parseYAML(file, data, pipelineDocument)
	if len(problems) > 0 {
		return nil, &SpecError{problems}
	}
	required := map[string]bool{}
	findVariables(root, required)
	var all []Variable
	for _, name := range slices.Sorted(maps.Keys(required)) {
		all = append(all, Variable{name, required[name]})
	}
	return all, nil
}

// findVariables adds the variables of a node, and whether they are required.
func findVariables(n *yamlNode, required map[string]bool) {
	if n.kind == scalarNode {
		var names []string
		all := Vars{Env: func(string) (string, bool) { return "x", true }}
		_, fault := all.Expand(n.text, func(name string) { names = append(names, name) })
		for _, name := range names {
			others := Vars{Env: func(other string) (string, bool) { return "x", other != name }}
			_, err := others.Expand(n.text, nil)
			required[name] = required[name] || fault == nil && err != nil
		}
	}
	for _, c := range n.items {
		findVariables(c, required)
	}
}
