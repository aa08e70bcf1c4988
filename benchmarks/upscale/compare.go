package main

import (
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// leastPSNR is what the pictures of Python must have at least with forgepipe's, in
	// dB: they are of the same work then. Where tiles show the network less than it looks
	// at, the two put them together in different ways.
	leastPSNR = 45
	// leastSpread is the standard deviation that a picture must have, in 8-bit steps:
	// what is all black or white would be the same whatever was done.
	leastSpread = 10
)

// compare looks at the pictures that the programs wrote last, in a process of its own: see
// proc.Usage for why a benchmark has to stay small.
func (t *task) compare() error {
	args := []string{"-job", "compare", t.us.out}
	for _, p := range t.peers {
		args = append(args, p.out)
	}
	out, err := exec.Command(t.self, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("comparing the pictures: %w\n%s", err, out)
	}
	if t.psnr, err = strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err != nil {
		return fmt.Errorf("comparing the pictures: %w", err)
	}
	if t.psnr < leastPSNR {
		return fmt.Errorf("the pictures of Python have as little as %.1f dB with forgepipe's: at least %d is wanted, else it is not the same work", t.psnr, leastPSNR)
	}
	return nil
}

// compareJob prints the lowest PSNR that a picture of a folder has with those of its name in
// the others.
func compareJob(dirs []string) error {
	files, err := filepath.Glob(filepath.Join(dirs[0], "*.png"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there are no pictures in %s", dirs[0])
	}
	if err != nil {
		return err
	}
	least := math.Inf(1)
	for _, file := range files {
		ours, err := readPNG(file)
		if err != nil {
			return err
		}
		if s := spread(ours); s < leastSpread {
			return fmt.Errorf("%s has next to nothing on it: a standard deviation of %.1f", file, s)
		}
		for _, dir := range dirs[1:] {
			theirs, err := readPNG(filepath.Join(dir, filepath.Base(file)))
			if err != nil {
				return err
			}
			db, err := psnr(ours, theirs)
			if err != nil {
				return fmt.Errorf("%s in %s: %w", filepath.Base(file), dir, err)
			}
			least = min(least, db)
		}
	}
	fmt.Println(least)
	return nil
}

func readPNG(file string) (image.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return img, nil
}

// psnr is the peak signal-to-noise ratio of two pictures of 8 bits, all colours
// together; infinite for equal ones.
func psnr(a, b image.Image) (float64, error) {
	if a.Bounds().Size() != b.Bounds().Size() {
		return 0, fmt.Errorf("it has %v pixels, and forgepipe's %v", b.Bounds().Size(), a.Bounds().Size())
	}
	sum, n := 0.0, 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			p, q := rgb(a, x, y), rgb(b, x, y)
			for c := range p {
				sum += (p[c] - q[c]) * (p[c] - q[c])
				n++
			}
		}
	}
	return 10 * math.Log10(255*255/(sum/float64(n))), nil
}

// spread is the standard deviation of green.
func spread(img image.Image) float64 {
	var sum, squares, n float64
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			g := rgb(img, x, y)[1]
			sum, squares, n = sum+g, squares+g*g, n+1
		}
	}
	mean := sum / n
	return math.Sqrt(max(squares/n-mean*mean, 0))
}

func rgb(img image.Image, x, y int) [3]float64 {
	at := img.Bounds().Min.Add(image.Pt(x, y))
	switch img := img.(type) { // others are slow
	case *image.NRGBA:
		p := img.Pix[img.PixOffset(at.X, at.Y):]
		return [3]float64{float64(p[0]), float64(p[1]), float64(p[2])}
	case *image.RGBA:
		p := img.Pix[img.PixOffset(at.X, at.Y):]
		return [3]float64{float64(p[0]), float64(p[1]), float64(p[2])}
	}
	r, g, b, _ := img.At(at.X, at.Y).RGBA()
	return [3]float64{float64(r >> 8), float64(g >> 8), float64(b >> 8)}
}
