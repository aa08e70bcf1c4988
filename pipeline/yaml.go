package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// This is the only file that knows the YAML library. It turns a document into
// a tree of nodes with their places, under limits, before anything interprets
// them: a pipeline file may come from anywhere.

// Limits of a pipeline file, and of a file of cases.
const (
	MaxSpecBytes = 1 << 20
	MaxSpecDepth = 64      // levels of mappings and lists
	MaxSpecNodes = 100_000 // values and keys, counted after aliases are followed
)

type nodeKind int

const (
	scalarNode nodeKind = iota
	mapNode
	listNode
	nullNode
)

type yamlNode struct {
	kind      nodeKind
	text      string // of a scalar
	quoted    bool
	line, col int
	file      string      // that it stands in; empty: the one that is being parsed
	vars      []string    // whose values are in text, in order
	keys      []*yamlNode // of a map: scalars
	items     []*yamlNode // values of a map, elements of a list
}

func (n *yamlNode) get(key string) *yamlNode {
	if n == nil {
		return nil
	}
	for i, k := range n.keys {
		if k.text == key {
			return n.items[i]
		}
	}
	return nil
}

func (n *yamlNode) what() string {
	switch n.kind {
	case mapNode:
		return "a mapping"
	case listNode:
		return "a list"
	case nullNode:
		return "nothing"
	}
	return strconv.Quote(clip(n.text, 40))
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "..."
	}
	return s
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document is what a file is expected to hold, for messages.
type document struct{ file, one, least string }

var (
	pipelineDocument = document{"pipeline file", "pipeline", "a pipeline needs at least a source and stages"}
	casesDocument    = document{"test file", "list of cases", "it needs at least a list of cases"}
)

// parseYAML reads one document.
func parseYAML(file string, data []byte, what document) (root *yamlNode, problems []Problem) {
	at := func(line, col int, format string, args ...any) {
		problems = append(problems, Problem{File: file, Line: line, Col: col, Message: fmt.Sprintf(format, args...)})
	}
	if len(data) > MaxSpecBytes {
		at(1, 1, "the file has %d bytes; a %s may have %d", len(data), what.file, MaxSpecBytes)
		return nil, problems
	}
	// The library recovers most of its own panics; a file must not
	// end the program through one that it does not.
	defer func() {
		if p := recover(); p != nil {
			root = nil
			at(1, 1, "the file is not YAML that can be read: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			at(1, 1, "the file is empty: %s", what.least)
			return nil, problems
		}
		m := yamlLine.FindStringSubmatch(err.Error())
		line := 1
		if m != nil && m[1] != "" {
			line, _ = strconv.Atoi(m[1])
		}
		at(line, 1, "%s", strings.TrimPrefix(yamlLine.ReplaceAllString(err.Error(), ""), "yaml: "))
		return nil, problems
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		line, col := 1, 1
		if err == nil && len(second.Content) > 0 {
			line, col = second.Content[0].Line, second.Content[0].Column
		}
		at(line, col, "the file holds a second document: one %s per file", what.one)
		return nil, problems
	}
	c := converter{at: at}
	if len(doc.Content) == 0 {
		at(1, 1, "the file is empty: %s", what.least)
		return nil, problems
	}
	root = c.convert(doc.Content[0], 0)
	if len(problems) > 0 {
		return nil, problems
	}
	return root, nil
}

type converter struct {
	at      func(line, col int, format string, args ...any)
	nodes   int
	stopped bool
}

func (c *converter) convert(y *yaml.Node, depth int) *yamlNode {
	if c.stopped {
		return nil
	}
	c.nodes++
	if c.nodes > MaxSpecNodes {
		c.stopped = true
		c.at(y.Line, y.Column, "the file has more than %d nodes after its aliases are followed", MaxSpecNodes)
		return nil
	}
	if depth > MaxSpecDepth {
		c.stopped = true
		c.at(y.Line, y.Column, "the file is nested more than %d levels deep", MaxSpecDepth)
		return nil
	}
	n := &yamlNode{line: y.Line, col: y.Column}
	switch y.Kind {
	case yaml.AliasNode:
		return c.convert(y.Alias, depth+1)
	case yaml.ScalarNode:
		n.text = y.Value
		n.quoted = y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
		if y.ShortTag() == "!!null" && !n.quoted {
			n.kind = nullNode
		}
	case yaml.SequenceNode:
		n.kind = listNode
		for _, y := range y.Content {
			n.items = append(n.items, c.convert(y, depth+1))
		}
	case yaml.MappingNode:
		n.kind = mapNode
		seen := map[string]int{}
		for i := 0; i+1 < len(y.Content); i += 2 {
			k := c.convert(y.Content[i], depth+1)
			v := c.convert(y.Content[i+1], depth+1)
			if c.stopped {
				return nil
			}
			if k.kind != scalarNode {
				c.at(k.line, k.col, "a key must be a word, not %s", k.what())
				continue
			}
			if k.text == "<<" {
				c.at(k.line, k.col, "merge keys (<<) are not supported: write the fields out")
				continue
			}
			if line, dup := seen[k.text]; dup {
				c.at(k.line, k.col, "the key %q stands twice in one mapping, first in line %d", k.text, line)
				continue
			}
			seen[k.text] = k.line
			n.keys = append(n.keys, k)
			n.items = append(n.items, v)
		}
	}
	return n
}
