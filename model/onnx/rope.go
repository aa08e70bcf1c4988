package onnx

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// rope is a message that is put together of pieces of others.
type rope struct {
	parts []part
	n     int64
}

// text adds encoded bytes.
func (r *rope) text(b []byte) {
	if k := len(r.parts); k > 0 && r.parts[k-1].data == nil {
		r.parts[k-1].head = append(r.parts[k-1].head, b...)
	} else {
		r.parts = append(r.parts, part{head: b})
	}
	r.n += int64(len(b))
}

// payload adds the data of weights.
func (r *rope) payload(p payload) {
	r.parts = append(r.parts, part{data: p})
	r.n += p.size()
}

// field adds a message as a field.
func (r *rope) field(num protowire.Number, m *rope) {
	r.text(appendLength(nil, num, m.n))
	r.parts = append(r.parts, m.parts...)
	r.n += m.n
}

func (r *rope) writeTo(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 64<<10)
	for _, p := range r.parts {
		if _, err := buf.Write(p.head); err != nil {
			return err
		}
		if p.data != nil {
			if err := p.data.writeTo(buf); err != nil {
				return err
			}
		}
	}
	return buf.Flush()
}

// section is a part of a file.
type section struct {
	r     io.ReaderAt
	at, n int64
}

func (s section) reader() io.Reader { return io.NewSectionReader(s.r, s.at, s.n) }

func (s section) size() int64 { return s.n }

func (s section) writeTo(w *bufio.Writer) error {
	n, err := io.Copy(w, s.reader())
	if err == nil && n < s.n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// converted is weights in their other precision, which are read while they are
// written.
type converted struct {
	section
	name string
	half bool // they become float16; else they were
}

// The bytes of an element.
const (
	singleBytes = 4
	halfBytes   = 2
)

func (c converted) size() int64 {
	if c.half {
		return c.n / singleBytes * halfBytes
	}
	return c.n / halfBytes * singleBytes
}

func (c converted) writeTo(w *bufio.Writer) error {
	r := bufio.NewReaderSize(c.reader(), 64<<10)
	var b [singleBytes]byte
	from := b[:halfBytes]
	if c.half {
		from = b[:]
	}
	for left := c.n; left > 0; left -= int64(len(from)) {
		if _, err := io.ReadFull(r, from); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("reading the weights %.200q: %w", c.name, err)
		}
		var to [singleBytes]byte
		n := singleBytes
		if c.half {
			f := math.Float32frombits(binary.LittleEndian.Uint32(from))
			if err := holds(f); err != nil {
				return named(c.name, err)
			}
			binary.LittleEndian.PutUint16(to[:], Half(f))
			n = halfBytes
		} else {
			binary.LittleEndian.PutUint32(to[:], math.Float32bits(fromHalf(binary.LittleEndian.Uint16(from))))
		}
		if _, err := w.Write(to[:n]); err != nil {
			return err
		}
	}
	return nil
}

// holds refuses a number that would become infinite as float16.
func holds(f float32) error {
	if Half(f)&0x7fff == 0x7c00 && !math.IsInf(float64(f), 0) {
		return fmt.Errorf("%v is beyond what float16 holds (65504): run the network as float32", f)
	}
	return nil
}

var errDamaged = errors.New("they are not as many as their dimensions say")
