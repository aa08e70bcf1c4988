package filter

import (
	"errors"
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"github.com/forgepipe/forgepipe/internal/suggest"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Bounds of a condition. With them, none takes longer than some microseconds: it
// has no loops, and what it can build is no longer than its own text and the
// attributes it reads.
const (
	maxText    = 4096 // bytes
	maxNodes   = 1000
	maxArrays  = 1 << 16 // elements
	maxPattern = 5000    // instructions of a regular expression
)

// functions are the built-in functions that a condition may call. Others loop,
// make long texts (repeat) or read the clock (now).
var functions = []string{
	"abs", "ceil", "floor", "round", "min", "max", "mean", "median", "int", "float", "string",
	"len", "lower", "upper", "trim", "trimPrefix", "trimSuffix", "hasPrefix", "hasSuffix", "indexOf", "lastIndexOf",
}

// fault is an error at a place in the text.
type fault struct {
	offset int // characters
	msg    string
}

func (f *fault) Error() string { return f.msg }

func faultAt(n ast.Node, format string, args ...any) *fault {
	return &fault{offset: start(n), msg: fmt.Sprintf(format, args...)}
}

// use is an attribute that a condition names.
type use struct {
	name   string
	offset int
}

// analyse parses the text, refuses what conditions may not hold, and lists the
// attributes that it names, each once, in the order of the text.
func analyse(text string) ([]use, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, &fault{msg: "there is no condition"}
	case len(text) > maxText:
		return nil, &fault{msg: fmt.Sprintf("the condition has %d bytes, the limit is %d: split it into several filters", len(text), maxText)}
	case !utf8.ValidString(text):
		return nil, &fault{msg: "the condition is not UTF-8"}
	}
	c := conf.CreateNew()
	c.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(text, c)
	if err != nil {
		return nil, asFault(err)
	}
	var a analysis
	a.visit(tree.Node)
	if a.err != nil {
		return nil, a.err
	}
	return a.uses, nil
}

type analysis struct {
	uses []use
	err  *fault
}

func (a *analysis) fail(n ast.Node, format string, args ...any) {
	if a.err == nil {
		a.err = faultAt(n, format, args...)
	}
}

func (a *analysis) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.StringNode:
	case *ast.IdentifierNode, *ast.MemberNode:
		name, ok := attribute(n)
		if !ok {
			a.fail(n, "only attributes have parts, as in source.width; write nothing in brackets behind a value")
			return
		}
		if !slices.ContainsFunc(a.uses, func(u use) bool { return u.name == name }) {
			a.uses = append(a.uses, use{name, start(n)})
		}
	case *ast.UnaryNode:
		a.visit(n.Node)
	case *ast.BinaryNode:
		switch n.Operator {
		case "..":
			a.fail(n, "ranges are not possible: write 1 <= x && x <= 3")
			return
		case "matches":
			a.pattern(n.Right)
		}
		a.visit(n.Left)
		a.visit(n.Right)
	case *ast.ConditionalNode:
		a.visit(n.Cond)
		a.visit(n.Exp1)
		a.visit(n.Exp2)
	case *ast.ArrayNode:
		for _, e := range n.Nodes {
			a.visit(e)
		}
	case *ast.BuiltinNode:
		a.call(n, n.Name, n.Arguments)
	case *ast.CallNode:
		name, ok := attribute(n.Callee)
		if !ok {
			name = n.Callee.String()
		}
		a.call(n.Callee, name, n.Arguments)
	default:
		a.fail(n, "a condition may hold attributes, numbers, texts, lists, operators, a choice (a ? b : c) and these functions: %s", strings.Join(functions, ", "))
	}
}

// pattern bounds a regular expression, whose time is its size times the length
// of the text that it is matched with.
func (a *analysis) pattern(n ast.Node) {
	s, ok := n.(*ast.StringNode)
	if !ok {
		a.fail(n, "the pattern of matches must be a text in quotes")
		return
	}
	re, err := syntax.Parse(s.Value, syntax.Perl)
	if err != nil {
		a.fail(n, "%v", err)
		return
	}
	if prog, err := syntax.Compile(re.Simplify()); err == nil && len(prog.Inst) > maxPattern {
		a.fail(n, "the pattern is too large: %d steps, the limit is %d", len(prog.Inst), maxPattern)
	}
}

func (a *analysis) call(n ast.Node, name string, args []ast.Node) {
	if !slices.Contains(functions, name) {
		a.fail(n, "there is no function %s%s (there are %s)", name, suggest.DidYouMean(name, functions), strings.Join(functions, ", "))
		return
	}
	for _, e := range args {
		a.visit(e)
	}
}

// attribute is the dotted name that a node stands for, if it is one.
func attribute(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return n.Value, !strings.HasPrefix(n.Value, "$") // $env would hide what is read
	case *ast.MemberNode:
		part, ok := n.Property.(*ast.StringNode)
		if !ok || n.Optional || n.Method {
			return "", false
		}
		of, ok := attribute(n.Node)
		return of + "." + part.Value, ok
	}
	return "", false
}

// start is where a node begins; the library's own place of a dotted name is its
// last part.
func start(n ast.Node) int {
	for {
		m, ok := n.(*ast.MemberNode)
		if !ok {
			return n.Location().From
		}
		n = m.Node
	}
}

// flatten makes one identifier of a dotted name, so that attributes can be
// looked up by their full names.
type flatten struct{}

func (flatten) Visit(n *ast.Node) {
	if m, ok := (*n).(*ast.MemberNode); ok {
		if name, ok := attribute(m); ok {
			ast.Patch(n, &ast.IdentifierNode{Value: name})
		}
	}
}

// compile checks the condition against the attributes that are known to exist
// and compiles it; open says that there may be others.
func compile(text string, known map[string]pipeline.Type, open bool) (*vm.Program, []use, error) {
	uses, err := analyse(text)
	if err != nil {
		return nil, nil, err
	}
	env := types.Map{}
	for _, u := range uses {
		t, ok := known[u.name]
		if !ok && !open {
			names := slices.Sorted(maps.Keys(known))
			return nil, nil, &fault{u.offset, fmt.Sprintf("no stage before this one makes the attribute %q%s (there are %s)", u.name, suggest.DidYouMean(u.name, names), strings.Join(names, ", "))}
		}
		env[u.name] = typeOf(t)
	}
	options := []expr.Option{
		expr.Env(env), expr.AsBool(), expr.MaxNodes(maxNodes), expr.Patch(flatten{}),
		expr.DisableAllBuiltins(),
	}
	for _, f := range functions {
		options = append(options, expr.EnableBuiltin(f))
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, nil, asFault(err)
	}
	return program, uses, nil
}

// typeOf is an attribute's type in conditions, and valueOf its value. Whole
// numbers are ints there, as those written in the condition are.
func typeOf(t pipeline.Type) types.Type {
	switch t {
	case pipeline.TypeBool:
		return types.Bool
	case pipeline.TypeInt:
		return types.Int
	case pipeline.TypeFloat:
		return types.Float64
	case pipeline.TypeString, pipeline.TypeHash:
		return types.String
	}
	return types.Any
}

func valueOf(v pipeline.Value) any {
	if v.Type() == pipeline.TypeInt {
		return int(v.Int())
	}
	return v.Any()
}

// asFault takes the place and the first line from an error of the library, which
// otherwise draws the text with a marker below.
func asFault(err error) error {
	f := &fault{msg: err.Error()}
	var fe *file.Error
	if errors.As(err, &fe) {
		f.offset, f.msg = fe.From, fe.Message
	}
	f.msg, _, _ = strings.Cut(f.msg, "\n")
	return f
}
