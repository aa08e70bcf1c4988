package lpips_test

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/lpips"
)

// versions are what becomes of a picture on its way, and parts of it.
var versions = []func(img image.Image) image.Image{
	func(img image.Image) image.Image { return img },
	func(img image.Image) image.Image { return recompressed(img, 40) },
	func(img image.Image) image.Image { return part(img, 0, 0, 0.6, 0.6) },
	func(img image.Image) image.Image { return imaging.Resize(img, img.Bounds().Dx()/3, 0, imaging.Lanczos) },
	func(img image.Image) image.Image { return part(img, 0.02, 0.02, 0.98, 0.98) },
	func(img image.Image) image.Image { return part(img, 0.5, 0.5, 1, 1) },
	func(img image.Image) image.Image { return imaging.AdjustBrightness(img, 10) },
	func(img image.Image) image.Image { return recompressed(img, 10) },
	func(img image.Image) image.Image {
		out := imaging.Clone(img)
		r := out.Bounds()
		draw.Draw(out, image.Rect(r.Dx()/10, r.Dy()*8/10, r.Dx()*9/10, r.Dy()*9/10), image.NewUniform(color.White), image.Point{}, draw.Src)
		return out
	},
	func(img image.Image) image.Image { return imaging.FlipH(img) },
	func(img image.Image) image.Image { return part(img, 0.1, 0, 1, 0.9) },
	func(img image.Image) image.Image { return imaging.AdjustContrast(img, -20) },
}

func recompressed(img image.Image, quality int) image.Image {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		panic(err)
	}
	out, err := jpeg.Decode(&b)
	if err != nil {
		panic(err)
	}
	return out
}

// structured are n pictures made of the photographs: versions of these, and then of two
// parts of each.
func structured(t testing.TB, n int) (all []image.Image) {
	photos := map[string]image.Image{}
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "photos", "*.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range [][4]float64{{0, 0, 1, 1}, {0, 0, 0.5, 1}, {0.5, 0, 1, 1}} {
		for _, version := range versions {
			for _, file := range files {
				if len(all) == n {
					return all
				}
				if photos[file] == nil { // small, which is quicker, and still four times what the network sees
					photos[file] = imaging.Resize(photo(t, strings.TrimSuffix(filepath.Base(file), ".jpg")), 256, 0, imaging.Box)
				}
				all = append(all, version(part(photos[file], of[0], of[1], of[2], of[3])))
			}
		}
	}
	t.Fatalf("there are only %d pictures", len(all))
	return nil
}

// pairs tells that the pairs within a distance, looked for by what is pooled and then
// measured where a grid does not tell, are those that measuring all pairs finds; and how
// many were measured.
func pairs(t *testing.T, file string, size, n int) {
	all := structured(t, n)
	pooled, whole := pooledAndWhole(t, file, size, size, all)
	d, err := lpips.Open(t.Context(), lpips.Options{Size: size, Threads: 1}, file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.NewSet(root(t), "squashed", int64(n)*d.VectorBytes())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, img := range all {
		if _, err := add(t, d, s, img); err != nil {
			t.Fatal(err)
		}
	}
	var distances, low []float64
	for i := range all {
		for j := range i {
			distances = append(distances, lpips.SquaredDistance(whole[i], whole[j]))
			low = append(low, lpips.SquaredDistance(pooled[i], pooled[j]))
		}
	}
	sorted := slices.Sorted(slices.Values(distances))
	for _, share := range []float64{0.001, 0.01, 0.05} { // a random network has a scale of its own
		most := sorted[int(share*float64(len(sorted)))]
		before, k, found := s.Stats(), 0, 0
		for i := range all {
			for j := range i {
				ok := false
				if low[k] <= lpips.PooledWithin(most) {
					if _, ok, err = s.Within(t.Context(), uint32(i), uint32(j), most); err != nil {
						t.Fatal(err)
					}
				}
				if want := distances[k] <= most; ok != want {
					t.Errorf("%d and %d are %v apart, pooled %v: within %v is %v, want %v", i, j, distances[k], low[k], most, ok, want)
				}
				if ok {
					found++
				}
				k++
			}
		}
		after, percent := s.Stats(), func(n int64) float64 { return 100 * float64(n) / float64(len(distances)) }
		asked, exact := after.Pairs-before.Pairs, after.Exact-before.Exact
		t.Logf("at %d px: of %d pairs of %d pictures %.2f%% are within %.4g; looked at with pooling %.2f%%, and without 100%%; measured exactly %.2f%%",
			size, len(distances), n, percent(int64(found)), most, percent(asked), percent(exact))
		// Random features prune worse than trained ones, and what is pooled does not where most
		// pairs of pictures that have nothing in common are hardly farther apart.
		if found == 0 || share <= 0.01 && percent(asked) > 60 || percent(exact) > 25 {
			t.Errorf("%d pairs were found, and %d and %d of %d measured", found, asked, exact, len(distances))
		}
	}
}

func TestPairsByPooling(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	pairs(t, archtest.Read(t, "lpips-alex").Save(t, "lpips.safetensors", nil), 48, 60)
}
