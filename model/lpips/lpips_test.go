package lpips_test

import (
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/lpips"
	"github.com/forgepipe/forgepipe/model/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pictures are those of the reference's batch that make its numbers, as nearly as 8 bits
// can. What the network takes is made of -1..1 by the preset, and by the reference it is
// given as it is.
func pictures(i int, size [3]int) []image.Image {
	var all []image.Image
	n, height, width := size[0], size[1], size[2]
	values := archtest.Picture(i, n, height, width)
	mean, std := [3]float64{-0.030, -0.088, -0.188}, [3]float64{0.458, 0.448, 0.450}
	for k := range n {
		img := image.NewNRGBA(image.Rect(0, 0, width, height))
		for y := range height {
			for x := range width {
				at := img.PixOffset(x, y)
				img.Pix[at+3] = 255
				for c := range 3 {
					v := float64(values[((k*3+c)*height+y)*width+x])
					level := ((v*std[c]+mean[c])/2 + 0.5) * 255
					img.Pix[at+c] = uint8(math.Round(level))
				}
			}
		}
		all = append(all, img)
	}
	return all
}

// Distances are those of the published implementation, but for samples that are rounded
// to 8 bits.
func TestAsPublished(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, name := range []string{"lpips-alex", "lpips-vgg"} {
		t.Run(name, func(t *testing.T) {
			g := archtest.Read(t, name)
			d, err := lpips.Open(t.Context(), lpips.Options{}, g.Save(t, "lpips.safetensors", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for i, c := range g.Cases {
				want := c.Outputs["distances"].Numbers(t)
				all := pictures(i, c.Size)
				for j, a := range all {
					for k, b := range all {
						got, err := d.Of(t.Context(), a, b)
						w := float64(want[j*len(all)+k])
						if err != nil || math.Abs(got-w) > 0.01*w {
							t.Errorf("%v: the distance of %d and %d is %v, %v, want %v", c.Size, j, k, got, err, w)
						}
					}
				}
			}
		})
	}
}

// parts saves a golden whose weights come apart, as the files of a backbone and of the
// linear layers.
func parts(t *testing.T, name string) (network, layers string) {
	t.Helper()
	g := archtest.Read(t, name)
	only := func(lin bool) func(string) string {
		return func(key string) string {
			if strings.HasPrefix(key, "lin") != lin {
				return ""
			}
			return key
		}
	}
	return g.Save(t, "network.safetensors", only(false)), g.Save(t, "layers.safetensors", only(true))
}

func TestSizes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	network, layers := parts(t, "lpips-alex-apart")
	open := func(o lpips.Options) *lpips.Distance {
		o.Threads = 1
		d, err := lpips.Open(t.Context(), o, network, layers)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	all := pictures(0, [3]int{2, 64, 64})
	a, b := all[0], all[1]
	small := pictures(0, [3]int{1, 40, 48})[0]
	own, squashed, limited := open(lpips.Options{}), open(lpips.Options{Size: 48}), open(lpips.Options{MaxPixels: 64 * 63})

	of := func(d *lpips.Distance, a, b image.Image) float64 {
		t.Helper()
		v, err := d.Of(t.Context(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v, w := of(own, a, small), of(own, small, a); v != w || !(v > 0) {
		t.Errorf("pictures of two sizes have the distances %v and %v", v, w)
	}
	if v, w := of(own, a, b), of(squashed, a, b); v == w || !(w > 0) {
		t.Errorf("squashed, the distance is %v, and %v otherwise", w, v)
	}
	if v := of(squashed, a, a); v != 0 {
		t.Errorf("the distance of a picture of itself is %v", v)
	}
	if _, err := limited.Of(t.Context(), a, b); !errors.Is(err, lpips.ErrTooLarge) || !strings.Contains(err.Error(), "64 x 64 pixels are more than 4032") {
		t.Errorf("the error of a large picture is %v", err)
	}
	if _, err := own.Of(t.Context(), image.NewGray(image.Rect(0, 0, 31, 99)), image.NewGray(image.Rect(0, 0, 31, 99))); err == nil || !strings.Contains(err.Error(), "31 x 99 pixels are too small") {
		t.Errorf("the error of a small picture is %v", err)
	}
	if own.Name() != "LPIPS" || squashed.Name() != "LPIPS at 48 px" {
		t.Errorf("they are called %s and %s", own.Name(), squashed.Name())
	}
}

func TestFind(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	t.Setenv(store.Variable, dir)
	if files, err := lpips.Find("./a.pth", "b.pth"); err != nil || fmt.Sprint(files) != "[./a.pth b.pth]" {
		t.Errorf("files are %v, %v", files, err)
	}
	if _, err := lpips.Find("lpips-vgg"); !errors.Is(err, store.ErrMissing) || !strings.Contains(err.Error(), "forgepipe models fetch lpips-vgg") {
		t.Errorf("what is missing is %v", err)
	}
	registry := `{"models": [
		{"name": "layers", "format": "safetensors", "file": "l", "beside": ["network"], "licence": "ours", "bring": "ask us"},
		{"name": "network", "format": "safetensors", "file": "n", "licence": "ours", "bring": "ask us"}]}`
	if err := os.WriteFile(filepath.Join(dir, "registry.json"), []byte(registry), 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	network, layers := parts(t, "lpips-alex-apart")
	l, n := filepath.Join(dir, "layers", "layers.safetensors"), filepath.Join(dir, "network", "network.safetensors")
	find := func(want []string, names ...string) {
		t.Helper()
		if files, err := lpips.Find(names...); err != nil || !slices.Equal(files, want) {
			t.Errorf("%v is found as %v, %v, want %v", names, files, err, want)
		}
	}
	if _, _, err := s.Add(t.Context(), layers, "layers"); err != nil {
		t.Fatal(err)
	}
	if _, err := lpips.Find("layers"); !errors.Is(err, store.ErrMissing) {
		t.Errorf("without its network: %v", err)
	}
	find([]string{l, "mine.pth"}, "layers", "mine.pth")
	if _, _, err := s.Add(t.Context(), network, "network"); err != nil {
		t.Fatal(err)
	}
	find([]string{l, n}, "layers")
	find([]string{n, l}, "network", "layers")
	find([]string{l, "mine.pth"}, "layers", "mine.pth")
	other := archtest.Read(t, "compact-x1").Save(t, "upscaler.safetensors", nil)
	if _, err := lpips.Open(t.Context(), lpips.Options{}, other); err == nil || !strings.Contains(err.Error(), "is the network SRVGGNetCompact, and LPIPS is wanted") {
		t.Errorf("the error of another network is %v", err)
	}
	for n, files := range [][]string{{}, {"a", "b", "c"}} {
		if _, err := lpips.Open(t.Context(), lpips.Options{}, files...); err == nil {
			t.Errorf("%d files of case %d are taken", len(files), n)
		}
	}
}
