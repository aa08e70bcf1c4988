package pipeline

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"image"
	"path"
	"strings"
	"unicode/utf8"
)

// An ID names an item the same way in every run and on every machine: the
// source's path relative to the source's root, then one "@key" for each
// derivation. '@' and '%' in names, and bytes that are not UTF-8, are
// percent-encoded, so that an ID is always valid text and '@' always separates.

const upperHex = "0123456789ABCDEF"

// EscapeID percent-encodes what an ID component may not hold as it is: '@',
// '%', control characters and bytes that are not UTF-8.
func EscapeID(name string) string {
	clean := true
	for i := 0; i < len(name); i++ {
		if c := name[i]; c == '@' || c == '%' || c < 0x20 || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		c := name[i]
		r, n := utf8.DecodeRuneInString(name[i:])
		switch {
		case c == '@' || c == '%' || c < 0x20 || c == 0x7f || (r == utf8.RuneError && n == 1):
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
			i++
		default:
			b.WriteString(name[i : i+n])
			i += n
		}
	}
	return b.String()
}

// UnescapeID undoes EscapeID. Text that EscapeID cannot have made is an error.
func UnescapeID(id string) (string, error) {
	if !strings.Contains(id, "%") {
		return id, nil
	}
	var b strings.Builder
	for i := 0; i < len(id); i++ {
		if id[i] != '%' {
			b.WriteByte(id[i])
			continue
		}
		if i+2 >= len(id) {
			return "", fmt.Errorf("ID %q ends inside a %%-escape", id)
		}
		hi := strings.IndexByte(upperHex, id[i+1])
		lo := strings.IndexByte(upperHex, id[i+2])
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("ID %q has a bad %%-escape at byte %d", id, i)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

// splitID separates an ID into its source and its lineage, which is empty for
// the source's own item.
func splitID(id string) (source, lineage string) {
	source, lineage, _ = strings.Cut(id, "@")
	return source, lineage
}

// steps yields the derivation keys of a lineage, outermost first.
func steps(lineage string) []string {
	if lineage == "" {
		return nil
	}
	return strings.Split(lineage, "@")
}

// An origin identifies pixels: the same origin, the same samples. It is made of
// the source's content, the decoder and what was done since; stages that only
// look at pixels do not change it. The zero origin means "not known", and then
// nothing is cached.
type origin [16]byte

func (o origin) known() bool { return o != origin{} }

func sum(parts ...[]byte) (out [16]byte) {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	full := h.Sum(nil)
	copy(out[:], full)
	return out
}

// crop is the origin of a rectangle of o's pixels.
func (o origin) crop(r image.Rectangle) origin {
	if !o.known() {
		return o
	}
	var b [4 + 16 + 32]byte
	copy(b[:], "crop")
	copy(b[4:], o[:])
	for i, v := range [4]int{r.Min.X, r.Min.Y, r.Max.X, r.Max.Y} {
		binary.LittleEndian.PutUint64(b[20+8*i:], uint64(v))
	}
	full := sha256.Sum256(b[:])
	copy(o[:], full[:])
	return o
}

// stemExt splits a file name's last component into stem and extension (with
// its dot). A leading dot belongs to the stem.
func stemExt(name string) (stem, ext string) {
	ext = path.Ext(name)
	if base := path.Base(name); ext == base {
		ext = ""
	}
	return strings.TrimSuffix(name, ext), ext
}
