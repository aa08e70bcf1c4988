package imageio

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
)

// maxScans bounds how often a progressive JPEG may go over all its blocks. Each
// time costs a decoder work for every block and the file a few bytes, so that a
// small file can keep a decoder busy for hours ("Two Issues with the JPEG
// Standard", libjpeg-turbo, 2015). Real files have about ten.
const maxScans = 500

// jpegInfo is what stands before a JPEG's first scan.
type jpegInfo struct {
	size        image.Point
	frame       int // where the frame header's marker stands
	comps       int
	id          [4]byte
	h, v        [4]int64 // sampling factors
	progressive bool
	firstScan   int  // components in the first scan
	jfif        bool // some APP0 is JFIF's
	lastJFIF    bool // the last APP0 is
	adobe       bool
	transform   byte // Adobe's, see Technical Note 5116
	orientation int
}

func readJPEG(data []byte, lim Limits) (jpegInfo, error) {
	var j jpegInfo
	if err := unusualJPEG(data); err != nil {
		return j, err
	}
	c, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return j, err
	}
	j.size = image.Pt(c.Width, c.Height)
	if err := lim.check("header", int64(c.Width), int64(c.Height)); err != nil {
		return j, err
	}
	var sof []byte
	walkJPEG(data, func(at int, marker byte, payload []byte) bool {
		switch marker {
		case 0xc0, 0xc1, 0xc2:
			if sof == nil {
				sof, j.frame, j.progressive = payload, at, marker == 0xc2
			}
		case 0xe0:
			if len(payload) >= 5 {
				j.lastJFIF = string(payload[:5]) == "JFIF\x00"
				j.jfif = j.jfif || j.lastJFIF
			}
		case 0xe1:
			if j.orientation == 0 && bytes.HasPrefix(payload, []byte("Exif\x00\x00")) {
				j.orientation = exifOrientation(payload)
			}
		case 0xee:
			if len(payload) >= 12 && string(payload[:5]) == "Adobe" {
				j.adobe, j.transform = true, payload[11]
			}
		case 0xda:
			if len(payload) > 0 {
				j.firstScan = int(payload[0])
			}
			return false
		}
		return true
	})
	if len(sof) < 6 || len(sof) < 6+3*int(sof[5]) {
		return j, errShort
	}
	j.comps = int(sof[5])
	for i := range min(j.comps, 4) {
		j.id[i] = sof[6+3*i]
		j.h[i], j.v[i] = int64(sof[7+3*i]>>4), int64(sof[7+3*i]&15)
		if j.comps == 1 {
			j.h[i], j.v[i] = 1, 1 // one component is never subsampled
		}
	}
	return j, nil
}

// unusualJPEG names what image/jpeg would only call an unknown marker or
// precision.
func unusualJPEG(data []byte) (err error) {
	walkJPEG(data, func(_ int, marker byte, payload []byte) bool {
		switch marker {
		case 0xc0, 0xc1, 0xc2:
			if len(payload) > 0 && payload[0] != 8 {
				err = unsupported(fmt.Sprintf("%d bits per sample", payload[0]))
			}
			return false
		case 0xc3:
			err = unsupported("lossless coding")
		case 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf:
			err = unsupported("arithmetic coding")
		case 0xc5, 0xc6, 0xc7, 0xde:
			err = unsupported("hierarchical coding")
		}
		return err == nil && marker != 0xda
	})
	return err
}

// rgb tells whether three components are red, green and blue, by libjpeg's
// rule, which Adobe's files and most programs agree upon.
func (j *jpegInfo) rgb() bool {
	switch {
	case j.jfif:
		return false
	case j.adobe:
		return j.transform == 0
	}
	return string(j.id[:3]) == "RGB"
}

// mcus counts the units in which the samples are stored, and blocks those of 8x8
// samples in each unit.
func (j *jpegInfo) mcus() (mcus, blocks int64) {
	w, h := 8*j.h[0], 8*j.v[0]
	for i := range j.comps {
		blocks += j.h[i] * j.v[i]
	}
	return (int64(j.size.X) + w - 1) / w * ((int64(j.size.Y) + h - 1) / h), blocks
}

