package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// A pickle is a program for a machine with a stack, after Python's pickletools. Of what
// it can do, this one builds values and no more: a class is a name, calling one makes a
// value for the few that checkpoints need and is an error otherwise. So a pickle cannot
// run anything, read anything or build anything that its own bytes do not pay for.

// The values, beside nil, bool, int, *big.Int, float64, string and []byte.
type (
	// tuple is also a list or a set: a pointer, since it grows after it was memorised.
	tuple struct{ items []any }
	// dict keeps the order in which keys were set. Those that are no text or number are
	// left out, with their values.
	dict struct {
		keys   []string
		values map[string]any
	}
	// class is what a pickle can call, by its full name.
	class string
	// mark begins the values of a tuple, list or dict on the stack.
	mark struct{}
)

func (d *dict) set(key, value any) {
	var name string
	switch k := key.(type) {
	case string:
		name = k
	case int:
		name = strconv.Itoa(k)
	default:
		return
	}
	if _, ok := d.values[name]; !ok {
		if d.values == nil {
			d.values = map[string]any{}
		}
		d.keys = append(d.keys, name)
	}
	d.values[name] = value
}

// maxOps bounds how many instructions a pickle has. A tensor takes about 30.
const maxOps = 1 << 19

// unpickler runs one pickle after the other.
type unpickler struct {
	in      []byte // what follows
	stack   []any
	memo    map[uint64]any
	ops     int
	persist func(id any) (any, error) // gives what lies outside of the pickle
}

var errEnds = errors.New("the pickle ends too early: it was not copied whole, or is damaged")

// next runs the pickle that begins here, and returns its value.
func (u *unpickler) next() (any, error) {
	u.stack, u.memo = nil, map[uint64]any{}
	for {
		op, err := u.byte()
		if err != nil {
			return nil, err
		}
		if u.ops++; u.ops > maxOps {
			return nil, fmt.Errorf("the pickle has more than %d instructions", maxOps)
		}
		if op == '.' {
			return u.pop()
		}
		if err := u.run(op); err != nil {
			return nil, err
		}
	}
}

