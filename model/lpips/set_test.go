package lpips_test

import (
	"errors"
	"image"
	"image/color"
	"image/draw"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "image/jpeg" // the photographs

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch/archtest"
	"github.com/forgepipe/forgepipe/model/lpips"
)

// photo decodes one of the photographs of the repository.
func photo(t testing.TB, name string) image.Image {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "testdata", "photos", name+".jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// part is a rectangle of a picture, in parts of its sides.
func part(img image.Image, x0, y0, x1, y1 float64) image.Image {
	b := img.Bounds()
	at := func(x, y float64) image.Point {
		return b.Min.Add(image.Pt(int(x*float64(b.Dx())), int(y*float64(b.Dy()))))
	}
	out := image.NewNRGBA(image.Rectangle{Max: at(x1, y1).Sub(at(x0, y0))})
	draw.Draw(out, out.Bounds(), img, at(x0, y0), draw.Src)
	return out
}

// flat is a picture of one colour.
func flat(c color.Color) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, 40, 40))
	draw.Draw(img, img.Bounds(), image.NewUniform(c), image.Point{}, draw.Src)
	return img
}

// several are pictures of all kinds: photographs and parts of them, gray, with
// transparency, of 16 bits, of odd sizes, noise, and of one colour.
func several(t testing.TB) []image.Image {
	boats, dogs := photo(t, "boats"), photo(t, "dogs")
	gray := image.NewGray(image.Rect(0, 0, 77, 51))
	draw.Draw(gray, gray.Bounds(), dogs, image.Pt(9, 9), draw.Src)
	deep := image.NewNRGBA64(image.Rect(3, 4, 70, 90))
	draw.Draw(deep, deep.Bounds(), boats, image.Pt(20, 30), draw.Src)
	deep.SetNRGBA64(10, 10, color.NRGBA64{R: 0x1234, G: 0xabcd, B: 0x80, A: 0x4000})
	all := []image.Image{boats, part(boats, 0, 0, 0.9, 0.95), dogs, part(dogs, 0.3, 0.3, 0.8, 0.8), gray, deep}
	return append(append(all, pictures(1, [3]int{2, 53, 41})...), flat(color.Black), flat(color.NRGBA{R: 200, G: 30, B: 90, A: 255}))
}

