package imageio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"

	"golang.org/x/image/webp"
)

func webpHeader(data []byte, lim Limits) (raw, error) {
	var (
		r        raw
		animated bool
		alpha    bool
		lossy    bool
		found    bool
		pixels   int64
	)
	walkWebP(data, func(name string, payload []byte) {
		switch name {
		case "ANIM", "ANMF":
			animated = true
		case "ALPH":
			alpha = alpha || !found
		case "VP8 ", "VP8L":
			if !found {
				lossy, found, pixels = name == "VP8 ", true, int64(len(payload))
			}
		case "EXIF":
			if r.orientation == 0 {
				r.orientation = exifOrientation(payload)
			}
		}
	})
	if animated {
		return raw{}, unsupported("an animation")
	}
	c, err := webp.DecodeConfig(bytes.NewReader(data))
	if err := r.config(c, err, lim); err != nil {
		return raw{}, err
	}
	// vp8l keeps a second buffer while it replaces colour indices, one entry per
	// 4x4 pixels of its entropy image, and its Huffman trees.
	const trees = 256 << 10
	area := r.width * r.height
	if !lossy {
		r.flat(4)
		r.scratch = 4*area + area/4 + trees
		return r, nil
	}
	macroblocks := ((r.width + 15) / 16) * ((r.height + 15) / 16)
	r.flat(4)
	r.scratch = pixels + (8+256+64+64)*macroblocks
	if alpha { // decoded like a lossless image, of which only green is kept
		r.scratch += 9*area + area/4 + trees
	}
	return r, nil
}

// decodeWebP converts a lossy image to RGB, because it is in BT.601's studio
// range (RFC 6386, section 9.2), which Go's types for planes do not know: their
// colours would be pale.
func decodeWebP(data []byte) (image.Image, error) {
	if err := checkWebPEnd(data); err != nil {
		return nil, err
	}
	img, err := webp.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	switch m := img.(type) {
	case *image.YCbCr:
		return &image.RGBA{Pix: planesToRGB(m, webpPlanes), Stride: 4 * m.Rect.Dx(), Rect: m.Rect}, nil
	case *image.NYCbCrA:
		w := m.Rect.Dx()
		out := &image.NRGBA{Pix: planesToRGB(&m.YCbCr, webpPlanes), Stride: 4 * w, Rect: m.Rect}
		for y := range m.Rect.Dy() {
			row := out.Pix[y*out.Stride:][:out.Stride]
			for x, a := range m.A[y*m.AStride:][:w] {
				row[4*x+3] = a
			}
		}
		return out, nil
	}
	return img, nil
}

// walkWebP calls visit with each chunk. One that the data cut off is visited
// with what there is of it.
func walkWebP(data []byte, visit func(name string, payload []byte)) {
	size := int64(len(data))
	for i := int64(12); i+8 <= size; {
		n := int64(binary.LittleEndian.Uint32(data[i+4:]))
		end := i + 8 + n
		visit(string(data[i:i+4]), data[i+8:min(end, size)])
		i = end + n&1
	}
}

// checkWebPEnd sees to it that every length that the file declares lies within
// it, because the decoder allocates by them.
func checkWebPEnd(data []byte) error {
	if declared := 8 + int64(binary.LittleEndian.Uint32(data[4:])); declared > int64(len(data)) {
		return fmt.Errorf("it should have %d bytes and has %d: %w", declared, len(data), errShort)
	}
	for i := int64(12); i+8 <= int64(len(data)); {
		n := int64(binary.LittleEndian.Uint32(data[i+4:]))
		if name := string(data[i : i+4]); i+8+n > int64(len(data)) && (name == "VP8 " || name == "VP8L" || name == "ALPH") {
			return fmt.Errorf("its chunk %q ends beyond the file: %w", name, errShort)
		}
		i += 8 + n + n&1
	}
	return nil
}
