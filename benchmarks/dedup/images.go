package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/disintegration/imaging"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
)

// What images of the folder are.
const (
	imageWidth, imageHeight = 1600, 1200 // px
	copyQuality             = 70
)

const describedImages = "The images are parts of these photographs, 1600x1200 at random places, as JPEG 4:2:0 quality 88; one in 20 is the one before it, resized to three quarters and of quality 70."

// makeImages writes the images of a folder: how many, the photographs' folder, the
// folder.
func makeImages(args []string) error {
	var n int
	if err := numbers(args, &n); err != nil {
		return err
	}
	all, err := readPhotos(args[1])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(args[2], 0o777); err != nil {
		return err
	}
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for g := range threads {
		wg.Go(func() {
			for first := g * plantedEvery; first < n && errs[g] == nil; first += threads * plantedEvery {
				errs[g] = makeSome(all, args[2], first, min(first+plantedEvery, n))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func makeSome(all []*image.YCbCr, folder string, first, last int) error {
	rnd := rand.New(rand.NewPCG(uint64(first), 0))
	var before image.Image
	for i := first; i < last; i++ {
		var img image.Image
		quality := photos.Quality
		if i%plantedEvery == 1 {
			img = imaging.Resize(before, imageWidth*3/4, 0, imaging.Lanczos)
			quality = copyQuality
		} else {
			photo := all[i%len(all)]
			at := image.Pt(rnd.IntN(photos.Width-imageWidth+1), rnd.IntN(photos.Height-imageHeight+1))
			img = photo.SubImage(image.Rect(0, 0, imageWidth, imageHeight).Add(at))
		}
		if err := writeJPEG(filepath.Join(folder, fmt.Sprintf("%05d.jpg", i)), img, quality); err != nil {
			return err
		}
		before = img
	}
	return nil
}

func readPhotos(folder string) (all []*image.YCbCr, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.jpg"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		img, err := readJPEG(file)
		if err != nil {
			return nil, err
		}
		photo, ok := img.(*image.YCbCr)
		if !ok {
			return nil, fmt.Errorf("%s is not a colour JPEG", file)
		}
		all = append(all, photo)
	}
	return all, nil
}

func readJPEG(file string) (image.Image, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	img, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decoding %s: %w", file, err)
	}
	return img, nil
}

func writeJPEG(file string, img image.Image, quality int) error {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o666)
}

// A variant is a way to make a copy of a picture, which is saved with a quality of
// saved unless it has its own.
type variant struct {
	name    string
	quality int
	make    func(img *image.NRGBA) image.Image
}

const saved = 90

func scaled(share float64) func(*image.NRGBA) image.Image {
	return func(img *image.NRGBA) image.Image {
		return imaging.Resize(img, int(share*float64(img.Rect.Dx())), 0, imaging.Lanczos)
	}
}

// cropped keeps that share of the area, about the centre.
func cropped(side float64) func(*image.NRGBA) image.Image {
	return func(img *image.NRGBA) image.Image {
		return imaging.CropCenter(img, int(side*float64(img.Rect.Dx())), int(side*float64(img.Rect.Dy())))
	}
}

// variants are the copies that are looked for.
var variants = []variant{
	{"JPEG quality 75", 75, nil},
	{"JPEG quality 40", 40, nil},
	{"JPEG quality 15", 15, nil},
	{"resized to 1/2", saved, scaled(0.5)},
	{"resized to 1/4", saved, scaled(0.25)},
	{"resized to 3/2", saved, scaled(1.5)},
	{"resized to 1/2, quality 40", 40, scaled(0.5)},
	{"crop, 98 % of each side", saved, cropped(0.98)},
	{"crop, 95 % of each side", saved, cropped(0.95)},
	{"crop, 90 % of each side", saved, cropped(0.9)},
	{"crop, 75 % of each side", saved, cropped(0.75)},
	{"brightness +20 %", saved, func(img *image.NRGBA) image.Image { return imaging.AdjustBrightness(img, 20) }},
	{"brightness -20 %", saved, func(img *image.NRGBA) image.Image { return imaging.AdjustBrightness(img, -20) }},
	{"contrast +30 %", saved, func(img *image.NRGBA) image.Image { return imaging.AdjustContrast(img, 30) }},
	{"contrast -30 %", saved, func(img *image.NRGBA) image.Image { return imaging.AdjustContrast(img, -30) }},
	{"gray", saved, func(img *image.NRGBA) image.Image { return imaging.Grayscale(img) }},
	{"caption over the lower 12 %", saved, caption},
	{"border of 5 %", saved, border},
	{"mirrored", saved, func(img *image.NRGBA) image.Image { return imaging.FlipH(img) }},
	{"turned by 90 degrees", saved, func(img *image.NRGBA) image.Image { return imaging.Rotate90(img) }},
	{"turned by 180 degrees", saved, func(img *image.NRGBA) image.Image { return imaging.Rotate180(img) }},
}

// caption writes a line on a white bar.
func caption(img *image.NRGBA) image.Image {
	out := imaging.Clone(img)
	bar := out.Rect
	bar.Min.Y = bar.Max.Y - bar.Dy()*12/100
	text := image.NewNRGBA(image.Rect(0, 0, bar.Dx()*14/bar.Dy(), 14))
	draw.Draw(text, text.Rect, image.White, image.Point{}, draw.Src)
	d := font.Drawer{Dst: text, Src: image.Black, Face: basicfont.Face7x13, Dot: fixed.P(3, 11)}
	d.DrawString("WHEN YOU SEE IT")
	draw.Draw(out, bar, imaging.Resize(text, bar.Dx(), bar.Dy(), imaging.Linear), image.Point{}, draw.Src)
	return out
}

// border puts the picture on a black one.
func border(img *image.NRGBA) image.Image {
	w, h := img.Rect.Dx()/20, img.Rect.Dy()/20
	return imaging.Paste(imaging.New(img.Rect.Dx()+2*w, img.Rect.Dy()+2*h, color.Black), img, image.Pt(w, h))
}

// originalWidth is that of the pictures of which copies are made.
const originalWidth = 1024

// makeVariants writes a folder for each variant, with originals and their copies in
// folders of their own: the benchmark's photographs, the repository's, the folder.
func makeVariants(args []string) error {
	large, small, to := args[0], args[1], args[2]
	originals := filepath.Join(to, "originals")
	if err := os.MkdirAll(originals, 0o777); err != nil {
		return err
	}
	pictures := map[string]*image.NRGBA{}
	all, err := readPhotos(large)
	if err != nil {
		return err
	}
	for i, photo := range all {
		for q := range 4 { // quarters, which do not overlap
			at := image.Pt(q%2*photos.Width/2, q/2*photos.Height/2)
			quarter := photo.SubImage(image.Rect(0, 0, photos.Width/2, photos.Height/2).Add(at))
			pictures[fmt.Sprintf("%02d-%d.jpg", i, q)] = imaging.Resize(quarter, originalWidth, 0, imaging.Lanczos)
		}
	}
	files, err := filepath.Glob(filepath.Join(small, "*.jpg"))
	if err != nil {
		return err
	}
	for _, file := range files {
		img, err := readJPEG(file)
		if err != nil {
			return err
		}
		pictures[filepath.Base(file)] = imaging.Clone(img)
	}
	for name, img := range pictures {
		if err := writeJPEG(filepath.Join(originals, name), img, 95); err != nil {
			return err
		}
	}
	for i, v := range variants {
		folder := variantFolder(to, i)
		for _, part := range []string{"originals", "copies"} {
			if err := os.MkdirAll(filepath.Join(folder, part), 0o777); err != nil {
				return err
			}
		}
		for name, img := range pictures {
			if err := os.Link(filepath.Join(originals, name), filepath.Join(folder, "originals", name)); err != nil {
				return err
			}
			var c image.Image = img
			if v.make != nil {
				c = v.make(img)
			}
			if err := writeJPEG(filepath.Join(folder, "copies", name), c, v.quality); err != nil {
				return err
			}
		}
	}
	return nil
}

func variantFolder(to string, i int) string { return filepath.Join(to, fmt.Sprintf("variant-%02d", i)) }