// opened opens a golden network that is squashed to that size.
func opened(t testing.TB, golden string, o lpips.Options) *lpips.Distance {
	t.Helper()
	o.Threads = 1
	d, err := lpips.Open(t.Context(), o, archtest.Read(t, golden).Save(t, "lpips.safetensors", nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// root is a folder of the test's own.
func root(t testing.TB) fsys.Root {
	t.Helper()
	dir, err := fsys.OS.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

// add adds a picture to a set.
func add(t testing.TB, d *lpips.Distance, s *lpips.Set, img image.Image) (uint32, error) {
	t.Helper()
	prepared, err := d.Prepare(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	return s.Append(prepared)
}

// A set tells the same numbers as Of, to the last bit, whatever it holds in memory.
func TestSet(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	d := opened(t, "lpips-alex", lpips.Options{Size: 40})
	all, dir := several(t), root(t)
	var want [][]float64
	for _, a := range all {
		var row []float64
		for _, b := range all {
			v, err := d.Of(t.Context(), a, b)
			if err != nil {
				t.Fatal(err)
			}
			row = append(row, v)
		}
		want = append(want, row)
	}
	for name, tt := range map[string]struct{ vectors, made int64 }{
		"two in memory": {0, 0},
		"all in memory": {2 * int64(len(all)), int64(len(all))},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := d.NewSet(dir, "squashed", tt.vectors*d.VectorBytes())
			if err != nil {
				t.Fatal(err)
			}
			for i, img := range all {
				if n, err := add(t, d, s, img); err != nil || int(n) != i {
					t.Fatalf("picture %d is %d, %v", i, n, err)
				}
			}
			for i := range all {
				for j := range all {
					most := want[i][j]
					if (i+j)%2 == 1 {
						most = math.Nextafter(most, -1)
					}
					got, ok, err := s.Within(t.Context(), uint32(i), uint32(j), most)
					if err != nil || got != want[i][j] || ok != ((i+j)%2 == 0) {
						t.Errorf("the distance of %d and %d is %v, within %v: %v, %v, want %v", i, j, got, most, ok, err, want[i][j])
					}
				}
			}
			stats, n := s.Stats(), int64(len(all))
			if stats.Pairs != n*n || stats.Exact != n*n || tt.made > 0 && stats.Vectors != tt.made || tt.made == 0 && (stats.Vectors < n*(n-2) || stats.Vectors > n*(n+1)) {
				t.Errorf("of %d pictures it has done %+v", n, stats)
			}
			for i := range all {
				for j := range i { // most are told by a bound
					most := want[i][j] / 4
					got, ok, err := s.Within(t.Context(), uint32(i), uint32(j), most)
					if err != nil || ok || got <= most || got > want[i][j]*(1+1e-5) {
						t.Errorf("%d and %d, which are %v apart, are within %v: %v, %v, %v", i, j, want[i][j], most, got, ok, err)
					}
				}
			}
			if after := s.Stats(); after.Exact-stats.Exact > (after.Pairs-stats.Pairs)/2 || tt.made > 0 && after.Vectors != tt.made {
				t.Errorf("then it has done %+v", after)
			}
			info, err := dir.Lstat("squashed")
			if err != nil || info.Size() != int64(len(all))*d.PreparedBytes() {
				t.Errorf("its file is %v, %v", info, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if left, err := dir.ReadDir("."); err != nil || len(left) > 0 {
				t.Errorf("it has left %v, %v", left, err)
			}
		})
	}
}

// sizes tells that a vector has the bytes that were told for it before.
func sizes(t *testing.T, file string, size int) {
	t.Helper()
	d, err := lpips.Open(t.Context(), lpips.Options{Size: size, Threads: 1}, file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p, err := d.Prepare(t.Context(), flat(color.White))
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Vector(t.Context(), p)
	if err != nil || int64(len(p)) != d.PreparedBytes() || int64(4*len(v)) != d.VectorBytes() || d.GridBytes() == 0 {
		t.Errorf("%d bytes of %d, %d numbers of %d bytes, %d for a grid, %v", len(p), d.PreparedBytes(), len(v), d.VectorBytes(), d.GridBytes(), err)
	}
}

func TestWrongUse(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	own, d, dir := opened(t, "lpips-alex", lpips.Options{}), opened(t, "lpips-alex", lpips.Options{Size: 32}), root(t)
	taken, err := d.NewSet(dir, "b", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, prepare := own.Prepare(t.Context(), flat(color.White))
	_, vector := own.Vector(t.Context(), nil)
	_, set := own.NewSet(dir, "a", 0)
	_, short := d.Vector(t.Context(), make([]byte, 3*32*32-1))
	_, long := taken.Append(make([]byte, 3*32*32+1))
	_, twice := d.NewSet(dir, "b", 0)
	for want, err := range map[string]error{
		"open it with a size": prepare, "open it with a size, to": vector, "with a size": set,
		"has 3072 bytes, and not 3071": short, "3072 bytes, and not 3073": long, "making a file of squashed pictures": twice,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, and should say %s", err, want)
		}
	}
	if !errors.Is(twice, fs.ErrExist) {
		t.Errorf("a file that is there: %v", twice)
	}
}

// A disk that fails at any step leaves an error, and never a distance of other pictures.
func TestSetOnAFailingDisk(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	d := opened(t, "lpips-alex", lpips.Options{Size: 32})
	a, b := flat(color.White), part(photo(t, "kite"), 0, 0, 1, 1)
	use := func(f fsys.FS) (distance float64, err error) {
		dir, err := f.OpenRoot(t.TempDir())
		if err != nil {
			return 0, err
		}
		defer dir.Close()
		s, err := d.NewSet(dir, "squashed", 0)
		if err != nil {
			return 0, err
		}
		var errs []error
		for _, img := range []image.Image{a, a, b, a} {
			_, err := add(t, d, s, img)
			errs = append(errs, err)
		}
		if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
			_, ok, err := s.Within(t.Context(), 0, 0, 9)
			if ok || err == nil || errs[3] == nil {
				t.Errorf("after %v there is a distance: %v", errs, err)
			}
			return 0, errors.Join(append(errs, s.Close())...)
		}
		distance, _, err = s.Within(t.Context(), 1, 2, 9)
		return distance, errors.Join(err, s.Close())
	}
	count := fsys.FailAt(fsys.OS, 0, nil)
	want, err := use(count)
	if err != nil || !(want > 0) {
		t.Fatal(want, err)
	}
	for n := int64(1); n <= count.Count(); n++ {
		f := fsys.FailAt(fsys.OS, n, fs.ErrPermission)
		if _, err := use(f); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("where %s failed the error is %v", f.Failed(), err)
		}
	}
}

// pooledAndWhole runs a network on pictures that are squashed to width x height.
func pooledAndWhole(t *testing.T, file string, width, height int, all []image.Image) (pooled, whole [][]float32) {
	t.Helper()
	spec, _ := model.Preset("lpips")
	spec.Width, spec.Height = width, height
	f, err := model.Open(file, model.FileOptions{Spec: spec, Outputs: []string{"output", lpips.PooledOutput}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, img := range all {
		src := img.Bounds().Size()
		in := &model.Tensor{Type: f.ElementType(), Shape: f.Spec.Shape(1, src), Data: make([]byte, f.Spec.TensorBytes(src))}
		if err := f.Spec.Fill(t.Context(), in.Data, img); err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(t.Context(), []*model.Tensor{in}, model.SessionRun{})
		if err != nil {
			t.Fatal(err)
		}
		whole, pooled = append(whole, out[0].Numbers()), append(pooled, out[1].Numbers())
	}
	return pooled, whole
}

// What is pooled is never farther apart than the pictures are, and for pictures without
// structure about as far.
func TestPooledIsBelow(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	all := several(t)
	for golden, values := range map[string]int{"lpips-alex": 2304, "lpips-vgg": 2944} {
		t.Run(golden, func(t *testing.T) {
			file := archtest.Read(t, golden).Save(t, "lpips.safetensors", nil)
			sizes(t, file, 47)
			for _, size := range []image.Point{{32, 32}, {33, 57}, {64, 48}} {
				pooled, whole := pooledAndWhole(t, file, size.X, size.Y, all)
				low := func(i, j int) float64 { return lpips.SquaredDistance(pooled[i], pooled[j]) }
				exact := func(i, j int) float64 { return lpips.SquaredDistance(whole[i], whole[j]) }
				for i := range all {
					if len(pooled[i]) != values {
						t.Fatalf("there are %d values", len(pooled[i]))
					}
					// Of each channel, mean^2 + deviation^2 is the mean of squares.
					a, b := lpips.SquaredDistance(pooled[i], make([]float32, values)), lpips.SquaredDistance(whole[i], make([]float32, len(whole[i])))
					if !(math.Abs(a-b) < 1e-5*b) {
						t.Errorf("%v: the squared length of picture %d is %v, and pooled %v", size, i, b, a)
					}
					for j := range i {
						if l, e := low(i, j), exact(i, j); l > e*(1+1e-5)+1e-9 || l > lpips.PooledWithin(e) || !(l > 0) {
							t.Errorf("%v: pictures %d and %d are %v apart, and pooled %v", size, i, j, e, l)
						}
					}
				}
				last := len(all) - 1 // two of one colour
				if low(last, last-1) < 0.5*exact(last, last-1) {
					t.Errorf("%v: pictures of one colour are %v apart, and pooled %v", size, exact(last, last-1), low(last, last-1))
				}
			}
		})
	}
}

// A network that computes in float16 stays within the slack.
func TestPooledIsBelowInFloat16(t *testing.T) {
	checkpoint, file := archtest.Read(t, "lpips-alex").Save(t, "lpips.safetensors", nil), filepath.Join(t.TempDir(), "half.onnx")
	if _, err := model.Convert(t.Context(), file, model.ConvertOptions{Element: model.Float16}, checkpoint); err != nil {
		t.Fatal(err)
	}
	all := several(t)
	pooled, whole := pooledAndWhole(t, file, 40, 40, append(all, all[0]))
	for i := range pooled {
		for j := range i {
			low, exact := lpips.SquaredDistance(pooled[i], pooled[j]), lpips.SquaredDistance(whole[i], whole[j])
			if !(low <= lpips.PooledWithin(exact)) {
				t.Errorf("pictures %d and %d are %v apart, and pooled %v", i, j, exact, low)
			}
		}
	}
}

func TestSquaredDistance(t *testing.T) {
	for n := range 11 {
		a, b := make([]float32, n), make([]float32, n)
		want := 0.0
		for i := range n {
			a[i], b[i] = float32(i+1), float32(3*i)
			want += float64((1 - 2*i) * (1 - 2*i))
		}
		if got := lpips.SquaredDistance(a, b); got != want {
			t.Errorf("of %d numbers it is %v, want %v", n, got, want)
		}
	}
	// 1 and 2^-30 are one number in float32.
	if got, want := lpips.SquaredDistance([]float32{1, 0x1p-15}, []float32{0, 0}), 1+0x1p-30; got != want {
		t.Errorf("it is summed as %v, want %v", got, want)
	}
}
