package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// Names of what a checkpoint may call. Everything else is refused.
const (
	orderedDict      class = "collections.OrderedDict"
	rebuildTensor    class = "torch._utils._rebuild_tensor_v2"
	rebuildTensorOld class = "torch._utils._rebuild_tensor"
	rebuildParameter class = "torch._utils._rebuild_parameter"
	torchSize        class = "torch.Size"
	pythonSet        class = "builtins.set"
	pythonSetOld     class = "__builtin__.set"
)

// torchLists is what TorchScript's typed lists begin with: they are lists.
const torchLists = "torch.jit._pickle.build_"

// torchScript is what the classes of a TorchScript archive begin with. They hold
// attributes, and are taken for dictionaries of these.
const torchScript = "__torch__."

// storages are the types of torch's typed storages.
var storages = map[class]onnx.ElementType{
	"torch.FloatStorage": onnx.Float32, "torch.DoubleStorage": onnx.Float64, "torch.HalfStorage": onnx.Float16, "torch.BFloat16Storage": onnx.BFloat16,
	"torch.LongStorage": onnx.Int64, "torch.IntStorage": onnx.Int32, "torch.ShortStorage": onnx.Int16, "torch.CharStorage": onnx.Int8, "torch.ByteStorage": onnx.Uint8,
	"torch.BoolStorage": onnx.Bool,
}

// A storage is the numbers that tensors are views of.
type storage struct {
	kind     onnx.ElementType
	key      string
	elements int
	data     []byte // nil in a legacy file, where it follows
	views    []*Tensor
}

// call is what a pickle makes by calling a class.
func call(callee, args any) (any, error) {
	name, ok := callee.(class)
	if !ok {
		return nil, fmt.Errorf("the pickle calls %s", kindOf(callee))
	}
	a, ok := args.(*tuple)
	if !ok {
		return nil, fmt.Errorf("the pickle calls %s with %s", name, kindOf(args))
	}
	switch {
	case name == orderedDict:
		return newDict(a)
	case name == rebuildTensor || name == rebuildTensorOld:
		return newTensor(a.items)
	case name == rebuildParameter:
		if len(a.items) == 0 {
			return nil, errors.New("the pickle makes a parameter of nothing")
		}
		return a.items[0], nil
	case name == torchSize || name == pythonSet || name == pythonSetOld || strings.HasPrefix(string(name), torchLists):
		if len(a.items) == 1 {
			return a.items[0], nil
		}
		return a, nil
	case strings.HasPrefix(string(name), torchScript):
		return &dict{}, nil
	}
	return nil, fmt.Errorf("the pickle calls %s, which is not needed for weights and is not run: save the network's state_dict alone (torch.save(net.state_dict(), ...)), or convert the file to safetensors where you trust it", name)
}

// newDict is an OrderedDict, empty or of a list of pairs.
func newDict(args *tuple) (any, error) {
	d := &dict{}
	if len(args.items) == 0 {
		return d, nil
	}
	list, ok := args.items[0].(*tuple)
	if !ok {
		return nil, fmt.Errorf("the pickle makes a dictionary of %s", kindOf(args.items[0]))
	}
	for _, it := range list.items {
		pair, ok := it.(*tuple)
		if !ok || len(pair.items) != 2 {
			return nil, errors.New("the pickle makes a dictionary of something that is no pair")
		}
		d.set(pair.items[0], pair.items[1])
	}
	return d, nil
}

// build gives what is on the stack a state: TorchScript's objects their attributes. What
// an OrderedDict has beside its items (_metadata) is of no use here.
func (u *unpickler) build(state any) error {
	v, err := u.top()
	if err != nil {
		return err
	}
	s, ok := state.(*dict)
	if !ok {
		return nil
	}
	d, ok := v.(*dict)
	if !ok {
		return fmt.Errorf("the pickle gives %s a state", kindOf(v))
	}
	if len(d.keys) == 0 {
		d.keys, d.values = s.keys, s.values
	}
	return nil
}

// newTensor is a view of a storage: its offset, size and strides, in elements.
func newTensor(args []any) (any, error) {
	if len(args) < 4 {
		return nil, errors.New("the pickle makes a tensor of too little")
	}
	s, ok := args[0].(*storage)
	if !ok {
		return nil, fmt.Errorf("the pickle makes a tensor of %s", kindOf(args[0]))
	}
	offset, ok := args[1].(int)
	if !ok {
		return nil, errors.New("the pickle makes a tensor at no place")
	}
	shape, err := ints(args[2])
	if err != nil {
		return nil, err
	}
	strides, err := ints(args[3])
	if err != nil {
		return nil, err
	}
	t := &Tensor{Type: s.kind, Shape: shape}
	if err := t.view(s, offset, strides); err != nil {
		return nil, err
	}
	return t, nil
}

