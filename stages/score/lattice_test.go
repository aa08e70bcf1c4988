package score_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// compressed is a JPEG of low quality whose sides are no multiples of 8.
func compressed(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open("../../testdata/photos/stream.jpg")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	part := img.(*image.YCbCr).SubImage(image.Rect(100, 100, 203, 197))
	if err := jpeg.Encode(&out, part, &jpeg.Options{Quality: 30}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// turned is the same file with an EXIF orientation.
func turned(t *testing.T, data []byte, orientation int) pipeline.Input {
	t.Helper()
	tiff := []byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(rune(orientation)) + "\x00\x00\x00\x00\x00\x00")
	app1 := binary.BigEndian.AppendUint16([]byte("\xff\xe1"), uint16(2+6+len(tiff)))
	app1 = append(append(app1, "Exif\x00\x00"...), tiff...)
	name := fmt.Sprintf("o%d.jpg", orientation)
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, append(append(data[:2:2], app1...), data[2:]...), 0o666); err != nil {
		t.Fatal(err)
	}
	return pipeline.Input{Name: name, Path: path}
}

// stored is where a pixel of the upright picture lies in the file's, which is
// width x height (Exif 2.32, tag 0x0112).
func stored(orientation int, p image.Point, width, height int) image.Point {
	switch orientation {
	case 2:
		return image.Pt(width-1-p.X, p.Y)
	case 3:
		return image.Pt(width-1-p.X, height-1-p.Y)
	case 4:
		return image.Pt(p.X, height-1-p.Y)
	case 5:
		return image.Pt(p.Y, p.X)
	case 6:
		return image.Pt(p.Y, height-1-p.X)
	case 7:
		return image.Pt(width-1-p.Y, height-1-p.X)
	case 8:
		return image.Pt(width-1-p.Y, p.X)
	}
	return p
}

// onTheSource is blockiness as its description says it, of an area of the
// file's picture as it is stored: blocks at multiples of 8, a DCT of nested loops.
func onTheSource(gray func(x, y int) float64, area image.Rectangle) float64 {
	var cosine [8][8]float64
	for k := range 8 {
		for n := range 8 {
			cosine[k][n] = math.Cos(float64(2*n+1)*float64(k)*math.Pi/16) / 2
			if k == 0 {
				cosine[k][n] = math.Sqrt(1.0 / 8)
			}
		}
	}
	v := func(shift int) (mean [64]float64) {
		blocks := map[image.Point][64]float64{}
		for y := shift; y < area.Max.Y; y += 8 {
			for x := shift; x < area.Max.X; x += 8 {
				if !image.Rect(x, y, x+8, y+8).In(area) {
					continue
				}
				var px, c [64]float64
				for i := range px {
					px[i] = gray(x+i%8, y+i/8)
				}
				for k := range c {
					for i := range px {
						c[k] += px[i] * cosine[k%8][i%8] * cosine[k/8][i/8]
					}
				}
				blocks[image.Pt(x, y)] = c
			}
		}
		n := 0
		for p, c := range blocks {
			l, okl := blocks[p.Add(image.Pt(-8, 0))]
			r, okr := blocks[p.Add(image.Pt(8, 0))]
			t, okt := blocks[p.Add(image.Pt(0, -8))]
			b, okb := blocks[p.Add(image.Pt(0, 8))]
			if !okl || !okr || !okt || !okb {
				continue
			}
			n++
			for k := range c {
				mean[k] += math.Hypot(l[k]+r[k]-2*c[k], t[k]+b[k]-2*c[k])
			}
		}
		for k := range mean {
			mean[k] /= float64(n)
		}
		return mean
	}
	on, off := v(0), v(4)
	var sum float64
	for k := range on {
		sum += math.Abs(off[k]-on[k]) / (on[k] + 1e-8)
	}
	return sum
}

// A crop at any offset of a photograph turned in any way reads what its area
// reads in the file's own picture. Measured on the crop's own grid, nothing
// would be seen at most of the offsets.
func TestBlockinessIsMeasuredOnTheGridOfTheSource(t *testing.T) {
	data := compressed(t)
	size := image.Pt(103, 97)
	var crops []image.Rectangle
	for i := range 64 {
		crops = append(crops, image.Rect(0, 0, 51+i%3, 50+i%2).Add(image.Pt(24+i%8, 16+i/8)))
	}
	for orientation := 1; orientation <= 8; orientation++ {
		t.Run(fmt.Sprint("orientation ", orientation), func(t *testing.T) {
			in := turned(t, data, orientation)
			_, whole := stagetest.New(t, stagetest.Source{in}).Run(t, pipeline.RunOptions{})
			_, seen := stagetest.New(t, stagetest.Source{in}, cut(crops...), step("blockiness")).Run(t, pipeline.RunOptions{})
			// The samples of the upright picture, put back to where the file has them:
			// turning Y'CbCr may have gone through RGB.
			pixels := map[image.Point]float64{}
			upright := whole[in.Name].Image
			for y := range upright.Bounds().Dy() {
				for x := range upright.Bounds().Dx() {
					pixels[stored(orientation, image.Pt(x, y), size.X, size.Y)] = math.Floor(bt601Of(upright, image.Pt(x, y)) + 0.5)
				}
			}
			gray := func(x, y int) float64 {
				v, ok := pixels[image.Pt(x, y)]
				if !ok {
					t.Fatalf("the file has no pixel %d, %d", x, y)
				}
				return v
			}
			for _, r := range crops {
				a, b := stored(orientation, r.Min, size.X, size.Y), stored(orientation, r.Max.Sub(image.Pt(1, 1)), size.X, size.Y)
				area := image.Rectangle{Min: a, Max: b}.Canon()
				area.Max = area.Max.Add(image.Pt(1, 1))
				want := onTheSource(gray, area)
				got := seen[fmt.Sprintf("o%d.jpg@%d,%d", orientation, r.Min.X, r.Min.Y)].Attributes["blockiness"].Float()
				if math.Abs(got-want) > 1e-6*want {
					t.Errorf("crop %v reads %v, its area %v of the source %v", r, got, area, want)
				}
				if got < 100 {
					t.Errorf("crop %v reads only %v", r, got)
				}
			}
		})
	}
}

// bt601Of is the luma of a pixel of the types that JPEG decodes to.
func bt601Of(img image.Image, p image.Point) float64 {
	p = p.Add(img.Bounds().Min)
	if m, ok := img.(*image.YCbCr); ok {
		return float64(m.Y[m.YOffset(p.X, p.Y)])
	}
	return bt601(img.At(p.X, p.Y))
}
