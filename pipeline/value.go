package pipeline

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/x448/float16"
)

// Type is the type of an attribute.
type Type uint8

// The types an attribute can have.
const (
	TypeNone Type = iota
	TypeBool
	TypeInt
	TypeFloat
	TypeString
	TypeHash // a perceptual or content hash: raw bytes, written in hexadecimal
)

// String returns the type's name as documentation and messages write it.
func (t Type) String() string {
	switch t {
	case TypeBool:
		return "bool"
	case TypeInt:
		return "int64"
	case TypeFloat:
		return "float64"
	case TypeString:
		return "string"
	case TypeHash:
		return "hash"
	}
	return "none"
}

// Value is a typed attribute value. The zero Value has TypeNone.
type Value struct {
	typ Type
	num uint64
	str string
}

// Bool makes a bool value.
func Bool(v bool) Value {
	if v {
		return Value{typ: TypeBool, num: 1}
	}
	return Value{typ: TypeBool}
}

// Int makes an int64 value.
func Int(v int64) Value { return Value{typ: TypeInt, num: uint64(v)} }

// Float makes a float64 value.
func Float(v float64) Value { return Value{typ: TypeFloat, num: math.Float64bits(v)} }

// String makes a string value.
func String(v string) Value { return Value{typ: TypeString, str: v} }

// Hash makes a hash value from its raw bytes.
func Hash(raw []byte) Value { return Value{typ: TypeHash, str: string(raw)} }

// Type returns the value's type.
func (v Value) Type() Type { return v.typ }

// Bool returns the value of a bool, false for other types.
func (v Value) Bool() bool { return v.typ == TypeBool && v.num == 1 }

// Int returns the value of an int64, 0 for other types.
func (v Value) Int() int64 {
	if v.typ != TypeInt {
		return 0
	}
	return int64(v.num)
}

// Float returns a float64, or an int64 as one; NaN for other types.
func (v Value) Float() float64 {
	switch v.typ {
	case TypeFloat:
		return math.Float64frombits(v.num)
	case TypeInt:
		return float64(int64(v.num))
	}
	return math.NaN()
}

// Hash returns the raw bytes of a hash, nil for other types.
func (v Value) Hash() []byte {
	if v.typ != TypeHash {
		return nil
	}
	return []byte(v.str)
}

// String returns the value as text: a string as it is, a hash in hexadecimal,
// numbers in their shortest exact form.
func (v Value) String() string {
	switch v.typ {
	case TypeBool:
		return strconv.FormatBool(v.num == 1)
	case TypeInt:
		return strconv.FormatInt(int64(v.num), 10)
	case TypeFloat:
		return strconv.FormatFloat(math.Float64frombits(v.num), 'g', -1, 64)
	case TypeString:
		return v.str
	case TypeHash:
		return hex.EncodeToString([]byte(v.str))
	}
	return ""
}

// Any returns the value as a plain Go value: bool, int64, float64 or string
// (hashes in hexadecimal), nil for the zero Value.
func (v Value) Any() any {
	switch v.typ {
	case TypeBool:
		return v.num == 1
	case TypeInt:
		return int64(v.num)
	case TypeFloat:
		return math.Float64frombits(v.num)
	case TypeString, TypeHash:
		return v.String()
	}
	return nil
}

// MarshalJSON writes the value as a JSON bool, number or string. A Float always has a
// fraction or an exponent, such as 2.0, by which it is told from an Int. JSON has no
// NaN and no infinities: they become null.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.typ != TypeFloat {
		return json.Marshal(v.Any())
	}
	f := v.Float()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	b, err := json.Marshal(f)
	if err == nil && !bytes.ContainsAny(b, ".e") {
		b = append(b, ".0"...)
	}
	return b, err
}

// UnmarshalJSON reads what MarshalJSON writes. A number without a fraction and an
// exponent becomes an Int, any other a Float; a hash becomes the String of its
// digits, and null the zero Value. A number that is no finite float64 is an error, as
// is an object or a list.
func (v *Value) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var read any
	if err := d.Decode(&read); err != nil {
		return err
	}
	switch read := read.(type) {
	case nil:
		*v = Value{}
	case bool:
		*v = Bool(read)
	case string:
		*v = String(read)
	case json.Number:
		if n, err := read.Int64(); err == nil {
			*v = Int(n)
			return nil
		}
		f, err := read.Float64()
		if err != nil {
			return fmt.Errorf("the value %s is not a number that fits: %w", read, err)
		}
		*v = Float(f)
	default:
		return fmt.Errorf("a value is true, false, a number or a text, not %s", data)
	}
	return nil
}

