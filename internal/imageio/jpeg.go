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

// jpegHeader follows image/jpeg in what it makes of a file: samples are padded
// to whole MCUs, a progressive file keeps a block of 64 int32 per 64 samples
// until its last scan, and four components or Adobe's RGB are converted.
func jpegHeader(data []byte, lim Limits) (raw, error) {
	var r raw
	c, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err := r.config(c, err, lim); err != nil {
		return raw{}, err
	}
	var (
		sof            []byte
		progressive    bool
		jfif, adobe    bool
		adobeTransform byte
	)
	walkJPEG(data, func(marker byte, payload []byte) bool {
		switch marker {
		case 0xc0, 0xc1, 0xc2:
			sof, progressive = payload, marker == 0xc2
		case 0xe0:
			if len(payload) >= 5 {
				jfif = string(payload[:5]) == "JFIF\x00"
			}
		case 0xe1:
			if r.orientation == 0 && bytes.HasPrefix(payload, []byte("Exif\x00\x00")) {
				r.orientation = exifOrientation(payload)
			}
		case 0xee:
			if len(payload) >= 12 && string(payload[:5]) == "Adobe" {
				adobe, adobeTransform = true, payload[11]
			}
		case 0xda:
			return false
		}
		return true
	})
	if len(sof) < 6 || len(sof) < 6+3*int(sof[5]) {
		return raw{}, errShort
	}
	n := int(sof[5])
	var hv [4][2]int64
	var id [4]byte
	var blocks int64 // per MCU
	for i := range min(n, 4) {
		id[i] = sof[6+3*i]
		hv[i] = [2]int64{int64(sof[7+3*i] >> 4), int64(sof[7+3*i] & 15)}
		if n == 1 {
			hv[i] = [2]int64{1, 1} // image/jpeg: one component is never subsampled
		}
		blocks += hv[i][0] * hv[i][1]
	}
	mcuW, mcuH := 8*hv[0][0], 8*hv[0][1]
	mcus := ((r.width + mcuW - 1) / mcuW) * ((r.height + mcuH - 1) / mcuH)
	luma := mcus * mcuW * mcuH
	if progressive {
		r.scratch = mcus * blocks * 256
	}
	if n == 1 {
		r.bytes, r.pixel = luma, 1
		return r, nil
	}

	if hv[1][0] == 0 || hv[1][1] == 0 {
		return raw{}, errShort
	}
	ratioX, ratioY := hv[0][0]/hv[1][0], hv[0][1]/hv[1][1]
	if ratioX == 0 || ratioY == 0 {
		return raw{}, errShort
	}
	planes := luma + 2*luma/(ratioX*ratioY)
	rgb := !jfif && (adobe && adobeTransform == 0 || id[0] == 'R' && id[1] == 'G' && id[2] == 'B')
	switch {
	case n == 4:
		r.flat(4)
		r.scratch += planes + mcus*hv[3][0]*hv[3][1]*64
	case rgb:
		r.flat(4)
		r.scratch += planes
	default:
		r.planes, r.bytes = true, planes
		switch [2]int64{ratioX, ratioY} {
		case [2]int64{1, 1}:
			r.ratio = image.YCbCrSubsampleRatio444
		case [2]int64{1, 2}:
			r.ratio = image.YCbCrSubsampleRatio440
		case [2]int64{2, 1}:
			r.ratio = image.YCbCrSubsampleRatio422
		case [2]int64{2, 2}:
			r.ratio = image.YCbCrSubsampleRatio420
		case [2]int64{4, 1}:
			r.ratio = image.YCbCrSubsampleRatio411
		case [2]int64{4, 2}:
			r.ratio = image.YCbCrSubsampleRatio410
		default:
			return raw{}, unsupported("chroma subsampling ratio")
		}
	}
	return r, nil
}

// walkJPEG calls visit with each segment until that returns false, and skips
// the entropy-coded data after a start of scan (0xda). It ends at the end of
// image, or quietly where the data end.
func walkJPEG(data []byte, visit func(marker byte, payload []byte) bool) {
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
		if !visit(marker, data[i+2:i+n]) {
			return
		}
		i += n
	}
}

// checkJPEGScans refuses too many scans, and a component without any, which
// image/jpeg would leave at zero.
func checkJPEGScans(data []byte) error {
	scans := 0
	var want, seen []byte
	walkJPEG(data, func(marker byte, p []byte) bool {
		switch marker {
		case 0xc0, 0xc1, 0xc2:
			if len(p) >= 6 {
				for i := 6; i+2 < len(p) && i < 6+3*int(p[5]); i += 3 {
					want = append(want, p[i])
				}
			}
		case 0xda:
			scans++
			if len(p) >= 1 {
				for i := 1; i+1 < len(p) && i < 1+2*int(p[0]); i += 2 {
					seen = append(seen, p[i])
				}
			}
		}
		return scans <= maxScans
	})
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