// run does what one instruction says.
func (u *unpickler) run(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.byte()
		if err == nil && v > 5 {
			err = fmt.Errorf("the pickle has the protocol %d, which is not known", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.take(8)
		return err
	case '(':
		return u.push(mark{})
	case '0':
		_, err := u.pop()
		return err
	case '1':
		_, err := u.marked()
		return err
	case '2':
		v, err := u.top()
		return u.pushed(v, err)
	case 'c': // GLOBAL
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		return u.pushed(class(module+"."+name), err)
	case 0x93: // STACK_GLOBAL
		name, err := u.popText()
		if err != nil {
			return err
		}
		module, err := u.popText()
		return u.pushed(class(module+"."+name), err)
	case 'R', 0x81: // REDUCE, NEWOBJ
		args, err := u.pop()
		if err != nil {
			return err
		}
		callee, err := u.pop()
		if err != nil {
			return err
		}
		return u.pushed(call(callee, args))
	case 'b': // BUILD
		state, err := u.pop()
		if err != nil {
			return err
		}
		return u.build(state)
	case 'Q': // BINPERSID
		id, err := u.pop()
		if err != nil {
			return err
		}
		return u.pushed(u.persist(id))
	}
	if done, err := u.memory(op); done {
		return err
	}
	if done, err := u.container(op); done {
		return err
	}
	return u.literal(op)
}

// memory runs what writes values down and takes them again.
func (u *unpickler) memory(op byte) (done bool, err error) {
	var n uint64
	switch op {
	case 'q', 'h':
		n, err = u.number(1)
	case 'r', 'j':
		n, err = u.number(4)
	case 'p', 'g':
		n, err = u.decimal()
	case 0x94: // MEMOIZE
		n = uint64(len(u.memo))
	default:
		return false, nil
	}
	if err != nil {
		return true, err
	}
	switch op {
	case 'h', 'j', 'g':
		v, ok := u.memo[n]
		if !ok {
			return true, fmt.Errorf("the pickle wants value %d, which it has not made", n)
		}
		return true, u.push(v)
	}
	u.memo[n], err = u.top()
	return true, err
}

// container runs what makes and fills tuples, lists, sets and dictionaries.
func (u *unpickler) container(op byte) (done bool, err error) {
	switch op {
	case ')', ']', 0x8f: // EMPTY_TUPLE, EMPTY_LIST, EMPTY_SET
		return true, u.push(&tuple{})
	case '}':
		return true, u.push(&dict{})
	case 0x85, 0x86, 0x87: // TUPLE1 to TUPLE3
		n := int(op - 0x84)
		if len(u.stack) < n {
			return true, errStack
		}
		items := append([]any(nil), u.stack[len(u.stack)-n:]...)
		u.stack = u.stack[:len(u.stack)-n]
		return true, u.push(&tuple{items})
	case 't', 'l', 0x91: // TUPLE, LIST, FROZENSET
		items, err := u.marked()
		return true, u.pushed(&tuple{items}, err)
	case 'd':
		items, err := u.marked()
		if err != nil {
			return true, err
		}
		d := &dict{}
		return true, u.pushed(d, setAll(d, items))
	case 'a':
		v, err := u.pop()
		if err != nil {
			return true, err
		}
		return true, u.extend(v)
	case 'e', 0x90: // APPENDS, ADDITEMS
		items, err := u.marked()
		if err != nil {
			return true, err
		}
		return true, u.extend(items...)
	case 's':
		if len(u.stack) < 2 {
			return true, errStack
		}
		items := append([]any(nil), u.stack[len(u.stack)-2:]...)
		u.stack = u.stack[:len(u.stack)-2]
		return true, u.setItems(items)
	case 'u':
		items, err := u.marked()
		if err != nil {
			return true, err
		}
		return true, u.setItems(items)
	}
	return false, nil
}

// literal runs what pushes a number or text.
func (u *unpickler) literal(op byte) error {
	switch op {
	case 'N':
		return u.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		return u.push(op == 0x88)
	case 'K':
		n, err := u.number(1)
		return u.pushed(int(n), err)
	case 'M':
		n, err := u.number(2)
		return u.pushed(int(n), err)
	case 'J':
		n, err := u.number(4)
		return u.pushed(int(int32(uint32(n))), err)
	case 'I', 'L':
		text, err := u.line()
		if err != nil {
			return err
		}
		return u.pushed(decimalValue(op, text))
	case 0x8a, 0x8b: // LONG1, LONG4
		n, err := u.number(map[byte]int{0x8a: 1, 0x8b: 4}[op])
		if err != nil {
			return err
		}
		if n > 64 {
			return fmt.Errorf("the pickle has a number of %d bytes", n)
		}
		b, err := u.take(n)
		return u.pushed(long(b), err)
	case 'G':
		b, err := u.take(8)
		if err != nil {
			return err
		}
		return u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case 'F':
		text, err := u.line()
		if err != nil {
			return err
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("the pickle has the number %q", text)
		}
		return u.push(f)
	case 'X', 0x8c, 0x8d, 'T', 'U': // BINUNICODE and its sizes, BINSTRING and its sizes
		n, err := u.number(map[byte]int{'X': 4, 0x8c: 1, 0x8d: 8, 'T': 4, 'U': 1}[op])
		if err != nil {
			return err
		}
		b, err := u.take(n)
		return u.pushed(string(b), err)
	case 'B', 'C', 0x8e: // BINBYTES and its sizes
		n, err := u.number(map[byte]int{'B': 4, 'C': 1, 0x8e: 8}[op])
		if err != nil {
			return err
		}
		b, err := u.take(n)
		return u.pushed(b, err)
	case 'S', 'V':
		text, err := u.line()
		if err != nil {
			return err
		}
		if op == 'S' && len(text) > 1 { // as Python's repr has it
			text = text[1 : len(text)-1]
		}
		return u.push(text)
	}
	return fmt.Errorf("the pickle has the instruction %q (0x%02x), which no checkpoint needs", rune(op), op)
}

func decimalValue(op byte, text string) (any, error) {
	switch {
	case op == 'I' && text == "00":
		return false, nil
	case op == 'I' && text == "01":
		return true, nil
	case len(text) > 64:
		return nil, errors.New("the pickle has a number of more than 64 digits")
	}
	n, ok := new(big.Int).SetString(string(bytes.TrimSuffix([]byte(text), []byte("L"))), 10)
	if !ok {
		return nil, fmt.Errorf("the pickle has the number %q", text)
	}
	return small(n), nil
}

// long is a number in two's complement, little-endian.
func long(b []byte) any {
	be := make([]byte, len(b))
	for i, x := range b {
		be[len(b)-1-i] = x
	}
	n := new(big.Int).SetBytes(be)
	if len(b) > 0 && b[len(b)-1]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return small(n)
}

func small(n *big.Int) any {
	if n.IsInt64() && n.Int64() >= math.MinInt && n.Int64() <= math.MaxInt {
		return int(n.Int64())
	}
	return n
}

var errStack = errors.New("the pickle takes more than it has put down: it is damaged")

func (u *unpickler) push(v any) error {
	u.stack = append(u.stack, v)
	return nil
}

func (u *unpickler) pushed(v any, err error) error {
	if err == nil {
		u.stack = append(u.stack, v)
	}
	return err
}

func (u *unpickler) pop() (any, error) {
	v, err := u.top()
	if err == nil {
		u.stack = u.stack[:len(u.stack)-1]
	}
	return v, err
}

// popText takes a text, as short as names are.
func (u *unpickler) popText() (string, error) {
	v, err := u.pop()
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok || len(s) > maxLine {
		return "", fmt.Errorf("the pickle has %s where a name should be", kindOf(v))
	}
	return s, nil
}

func (u *unpickler) top() (any, error) {
	if len(u.stack) == 0 {
		return nil, errStack
	}
	return u.stack[len(u.stack)-1], nil
}

// marked takes everything from the last mark on.
func (u *unpickler) marked() ([]any, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, ok := u.stack[i].(mark); ok {
			items := append([]any(nil), u.stack[i+1:]...)
			u.stack = u.stack[:i]
			return items, nil
		}
	}
	return nil, errStack
}

