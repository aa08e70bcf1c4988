package imageio

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
)

func pngHeader(data []byte, lim Limits) (raw, error) {
	var r raw
	// The size stands at a fixed place, and is checked before anything is read
	// that depends on it.
	if len(data) < 33 {
		return raw{}, errShort
	}
	width, height := binary.BigEndian.Uint32(data[16:]), binary.BigEndian.Uint32(data[20:])
	if string(data[12:16]) == "IHDR" {
		if err := lim.check("header", int64(width), int64(height)); err != nil {
			return raw{}, err
		}
	}
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err := r.config(c, err, lim); err != nil {
		return raw{}, err
	}
	transparent := false // a single transparent colour makes room for alpha
	beforePixels := true
	walkPNG(data, func(name string, payload []byte) {
		switch name {
		case "IDAT":
			beforePixels = false
		case "tRNS":
			transparent = transparent || beforePixels
		case "eXIf":
			if r.orientation == 0 {
				r.orientation = exifOrientation(payload)
			}
		}
	})
	depth, colour, interlaced := data[24], data[25], data[28] != 0
	r.flat(pngPixel(depth, colour, transparent))
	r.palette = colour == 3
	row := r.width*8 + 1
	r.scratch = 2*row + 64<<10 // two rows, and the inflater's window
	if interlaced {
		r.scratch += r.bytes // the seven passes are images of their own
	}
	return r, nil
}

func pngPixel(depth, colour byte, transparent bool) int64 {
	const (
		gray      = 0
		trueColor = 2
		palette   = 3
	)
	size := int64(4)
	switch {
	case colour == palette:
		return 1
	case colour == gray && !transparent:
		size = 1
	case colour == trueColor:
		size = 4
	}
	if depth == 16 {
		size *= 2
	}
	return size
}

// checkPNGSize sees to it that the data can inflate to the pixels: deflate gives
// 1032 bytes for one at most (258 for two bits).
func checkPNGSize(data []byte, size image.Point) error {
	samples := map[byte]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
	row := (int64(size.X)*samples*int64(data[24]) + 7) / 8
	compressed := int64(0)
	walkPNG(data, func(name string, payload []byte) {
		if name == "IDAT" {
			compressed += int64(len(payload))
		}
	})
	if row*int64(size.Y) > 1032*compressed {
		return tooSmall(len(data), size)
	}
	return nil
}

// walkPNG calls visit with each chunk, and ends at IEND or quietly where the
// data end.
func walkPNG(data []byte, visit func(name string, payload []byte)) {
	for i := int64(8); i+12 <= int64(len(data)); {
		n := int64(binary.BigEndian.Uint32(data[i:]))
		name := string(data[i+4 : i+8])
		if name == "IEND" || i+12+n > int64(len(data)) {
			return
		}
		visit(name, data[i+8:i+8+n])
		i += 12 + n
	}
}
