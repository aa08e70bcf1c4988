package imageio

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