func (u *unpickler) extend(items ...any) error {
	v, err := u.top()
	if err != nil {
		return err
	}
	t, ok := v.(*tuple)
	if !ok {
		return fmt.Errorf("the pickle appends to %s", kindOf(v))
	}
	t.items = append(t.items, items...)
	return nil
}

func (u *unpickler) setItems(items []any) error {
	v, err := u.top()
	if err != nil {
		return err
	}
	d, ok := v.(*dict)
	if !ok {
		return fmt.Errorf("the pickle sets a key of %s", kindOf(v))
	}
	return setAll(d, items)
}

func setAll(d *dict, items []any) error {
	if len(items)%2 != 0 {
		return errors.New("the pickle has a key without a value: it is damaged")
	}
	for i := 0; i < len(items); i += 2 {
		d.set(items[i], items[i+1])
	}
	return nil
}

func (u *unpickler) byte() (byte, error) {
	if len(u.in) == 0 {
		return 0, errEnds
	}
	b := u.in[0]
	u.in = u.in[1:]
	return b, nil
}

func (u *unpickler) take(n uint64) ([]byte, error) {
	if n > uint64(len(u.in)) {
		return nil, errEnds
	}
	b := u.in[:n:n]
	u.in = u.in[n:]
	return b, nil
}

// number is one of so many bytes, little-endian.
func (u *unpickler) number(bytes int) (uint64, error) {
	b, err := u.take(uint64(bytes))
	var n uint64
	for i, x := range b {
		n |= uint64(x) << (8 * i)
	}
	return n, err
}

// maxLine bounds the instructions that end with their line.
const maxLine = 4 << 10

func (u *unpickler) line() (string, error) {
	i := bytes.IndexByte(u.in[:min(len(u.in), maxLine)], '\n')
	if i < 0 {
		return "", errEnds
	}
	text := u.in[:i]
	u.in = u.in[i+1:]
	if !utf8.Valid(text) {
		return "", errors.New("the pickle has text that is no UTF-8")
	}
	return string(text), nil
}

func (u *unpickler) decimal() (uint64, error) {
	text, err := u.line()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the pickle has the number %q", text)
	}
	return n, nil
}

// kindOf names a value for an error.
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case *tuple:
		return "a list"
	case *dict:
		return "a dictionary"
	case class:
		return "the class " + string(v)
	case *Tensor:
		return "a tensor"
	case string, []byte:
		return "text"
	}
	return "a number"
}
