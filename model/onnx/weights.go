package onnx

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// tensor reads a tensor but for its data, and checks that they are as many as its
// dimensions say.
func (h *headerReader) tensor(f field) error {
	var (
		t        ElementType
		name     string
		elements = int64(1)
		floats   int64 // bytes of numbers of fixed size
		varints  int64 // bytes of other numbers
		strings  int64
		rawLen   = int64(-1)
		location int64
		external struct{ name, offset, length string }
	)
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case tensorName:
			var b []byte
			b, err = h.short(f)
			name = string(b)
		case tensorType:
			var v int64
			v, err = h.number(f)
			t = ElementType(v)
		case tensorDims:
			err = h.numbers(f, func(d int64) error {
				switch {
				case d < 0:
					return fmt.Errorf("weights have a dimension of %d", d)
				case d > 0 && elements > math.MaxInt64/16/d:
					return errors.New("weights have more elements than can be counted")
				}
				elements *= d
				return nil
			})
		case tensorRaw:
			if f.typ != protowire.BytesType {
				return errors.New("weights have data of a wrong kind")
			}
			rawLen = f.end - f.start
		case tensorFloats, tensorDoubles:
			switch f.typ {
			case protowire.BytesType:
				floats += f.end - f.start
			case protowire.Fixed32Type:
				floats += 4
			case protowire.Fixed64Type:
				floats += 8
			}
		case tensorInt32s, tensorInt64s, tensorUint64s:
			if f.typ == protowire.BytesType {
				varints += f.end - f.start
			} else {
				varints++
			}
		case tensorStrings:
			strings++
		case tensorLocation:
			location, err = h.number(f)
		case tensorExternal:
			var key, value string
			err = h.message(f, func(f field) error {
				if f.num != entryKey && f.num != entryValue {
					return nil
				}
				b, err := h.short(f)
				if f.num == entryKey {
					key = string(b)
				} else {
					value = string(b)
				}
				return err
			})
			switch key {
			case "location":
				external.name = value
				// Every one is checked, whichever of several a reader would take.
				if err == nil {
					err = checkLocation(value)
				}
			case "offset":
				external.offset = value
			case "length":
				external.length = value
			}
		}
		return err
	})
	if err != nil {
		return named(name, err)
	}
	size := (elements*int64(t.Bits()) + 7) / 8 // of up to 128 bits: checked below
	if t.Bits() > 0 && elements > (math.MaxInt64-7)/int64(t.Bits()) {
		return named(name, errors.New("they have more bytes than can be counted"))
	}
	switch {
	case location == 1:
		err = h.external(external.name, external.offset, external.length, size)
	case rawLen >= 0:
		if t.Bits() > 0 && rawLen != size {
			err = fmt.Errorf("they have %d bytes, and their dimensions need %d", rawLen, size)
		}
		size = rawLen
	case floats > 0:
		// A complex number is two of them, and each type has its own field.
		if floats != size {
			err = fmt.Errorf("they have %d bytes, and their dimensions need %d", floats, size)
		}
	case strings > 0:
		if strings != elements {
			err = fmt.Errorf("they have %d strings, and their dimensions need %d", strings, elements)
		}
	case t.Bits() >= 8 && varints < elements, t.Bits() < 8 && varints < size:
		// A number has at least one byte; how many there are is not counted.
		err = fmt.Errorf("they have %d bytes of numbers, which are too few for %d elements", varints, elements)
	}
	if err == nil && (h.h.Parameters > math.MaxInt64-elements || h.h.WeightBytes > math.MaxInt64-size) {
		err = errors.New("they have more elements than can be counted")
	}
	if err != nil {
		return named(name, err)
	}
	h.h.Parameters += elements
	h.h.WeightBytes += size
	return nil
}

// named says which weights an error is about.
func named(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("weights %.200q: %w", name, err)
}

// checkLocation refuses a file of weights that is not in the model's directory: a
// model must not have other files read.
func checkLocation(name string) error {
	clean := strings.TrimPrefix(name, "./")
	if clean == "" || clean == "." || clean == ".." || strings.ContainsAny(clean, "/\\\x00") || filepath.IsAbs(name) {
		return fmt.Errorf("the file of weights %.200q is not in the model's own directory; "+
			"put it there, and save the model with its bare name", name)
	}
	return nil
}

// external counts weights in a file of their own.
func (h *headerReader) external(name, offset, length string, size int64) error {
	if name == "" {
		return errors.New("the file that holds them is not told")
	}
	var from int64
	if offset != "" {
		var err error
		if from, err = parse("offset", offset); err != nil {
			return err
		}
	}
	if length != "" {
		n, err := parse("length", length)
		if err != nil {
			return err
		}
		if n != size {
			return fmt.Errorf("they have %d bytes in %q, and their dimensions need %d", n, name, size)
		}
	}
	if from > math.MaxInt64-size {
		return fmt.Errorf("the offset %d in %q is not possible", from, name)
	}
	name = strings.TrimPrefix(name, "./")
	if i, ok := h.files[name]; ok {
		h.h.External[i].Bytes = max(h.h.External[i].Bytes, from+size)
		return nil
	}
	if h.text += len(name) + 128; h.text > maxText {
		return errText
	}
	h.files[name] = len(h.h.External)
	h.h.External = append(h.h.External, External{name, from + size})
	return nil
}

// parse reads a number that external data give as text.
func parse(what, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the %s %.40q of their data is no number", what, s)
	}
	return n, nil
}
