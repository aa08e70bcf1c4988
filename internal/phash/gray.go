package phash

import "image"

// gray resizes a picture and makes it gray.
func gray(img image.Image, w, h int) []uint8 {
	b := img.Bounds()
	g := make([]uint8, 0, w*h)
	for y := range h {
		for x := range w {
			r, gr, bl, _ := img.At(b.Min.X+(2*x+1)*b.Dx()/(2*w), b.Min.Y+(2*y+1)*b.Dy()/(2*h)).RGBA()
			g = append(g, uint8((19595*(r>>8)+38470*(gr>>8)+7471*(bl>>8)+0x8000)>>16))
		}
	}
	return g
}
