package pipeline

import (
	"image"
	"strings"

	"github.com/x448/float16"
)

// Attr returns an attribute: one a stage has set, or one that every item has:
// width, height and pixels of the item, source.path (relative to the source's
// root), source.format, source.width, source.height and source.bytes.
func (it *Item) Attr(name string) (Value, bool) {
	for i := len(it.next.attrs) - 1; i >= 0; i-- {
		if it.next.attrs[i].Name == name {
			return it.next.attrs[i].Value, true
		}
	}
	return it.settled(name, it.Size())
}

// settled is Attr without what this attempt has said.
func (it *Item) settled(name string, size image.Point) (Value, bool) {
	for i := range it.attrs {
		if it.attrs[i].Name == name {
			return it.attrs[i].Value, true
		}
	}
	return it.builtin(name, size)
}

// BuiltinAttributes are the attributes that every item has without any stage.
func BuiltinAttributes() []Made {
	return []Made{
		{Name: "width", Type: TypeInt, Doc: "Width of the picture as it is now, in px."},
		{Name: "height", Type: TypeInt, Doc: "Height of the picture as it is now, in px."},
		{Name: "pixels", Type: TypeInt, Doc: "Width times height."},
		{Name: "source.path", Type: TypeString, Doc: "The source file's path relative to the input folder."},
		{Name: "source.format", Type: TypeString, Doc: "How the source file is stored: jpeg, png, webp, gif, bmp or tiff."},
		{Name: "source.width", Type: TypeInt, Doc: "Width of the source file's picture, upright, in px."},
		{Name: "source.height", Type: TypeInt, Doc: "Height of the source file's picture, upright, in px."},
		{Name: "source.bytes", Type: TypeInt, Doc: "Size of the source file."},
	}
}

// Builtins are the types of BuiltinAttributes by name.
func Builtins() map[string]Type {
	types := map[string]Type{}
	for _, m := range BuiltinAttributes() {
		types[m.Name] = m.Type
	}
	return types
}

func (it *Item) builtin(name string, size image.Point) (Value, bool) {
	switch name {
	case "width":
		return Int(int64(size.X)), true
	case "height":
		return Int(int64(size.Y)), true
	case "pixels":
		return Int(int64(size.X) * int64(size.Y)), true
	}
	if !strings.HasPrefix(name, "source.") {
		return Value{}, false
	}
	h := it.fam.header
	switch name {
	case "source.path":
		return String(EscapeID(it.fam.name)), true
	case "source.format":
		return String(string(h.Format)), true
	case "source.width":
		return Int(int64(h.Width)), true
	case "source.height":
		return Int(int64(h.Height)), true
	case "source.bytes":
		return Int(it.fam.size), true
	}
	return Value{}, false
}

// Attributes returns the attributes that stages have set, in the order in
// which they were first set. The caller must not change the slice.
func (it *Item) Attributes() []Attribute {
	if len(it.next.attrs) == 0 {
		return it.attrs
	}
	return mergeAttributes(append([]Attribute(nil), it.attrs...), it.next.attrs)
}

// SetAttr gives the item an attribute, replacing one of the same name.
func (it *Item) SetAttr(name string, v Value) {
	it.next.attrs = append(it.next.attrs, Attribute{Name: name, Value: v})
}

// Vector returns the vector of that name.
func (it *Item) Vector(name string) (Vector, bool) {
	for _, vs := range [][]Vector{it.next.vectors, it.vectors} {
		for i := range vs {
			if vs[i].Name == name {
				return vs[i], true
			}
		}
	}
	return Vector{}, false
}

// Vectors returns the vectors that stages have set.
func (it *Item) Vectors() []Vector {
	if len(it.next.vectors) == 0 {
		return it.vectors
	}
	return mergeVectors(append([]Vector(nil), it.vectors...), it.next.vectors)
}

// SetVector gives the item a vector, replacing one of the same name. The
// engine keeps v.Data; the caller must not change it afterwards.
func (it *Item) SetVector(v Vector) {
	if v.Half { // what a later stage sees must not depend on whether the vector was stored in between
		for i, f := range v.Data {
			v.Data[i] = float16.Fromfloat32(f).Float32()
		}
	}
	it.next.vectors = append(it.next.vectors, v)
}

func mergeAttributes(dst, set []Attribute) []Attribute {
next:
	for _, a := range set {
		for i := range dst {
			if dst[i].Name == a.Name {
				dst[i].Value = a.Value
				continue next
			}
		}
		dst = append(dst, a)
	}
	return dst
}

func mergeVectors(dst, set []Vector) []Vector {
next:
	for _, v := range set {
		for i := range dst {
			if dst[i].Name == v.Name {
				dst[i] = v
				continue next
			}
		}
		dst = append(dst, v)
	}
	return dst
}