// jpegHeader counts what the decoder in use occupies. image/jpeg decodes to
// planes padded to whole MCUs, and of a progressive file keeps a block of 64 int32
// per 64 samples until its last scan; libturbojpeg keeps one of 64 int16, as it
// does when the components come in several scans. The few files of which
// image/jpeg judges what libturbojpeg warned of take both, and are not counted
// so: of a hundred megapixels that would be 150 MB more for every file.
func jpegHeader(data []byte, lim Limits) (raw, error) {
	j, err := readJPEG(data, lim)
	if err != nil {
		return raw{}, err
	}
	r := raw{width: int64(j.size.X), height: int64(j.size.Y), orientation: j.orientation}
	if j.comps == 1 {
		r.flat(1)
	} else {
		r.flat(4)
	}
	mcus, blocks := j.mcus()
	if _, err := turboLibrary(); err == nil && j.turbo() {
		r.scratch = turboScratch + 64*r.width
		if j.progressive || j.firstScan < j.comps {
			r.scratch += mcus * blocks * 128
		}
		return r, nil
	}
	r.scratch = mcus*blocks*64 + turboScratch
	if j.progressive {
		r.scratch += mcus * blocks * 256
	}
	if j.comps == 4 || j.comps == 3 && j.rgb() {
		r.scratch += r.bytes // image/jpeg makes an image of these itself
	}
	return r, nil
}

// walkJPEG calls visit with each segment, which begins at at with a marker, until
// that returns false. It skips the entropy-coded data after a start of scan
// (0xda), and ends at the end of image, or quietly where the data end.
func walkJPEG(data []byte, visit func(at int, marker byte, payload []byte) bool) {
	i := 2
	for {
		// Between segments, as in scan data, anything up to a marker is passed
		// over: 0xff 0x00 is a stuffed byte and 0xffd0..d7 are restart markers.
		j := bytes.IndexByte(data[min(i, len(data)):], 0xff)
		if j < 0 {
			return
		}
		i += j + 1
		for i < len(data) && data[i] == 0xff {
			i++
		}
		if i >= len(data) {
			return
		}
		marker := data[i]
		i++
		switch {
		case marker == 0, 0xd0 <= marker && marker <= 0xd7:
			continue
		case marker == 0xd9:
			return
		}
		if i+2 > len(data) {
			return
		}
		n := int(data[i])<<8 | int(data[i+1])
		if n < 2 || i+n > len(data) {
			return
		}
		if !visit(i-2, marker, data[i+2:i+n]) {
			return
		}
		i += n
	}
}

// checkJPEGScans refuses too many scans, a component without any, which
// image/jpeg would leave at zero, and one whose quantization table is missing,
// which image/jpeg takes for zeros.
func checkJPEGScans(data []byte) error {
	scans := 0
	var want, seen []byte
	table := map[byte]byte{} // of a component
	var tables [16]bool      // that are defined
	var undefined error
	walkJPEG(data, func(_ int, marker byte, p []byte) bool {
		switch marker {
		case 0xc0, 0xc1, 0xc2:
			if len(p) >= 6 {
				for i := 6; i+2 < len(p) && i < 6+3*int(p[5]); i += 3 {
					want = append(want, p[i])
					table[p[i]] = p[i+2] & 15
				}
			}
		case 0xdb:
			for len(p) > 0 {
				tables[p[0]&15] = true
				p = p[min(len(p), 1+64*(1+int(p[0]>>4))):]
			}
		case 0xda:
			scans++
			if len(p) >= 1 {
				for i := 1; i+1 < len(p) && i < 1+2*int(p[0]); i += 2 {
					seen = append(seen, p[i])
					if t, ok := table[p[i]]; ok && !tables[t] && undefined == nil {
						undefined = fmt.Errorf("component %d needs quantization table %d, which is not there: the file is corrupt", p[i], t)
					}
				}
			}
		}
		return scans <= maxScans
	})
	if undefined != nil {
		return undefined
	}
	if scans > maxScans {
		return fmt.Errorf("it has over %d scans, which only serves to keep decoders busy", maxScans)
	}
	for _, c := range want {
		if !bytes.Contains(seen, []byte{c}) {
			return fmt.Errorf("component %d has no scan: %w", c, errShort)
		}
	}
	return nil
}
