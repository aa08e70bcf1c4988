package imageio

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
)

// gifFrame is what stands before the first frame's pixels.
type gifFrame struct {
	screenW, screenH int
	x, y, w, h       int
	palette          int // colours
	transparent      bool
	interlaced       bool
	afterDescriptor  int // where the frame's minimum code size stands
}

// fills tells whether the frame is all there is to see.
func (f gifFrame) fills() bool { return f.x == 0 && f.y == 0 && f.w == f.screenW && f.h == f.screenH }

// readGIF walks to the first frame.
func readGIF(data []byte) (gifFrame, error) {
	var f gifFrame
	if len(data) < 13 {
		return f, errShort
	}
	u16 := func(i int) int { return int(data[i]) | int(data[i+1])<<8 }
	f.screenW, f.screenH = u16(6), u16(8)
	i := 13
	if data[10]&0x80 != 0 {
		f.palette = 2 << (data[10] & 7)
		i += 3 * f.palette
	}
	for {
		if i >= len(data) {
			return f, errShort
		}
		switch data[i] {
		case 0x21: // an extension
			if i+2 > len(data) {
				return f, errShort
			}
			// The graphic control's flags. image/gif lets a later one without
			// transparency keep an earlier one's.
			if data[i+1] == 0xf9 && i+4 <= len(data) && data[i+3]&1 != 0 {
				f.transparent = true
			}
			next, err := skipGIFBlocks(data, i+2)
			if err != nil {
				return f, err
			}
			i = next
		case 0x2c: // an image
			if i+10 > len(data) {
				return f, errShort
			}
			f.x, f.y, f.w, f.h = u16(i+1), u16(i+3), u16(i+5), u16(i+7)
			f.interlaced = data[i+9]&0x40 != 0
			f.afterDescriptor = i + 10
			if data[i+9]&0x80 != 0 {
				f.palette = 2 << (data[i+9] & 7)
				f.afterDescriptor += 3 * f.palette
			}
			return f, nil
		case 0x3b:
			return f, errors.New("it has no frame")
		default:
			return f, fmt.Errorf("unknown block type 0x%02x", data[i])
		}
	}
}

// skipGIFBlocks passes over data blocks up to and with their terminator.
func skipGIFBlocks(data []byte, i int) (int, error) {
	for i < len(data) {
		n := int(data[i])
		i += 1 + n
		if n == 0 {
			return i, nil
		}
	}
	return 0, errShort
}

func gifHeader(data []byte, lim Limits) (raw, error) {
	f, err := readGIF(data)
	if err != nil {
		return raw{}, err
	}
	r := raw{width: int64(f.screenW), height: int64(f.screenH)}
	if err := lim.check("header", r.width, r.height); err != nil {
		return raw{}, err
	}
	if f.w == 0 || f.h == 0 {
		return raw{}, fmt.Errorf("its first frame has %d x %d pixels: the file is corrupt", f.w, f.h)
	}
	if f.x+f.w > f.screenW || f.y+f.h > f.screenH {
		return raw{}, fmt.Errorf("its first frame (%d x %d at %d,%d) is larger than its screen (%d x %d): the file is corrupt",
			f.w, f.h, f.x, f.y, f.screenW, f.screenH)
	}
	frame := int64(f.w) * int64(f.h)
	r.scratch = 64 << 10 // the LZW tables
	if f.interlaced {
		r.scratch += frame
	}
	r.palette = f.fills() || f.transparent || f.palette < 256
	if f.fills() {
		r.flat(1)
		return r, nil
	}
	r.scratch += frame
	if r.palette {
		r.flat(1)
	} else {
		r.flat(4)
	}
	return r, nil
}

// onScreen puts a first frame that is smaller than its screen where it belongs,
// and leaves the rest transparent, as a viewer does.
func onScreen(m *image.Paletted, w, h int) image.Image {
	screen := image.Rect(0, 0, w, h)
	if m.Rect == screen {
		return m
	}
	clear := -1
	for i, c := range m.Palette {
		if _, _, _, a := c.RGBA(); a == 0 {
			clear = i
			break
		}
	}
	palette := m.Palette
	if clear < 0 && len(palette) < 256 {
		clear = len(palette)
		palette = append(palette[:clear:clear], color.RGBA{})
	}
	if clear < 0 {
		out := image.NewNRGBA(screen)
		draw.Draw(out, m.Rect, m, m.Rect.Min, draw.Src)
		return out
	}
	out := image.NewPaletted(screen, palette)
	if clear != 0 {
		for i := range out.Pix {
			out.Pix[i] = uint8(clear)
		}
	}
	for y := m.Rect.Min.Y; y < m.Rect.Max.Y; y++ {
		copy(out.Pix[out.PixOffset(m.Rect.Min.X, y):], m.Pix[m.PixOffset(m.Rect.Min.X, y):][:m.Rect.Dx()])
	}
	return out
}

// checkGIFEnd walks to the trailer, because image/gif stops after the first
// frame and so would not see that the file is cut off.
func checkGIFEnd(data []byte) error {
	f, err := readGIF(data)
	if err != nil {
		return err
	}
	i, err := skipGIFBlocks(data, f.afterDescriptor+1)
	for err == nil {
		if i >= len(data) {
			return errShort
		}
		switch data[i] {
		case 0x21:
			i, err = skipGIFBlocks(data, i+2)
		case 0x2c:
			if i+10 > len(data) {
				return errShort
			}
			flags := data[i+9]
			i += 10
			if flags&0x80 != 0 {
				i += 3 * (2 << (flags & 7))
			}
			i, err = skipGIFBlocks(data, i+1)
		default:
			// The trailer, or junk that many files have in its place.
			return nil
		}
	}
	return err
}
