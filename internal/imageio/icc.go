package imageio

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
)

// maxICC bounds a profile. Those of cameras and printers have up to 2 MiB; 255
// segments of a JPEG hold more.
const maxICC = 4 << 20

// ICCProfile returns the colour profile that an image file carries: the bytes of
// a file of the International Color Consortium (ICC.1:2010). It is nil where
// there is none, where it is damaged or over 4 MiB, and where it is not for the
// kind of pixels that Decode returns, gray or RGB: that of a CMYK file is left
// out, because its pixels have been converted.
func ICCProfile(data []byte) []byte {
	format, ok := Sniff(data)
	if !ok {
		return nil
	}
	var icc []byte
	var gray bool
	switch format {
	case JPEG:
		icc, gray = jpegICC(data)
	case PNG:
		icc, gray = pngICC(data)
	case WebP:
		icc = webpICC(data)
	case TIFF:
		icc, gray = tiffICC(data)
	}
	space := "RGB "
	if gray {
		space = "GRAY"
	}
	return checkICC(icc, space)
}

// checkICC returns the profile without what follows it, or nil.
func checkICC(icc []byte, space string) []byte {
	const header = 128 // and a count of tags behind it
	if len(icc) < header+4 || string(icc[36:40]) != "acsp" || string(icc[16:20]) != space {
		return nil
	}
	size := binary.BigEndian.Uint32(icc)
	if size < header+4 || int64(size) > int64(len(icc)) || size > maxICC {
		return nil
	}
	return bytes.Clone(icc[:size])
}

const iccPrefix = "ICC_PROFILE\x00"

// jpegICC joins the parts of a profile, which are numbered from 1 and may come
// in any order.
func jpegICC(data []byte) (icc []byte, gray bool) {
	var parts [256][]byte
	count, seen, size := 0, 0, 0
	broken := false
	walkJPEG(data, func(_ int, marker byte, p []byte) bool {
		switch marker {
		case 0xc0, 0xc1, 0xc2:
			if len(p) >= 6 {
				gray = p[5] == 1
			}
		case 0xe2:
			if len(p) < len(iccPrefix)+2 || string(p[:len(iccPrefix)]) != iccPrefix {
				break
			}
			number, of := int(p[len(iccPrefix)]), int(p[len(iccPrefix)+1])
			if number == 0 || number > of || parts[number] != nil || count != 0 && count != of {
				broken = true
				return false
			}
			count = of
			seen++
			parts[number] = p[len(iccPrefix)+2:]
			size += len(parts[number])
		case 0xda:
			return false
		}
		return true
	})
	if broken || seen != count || size > maxICC {
		return nil, gray
	}
	return bytes.Join(parts[:], nil), gray
}

func pngICC(data []byte) (icc []byte, gray bool) {
	if len(data) < 33 {
		return nil, false
	}
	gray = data[25] == 0
	seen, pixels := false, false
	walkPNG(data, func(name string, p []byte) {
		switch name {
		case "IDAT":
			pixels = true
		case "tRNS":
			// Gray with a transparent value is decoded to colour.
			gray = gray && pixels
		case "iCCP":
			if seen || pixels {
				return
			}
			seen = true
			// A name of up to 79 letters, a zero, and the method, which is zero.
			if i := bytes.IndexByte(p, 0); i > 0 && i < 80 && i+2 <= len(p) && p[i+1] == 0 {
				icc = inflateICC(p[i+2:])
			}
		}
	})
	return icc, gray
}

func inflateICC(p []byte) []byte {
	r, err := zlib.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil
	}
	icc, err := io.ReadAll(io.LimitReader(r, maxICC+1))
	if err != nil || len(icc) > maxICC {
		return nil
	}
	return icc
}

func webpICC(data []byte) (icc []byte) {
	walkWebP(data, func(name string, p []byte) {
		if name == "ICCP" && icc == nil {
			icc = p
		}
	})
	return icc
}

func tiffICC(data []byte) (icc []byte, gray bool) {
	t, err := newIFD(data)
	if err != nil {
		return nil, false
	}
	photometric := t.first(tiffPhotometric, 0)
	return t.bytes(tiffICCProfile), photometric <= 1
}