// Attribute is a named value on an item.
type Attribute struct {
	Name  string // such as "laplacian"
	Value Value  // with its type
}

// Vector is a named embedding of an item: Dim() numbers made by a model, and what they can
// be compared with.
type Vector struct {
	Name string // such as "clip"
	// Model is a hash of the model that made it, of which of its outputs it is, and of how
	// pictures are prepared for it; empty when no model made it. Vectors of which it
	// differs are not compared.
	Model string
	// Half says that the numbers are rounded to float16 (11 significant bits,
	// at most 65504) and take two bytes each where they are stored; otherwise
	// they are float32.
	Half bool
	Data []float32 // the components
}

// Dim is the number of components.
func (v Vector) Dim() int { return len(v.Data) }

// The binary form below is what parked items and cached outcomes are stored
// in: uvarint lengths, little-endian numbers, no type information beyond what
// the reader needs.

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendValue(b []byte, v Value) []byte {
	b = append(b, byte(v.typ))
	switch v.typ {
	case TypeBool, TypeInt, TypeFloat:
		return binary.LittleEndian.AppendUint64(b, v.num)
	case TypeString, TypeHash:
		return appendString(b, v.str)
	}
	return b
}

func appendAttributes(b []byte, attrs []Attribute) []byte {
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	for _, a := range attrs {
		b = appendString(b, a.Name)
		b = appendValue(b, a.Value)
	}
	return b
}

func appendVectors(b []byte, vs []Vector) []byte {
	b = binary.AppendUvarint(b, uint64(len(vs)))
	for _, v := range vs {
		b = appendString(b, v.Name)
		b = appendString(b, v.Model)
		if v.Half {
			b = append(b, 2)
		} else {
			b = append(b, 4)
		}
		b = binary.AppendUvarint(b, uint64(len(v.Data)))
		for _, f := range v.Data {
			if v.Half {
				b = binary.LittleEndian.AppendUint16(b, float16.Fromfloat32(f).Bits())
			} else {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
			}
		}
	}
	return b
}

var errShortRecord = errors.New("record is cut short")

// reader takes apart what the append functions put together. The first error
// sticks; callers look at err once, at the end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.err = errShortRecord
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = errShortRecord
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.err = errShortRecord
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of elements that each take at least one byte, so that a
// damaged record cannot make the caller allocate more than it is long.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.err = errShortRecord
		return 0
	}
	return int(n)
}

func (r *reader) string() string { return string(r.take(r.count())) }

func (r *reader) uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) value() Value {
	v := Value{typ: Type(r.byte())}
	switch v.typ {
	case TypeBool, TypeInt, TypeFloat:
		v.num = r.uint64()
	case TypeString, TypeHash:
		v.str = r.string()
	case TypeNone:
	default:
		r.err = fmt.Errorf("record holds a value of unknown type %d", v.typ)
	}
	return v
}

func (r *reader) attributes() []Attribute {
	n := r.count()
	if n == 0 {
		return nil
	}
	out := make([]Attribute, 0, n)
	for range n {
		out = append(out, Attribute{Name: r.string(), Value: r.value()})
	}
	return out
}

func (r *reader) vectors() []Vector {
	n := r.count()
	var out []Vector
	for range n {
		v := Vector{Name: r.string(), Model: r.string()}
		size := int(r.byte())
		if r.err == nil && size != 2 && size != 4 {
			r.err = fmt.Errorf("record holds a vector of numbers of %d bytes", size)
		}
		p := r.take(size * r.count())
		if r.err != nil {
			return nil
		}
		v.Half = size == 2
		v.Data = make([]float32, len(p)/size)
		for i := range v.Data {
			if v.Half {
				v.Data[i] = float16.Frombits(binary.LittleEndian.Uint16(p[2*i:])).Float32()
			} else {
				v.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
			}
		}
		out = append(out, v)
	}
	return out
}
