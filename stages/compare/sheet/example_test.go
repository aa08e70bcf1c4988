package sheet_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"

	"github.com/forgepipe/forgepipe/stages/compare/sheet"
)

// Two pictures, of which one is a little brighter, are drawn beside each other.
func Example() {
	dark, bright := image.NewGray(image.Rect(0, 0, 400, 300)), image.NewGray(image.Rect(0, 0, 400, 300))
	draw.Draw(dark, dark.Rect, image.NewUniform(color.Gray{Y: 100}), image.Point{}, draw.Src)
	draw.Draw(bright, bright.Rect, image.NewUniform(color.Gray{Y: 105}), image.Point{}, draw.Src)

	var file bytes.Buffer
	d, err := sheet.Encode(context.Background(), &file, sheet.Picture{Name: "dark", Image: dark}, sheet.Picture{Name: "bright", Image: bright},
		sheet.Options{Layout: sheet.Side})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := png.DecodeConfig(&file)
	fmt.Println(d, err)
	fmt.Println(m.Width > 800, m.Height > 300)
	// Output:
	// PSNR 34.15 dB, mean difference 5, largest 5 <nil>
	// true true
}
