package imageio

import (
	"fmt"
	"image"
	"runtime/debug"
)

// Encoder names all encoders with their versions, under default options, for
// fingerprints: another version may give other bytes for the same pixels.
func Encoder() string {
	webp, err := WebPLibrary()
	if err != nil {
		webp = "no libwebp"
	}
	return PNGEncoder(PNGOptions{}) + "; " + JPEGEncoder(JPEGOptions{}) + "; " + webp
}

// checkEncodable refuses what no file can hold.
func checkEncodable(img image.Image, side int) error {
	b := img.Bounds()
	switch {
	case b.Empty():
		return fmt.Errorf("the picture is empty (%d x %d pixels)", b.Dx(), b.Dy())
	case b.Dx() > side || b.Dy() > side:
		return fmt.Errorf("the picture has %d x %d pixels, and the format ends at %d a side: write it in another format, or cut it into tiles", b.Dx(), b.Dy(), side)
	}
	return nil
}

// moduleVersion is the version of a module that the program was built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			for m.Replace != nil {
				m = m.Replace
			}
			return m.Version
		}
	}
	return "unknown"
}

// fitsICC tells whether a colour profile describes pixels that are gray or RGB:
// its header, of 128 bytes, says for which colours it is (ICC.1, 7.2.6). The
// profile of a CMYK file is wrong for the RGB that its decoder gives.
func fitsICC(icc []byte, gray bool) bool {
	if len(icc) < 128 {
		return false
	}
	colours := string(icc[16:20])
	if gray {
		return colours == "GRAY"
	}
	return colours == "RGB "
}