// view makes t the part of s that begins at offset.
func (t *Tensor) view(s *storage, offset int, strides []int) error {
	outside := func() error {
		return fmt.Errorf("the pickle makes a tensor of the shape %v with steps of %v at %d, which does not lie in its storage of %d numbers", t.Shape, strides, offset, s.elements)
	}
	n, ok := elements(t.Shape)
	// More elements than there are would be the same ones several times.
	if !ok || len(strides) != len(t.Shape) || offset < 0 || offset > s.elements || n > s.elements {
		return outside()
	}
	last, dense := offset, 1
	for i := len(t.Shape) - 1; n > 0 && i >= 0; i-- {
		d, step := t.Shape[i], strides[i]
		if step < 0 || d > 1 && step > (math.MaxInt-last)/(d-1) {
			return outside()
		}
		last += (d - 1) * step
		if d > 1 && step != dense {
			t.strides = strides
		}
		dense *= d
	}
	if n > 0 && last >= s.elements {
		return outside()
	}
	if s.data != nil || s.elements == 0 {
		t.data = s.data[bytesOf(offset, t.Type):]
		return nil
	}
	t.offset = offset
	s.views = append(s.views, t)
	return nil
}

// give lets the tensors of s look at its data.
func (s *storage) give(data []byte) {
	s.data = data
	for _, t := range s.views {
		t.data = data[bytesOf(t.offset, t.Type):]
	}
	s.views = nil
}

func ints(v any) ([]int, error) {
	t, ok := v.(*tuple)
	if !ok {
		return nil, fmt.Errorf("the pickle has %s where a tensor's size should be", kindOf(v))
	}
	if len(t.items) > maxDims {
		return nil, fmt.Errorf("the pickle makes a tensor of %d dimensions", len(t.items))
	}
	var out []int
	for _, it := range t.items {
		n, ok := it.(int)
		if !ok {
			return nil, fmt.Errorf("the pickle has %s in a tensor's size", kindOf(it))
		}
		out = append(out, n)
	}
	return out, nil
}

// storageOf reads what a pickle says of a storage: "storage", its class, its key, the
// device it was on, and how many elements it has.
func storageOf(id any) (*storage, error) {
	t, ok := id.(*tuple)
	if !ok || len(t.items) < 5 || t.items[0] != "storage" {
		return nil, errors.New("the pickle wants something from outside that is no storage")
	}
	name, isClass := t.items[1].(class)
	key, isText := t.items[2].(string)
	n, isInt := t.items[4].(int)
	if !isClass || !isText || !isInt {
		return nil, errors.New("the pickle does not say what storage it wants")
	}
	s := &storage{kind: storages[name], key: key, elements: n}
	if s.kind == onnx.Undefined {
		return nil, fmt.Errorf("the pickle wants a storage of %s, a type that is not read", name)
	}
	if _, ok := elements([]int{n}); !ok {
		return nil, fmt.Errorf("the pickle wants a storage of %d numbers", n)
	}
	return s, nil
}

// found collects the tensors of the value that a pickle gave.
func (f *File) found(v any) error {
	root, ok := v.(*dict)
	if !ok {
		return fmt.Errorf("it holds %s and no dictionary of tensors: save the network's state_dict", kindOf(v))
	}
	d, within := unwrap(root)
	f.Within = strings.Join(within, ".")
	c := collector{f: f, seen: map[string]bool{}}
	return c.dict(d, "", 0)
}

// unwrap finds the dictionary that a training script put the weights into.
func unwrap(d *dict) (*dict, []string) {
	var within []string
	for range maxWrapped {
		i := slices.IndexFunc(wrappers, func(key string) bool {
			inner, ok := d.values[key].(*dict)
			return ok && hasTensors(inner, map[*dict]bool{})
		})
		if i < 0 {
			break
		}
		// A network may have a part that is called "model": its tensors have others beside
		// them.
		direct := false
		for _, v := range d.values {
			_, is := v.(*Tensor)
			direct = direct || is
		}
		if direct {
			break
		}
		within = append(within, wrappers[i])
		d = d.values[wrappers[i]].(*dict)
	}
	return d, within
}

// hasTensors tells whether there is a tensor in d, or within what is in it.
func hasTensors(d *dict, seen map[*dict]bool) bool {
	if seen[d] {
		return false
	}
	seen[d] = true
	for _, key := range d.keys {
		switch v := d.values[key].(type) {
		case *Tensor:
			return true
		case *dict:
			if hasTensors(v, seen) {
				return true
			}
		}
	}
	return false
}

const (
	// maxVisits bounds how many values are looked at: a pickle can have one dictionary in
	// many places.
	maxVisits = maxOps
	// maxName bounds a name, in bytes: within each other, keys can become long.
	maxName = 1 << 10
)

type collector struct {
	f      *File
	seen   map[string]bool
	visits int
}

func (c *collector) dict(d *dict, prefix string, depth int) error {
	if depth > maxWrapped {
		return fmt.Errorf("dictionaries lie more than %d deep within each other", maxWrapped)
	}
	for _, key := range d.keys {
		if c.visits++; c.visits > maxVisits {
			return fmt.Errorf("there are more than %d values in its dictionaries", maxVisits)
		}
		name := prefix + key
		switch v := d.values[key].(type) {
		case *Tensor:
			switch {
			case len(name) > maxName:
				return fmt.Errorf("a tensor's name has %d bytes", len(name))
			case c.seen[name]:
				return fmt.Errorf("two tensors are called %q", name)
			}
			c.seen[name] = true
			t := *v // the same one may have several names
			t.Name = name
			c.f.Tensors = append(c.f.Tensors, t)
		case *dict:
			if len(name) > maxName {
				return fmt.Errorf("a key has %d bytes", len(name))
			}
			if err := c.dict(v, name+".", depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
