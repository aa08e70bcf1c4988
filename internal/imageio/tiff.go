package imageio

import (
	"bytes"
	"fmt"

	"golang.org/x/image/tiff"
)

// Tags of TIFF 6.0.
const (
	tiffBitsPerSample   = 258
	tiffCompression     = 259
	tiffPhotometric     = 262
	tiffStripOffsets    = 273
	tiffSamplesPerPixel = 277
	tiffRowsPerStrip    = 278
	tiffStripByteCounts = 279
	tiffPlanar          = 284
	tiffPredictor       = 317
	tiffTileWidth       = 322
	tiffTileLength      = 323
	tiffTileOffsets     = 324
	tiffTileByteCounts  = 325
	tiffICCProfile      = 34675
)

// tiffHeader looks beyond width and height, because x/image/tiff allocates by
// the inner sizes too (tiles, strips and their tables), and because it would
// decode some files it does not know, such as separate colour planes, to noise.
func tiffHeader(data []byte, lim Limits) (raw, error) {
	var r raw
	if data[2] == '+' || data[3] == '+' {
		return raw{}, unsupported("BigTIFF")
	}
	t, err := newIFD(data)
	if err != nil {
		return raw{}, err
	}
	// The size is checked first, on our own reading of it.
	if err := lim.check("header", int64(t.first(256, 0)), int64(t.first(257, 0))); err != nil {
		return raw{}, err
	}
	c, err := tiff.DecodeConfig(bytes.NewReader(data))
	if err := r.config(c, err, lim); err != nil {
		return raw{}, err
	}
	r.orientation = t.orientation()

	bits := int64(t.first(tiffBitsPerSample, 1))
	samples := int64(1)
	if e, ok := t.entries[tiffBitsPerSample]; ok {
		samples = int64(e.count)
	}
	if n := int64(t.first(tiffSamplesPerPixel, uint32(samples))); n != samples {
		return raw{}, fmt.Errorf("it has %d samples per pixel and bit depths for %d: the file is corrupt", n, samples)
	}
	if t.first(tiffPlanar, 1) != 1 && samples > 1 {
		return raw{}, unsupported("separate colour planes")
	}
	if p := t.first(tiffPredictor, 1); p != 1 && p != 2 {
		return raw{}, unsupported(fmt.Sprintf("predictor %d", p))
	}
	compressed := true
	switch compression := t.first(tiffCompression, 0); compression {
	case 0, 1:
		compressed = false
	case 3, 4:
		if t.first(tiffPhotometric, 0) == 1 {
			// x/image v0.47.0 decodes it inverted.
			return raw{}, unsupported("fax compression with black as zero")
		}
	case 5, 8, 32773, 32946:
	default:
		return raw{}, unsupported(fmt.Sprintf("compression %d", compression))
	}
	switch photometric := t.first(tiffPhotometric, 0); {
	case photometric == 2 && bits == 16:
		r.flat(8)
	case photometric == 2:
		r.flat(4)
	case photometric == 3 && bits == 16:
		return raw{}, unsupported("a palette with 16 bits")
	case bits == 16:
		r.flat(2)
	default:
		r.flat(1)
		r.palette = photometric == 3
	}

	blockW, blockH := r.width, r.height
	var across, down int64
	offsets, counts := uint16(tiffStripOffsets), uint16(tiffStripByteCounts)
	if w := int64(t.first(tiffTileWidth, 0)); w != 0 {
		blockW, blockH = w, int64(t.first(tiffTileLength, 0))
		if err := lim.check("tile size", blockW, blockH); err != nil {
			return raw{}, err
		}
		across, down = (r.width+blockW-1)/blockW, (r.height+blockH-1)/blockH
		offsets, counts = tiffTileOffsets, tiffTileByteCounts
		// The tiles together may stick out beyond the image, but not by so much
		// that they are a bomb: each is decoded whole.
		if across*blockW > r.width || down*blockH > r.height {
			double := Limits{MaxPixels: 2 * lim.MaxPixels}
			if err := double.check("tiles together", across*blockW, down*blockH); err != nil {
				return raw{}, err
			}
		}
	} else {
		if n := int64(t.first(tiffRowsPerStrip, 0)); n > 0 && n < blockH {
			blockH = n
		}
		across, down = 1, (r.height+blockH-1)/blockH
	}
	blocks := across * down
	for _, tag := range []uint16{offsets, counts} {
		e := t.entries[tag]
		if int64(e.count) < blocks {
			return raw{}, fmt.Errorf("it has %d strips or tiles and a table (tag %d) for %d: the file is corrupt", blocks, tag, e.count)
		}
		// The table itself must lie in the file, which bounds what reading it costs.
		if _, ok := t.value(tag, uint32(blocks-1)); !ok {
			return raw{}, fmt.Errorf("the table of strips or tiles (tag %d) ends beyond the file: %w", tag, errShort)
		}
	}
	block := (blockW*samples*bits + 7) / 8 * blockH
	if compressed {
		block *= 2 // it grows by doubling
	}
	r.scratch = block + 2*blocks*(8+4)
	return r, nil
}
