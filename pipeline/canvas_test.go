package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// These tests run with the least limit that there is, of which an eighth is 10 MiB:
// larger pictures lie in files.
const smallest = 80 << 20

// canvasSize is of a gray picture of 11 MB.
var canvasSize = image.Pt(3500, 3200)

// samples are those of a picture, and how long its rows are.
func samples(img image.Image) (pix []byte, stride int) {
	switch m := img.(type) {
	case *image.Gray:
		return m.Pix, m.Stride
	case *image.Gray16:
		return m.Pix, m.Stride
	case *image.RGBA:
		return m.Pix, m.Stride
	case *image.NRGBA:
		return m.Pix, m.Stride
	case *image.RGBA64:
		return m.Pix, m.Stride
	case *image.NRGBA64:
		return m.Pix, m.Stride
	}
	panic(fmt.Sprintf("%T", img))
}

// rowOf is row y of the picture of a name, which begins at column x.
//
//go:norace
func rowOf(name string, y int, row []byte) []byte {
	for i := range row {
		row[i] = byte(i*7 + y*13 + len(name))
	}
	copy(row, fmt.Sprintf("%s %d", name, y))
	return row
}

// paint draws the picture of a name, and painted compares one with it.
func paint(img image.Image, name string) {
	pix, stride := samples(img)
	for y := range len(pix) / stride {
		rowOf(name, y, pix[y*stride:][:stride])
	}
}

func painted(img image.Image, name string) error {
	pix, stride := samples(img)
	row := make([]byte, stride)
	for y := range len(pix) / stride {
		if !bytes.Equal(pix[y*stride:][:stride], rowOf(name, y, row)) {
			return fmt.Errorf("row %d of %s is another", y, name)
		}
	}
	return nil
}

// enlarge gives each item a large picture.
var enlarge = pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
	img, err := it.NewImage(ctx, color.GrayModel, canvasSize)
	if err != nil {
		return err
	}
	paint(img, it.ID())
	it.SetImage(img)
	return nil
})

// look compares what comes with what was painted.
var look = pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
	f, err := it.Frame(ctx)
	if err != nil {
		return err
	}
	return painted(f.Image, it.ID())
})

// canvasFiles counts the pictures in the scratch folder of a state directory.
func canvasFiles(t testing.TB, state string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(state, "scratch", "picture-*.pixels"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// inLittle is a pipeline under the least limit.
func inLittle(t testing.TB, n int, o pipeline.Options, stages ...pipeline.Stage) *pipeline.Pipeline {
	t.Helper()
	p := pipeline.New("little", o)
	p.HostLimit = pipeline.Amount{Bytes: smallest}
	p.SetSource(inputs(n))
	for i, s := range stages {
		add(t, p, pipeline.Step{ID: fmt.Sprintf("s%d", i), Stage: s, Workers: 1, Batch: 1})
	}
	return p
}

// A picture of any type that is larger than an eighth of the limit comes through as it
// was drawn, counts as a few MiB, and its file is gone when its item is.
func TestLargePictureLiesInAFile(t *testing.T) {
	models := []struct {
		model color.Model
		pixel int
	}{
		{color.GrayModel, 1}, {color.Gray16Model, 2}, {color.RGBAModel, 4}, {color.NRGBAModel, 4}, {color.RGBA64Model, 8}, {color.NRGBA64Model, 8},
	}
	state := t.TempDir()
	n, most := 0, 0
	p := inLittle(t, len(models), pipeline.Options{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		m := models[n]
		n++
		size := image.Pt(canvasSize.X, canvasSize.Y/m.pixel)
		img, err := it.NewImage(ctx, m.model, size)
		if err != nil {
			return err
		}
		if img.ColorModel() != m.model || img.Bounds() != (image.Rectangle{Max: size}) {
			t.Errorf("%T of %v", img, img.Bounds())
		}
		most = max(most, canvasFiles(t, state))
		paint(img, it.ID())
		it.SetImage(img)
		return nil
	}), look)
	s := mustRun(t, p, pipeline.RunOptions{Check: true, StateDir: state})
	wantAllOut(t, s, int64(len(models)))
	// One is drawn, one waits, one is looked at, and one may just be handed over.
	if most == 0 || most > 4 {
		t.Errorf("%d pictures were in files at once", most)
	}
	if peak := s.Devices[0].Peak; peak > 12<<20 {
		t.Errorf("%s were leased", memory.FormatBytes(peak))
	}
}

func TestSmallPictureLiesInMemory(t *testing.T) {
	state := t.TempDir()
	p := inLittle(t, 1, pipeline.Options{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		img, err := it.NewImage(ctx, color.GrayModel, image.Pt(smallest/8, 1))
		if err != nil {
			return err
		}
		if canvasFiles(t, state) != 0 {
			t.Error("it is in a file")
		}
		it.SetImage(img)
		for _, size := range []image.Point{{0, 5}, {1 << 20, 1 << 20}} {
			if _, err := it.NewImage(ctx, color.GrayModel, size); err == nil || !strings.Contains(err.Error(), "limits.pixels allows") {
				t.Errorf("%v: error %v", size, err)
			}
		}
		if _, err := it.NewImage(ctx, color.CMYKModel, image.Pt(1, 1)); err == nil {
			t.Error("a picture of inks was made")
		}
		return nil
	}))
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{StateDir: state}), 1)
}

// What is written is what it would be with the picture in memory, also when a run has to
// make the picture again.
func TestLargePictureIsWrittenAsAnyOther(t *testing.T) {
	dir := t.TempDir()
	run := func(out, limit string) {
		t.Helper()
		yaml := fmt.Sprintf("memory: {host: {limit: %s}}\nsource: {images: {path: %s/in}}\nstages:\n  - enlarge: {}\n  - write: {path: %s/%s, format: png}\n", limit, dir, dir, out)
		reg := standard.Registry().With(pipeline.Info{
			Name: "enlarge", Short: "Tests.", Pure: true, Version: 1,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return enlarge, nil },
		})
		p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), pipeline.Options{Registry: reg})
		if err != nil {
			t.Fatal(err)
		}
		if s := mustRun(t, p, pipeline.RunOptions{}); s.Written != 1 || len(s.Failed) > 0 {
			t.Fatalf("%d written, failed %v", s.Written, s.Failed)
		}
	}
	put(t, filepath.Join(dir, "in", "a.png"), pngBytes(t, 8, 8, speckle(1)))
	run("whole", "1GiB")
	want := outputs(t, filepath.Join(dir, "whole"))["a.png"]
	for _, when := range []string{"the first time", "again"} {
		run("little", "80MiB")
		if got := outputs(t, filepath.Join(dir, "little"))["a.png"]; len(want) == 0 || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d", when, len(got), len(want))
		}
		if err := os.Remove(filepath.Join(dir, "little", "a.png")); err != nil {
			t.Fatal(err)
		}
	}
}

// filePages are the bytes of files that are in the process's memory.
func filePages(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("the system does not tell")
	}
	var size, rss, files int64
	if _, err := fmt.Sscan(string(b), &size, &rss, &files); err != nil {
		t.Fatal(err)
	}
	return files * int64(os.Getpagesize())
}

// What a stage has looked at leaves memory while it still goes over the picture.
func TestLargePictureLeavesMemory(t *testing.T) {
	p := inLittle(t, 1, pipeline.Options{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		before := filePages(t)
		img, err := it.NewImage(ctx, color.GrayModel, image.Pt(8192, 8192))
		if err != nil {
			return err
		}
		paint(img, it.ID())
		for end := time.Now().Add(30 * time.Second); filePages(t) > before+8<<20; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return errors.New("the picture stays in memory")
			}
		}
		return painted(img, it.ID())
	}))
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 1)
}

// pictureInMemory is how much of the pictures in files is in the process's memory.
func pictureInMemory(t testing.TB) (bytes int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("there is no /proc here: ", err)
	}
	picture := false
	for line := range strings.Lines(string(b)) {
		var kib int64
		if strings.Contains(line, "-") {
			picture = strings.Contains(line, ".pixels")
		} else if _, err := fmt.Sscanf(line, "Rss: %d kB", &kib); err == nil && picture {
			bytes += kib << 10
		}
	}
	return bytes
}

// What goes through a whole picture at several GB a second puts it out of memory itself:
// between two looks of the tender it would all come in.
func TestScanLeavesMemory(t *testing.T) {
	p := inLittle(t, 1, pipeline.Options{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		img, err := it.NewImage(ctx, color.NRGBAModel, image.Pt(2048, 2048))
		if err != nil {
			return err
		}
		draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
		for name, scan := range map[string]func() error{
			"opaque": func() error {
				if !imageio.Opaque(img) {
					return errors.New("it is not opaque")
				}
				return nil
			},
			"png": func() error { return imageio.EncodePNG(io.Discard, img, imageio.PNGOptions{}) },
		} {
			if err := scan(); err != nil {
				return err
			}
			if in := pictureInMemory(t); in > 2<<20 {
				t.Errorf("%s: %s of the picture are in memory", name, memory.FormatBytes(in))
			}
		}
		return nil
	}))
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 1)
}

// Of an attempt that came to nothing, nothing is left when the next one begins.
func TestPictureOfAFailedAttemptGoes(t *testing.T) {
	for name, end := range map[string]func(it *pipeline.Item) error{
		"out of memory": func(*pipeline.Item) error { return fmt.Errorf("drawing: %w", memory.ErrOutOfMemory) },
		"a panic":       func(*pipeline.Item) error { panic("drawing") },
		"not used":      func(*pipeline.Item) error { return nil },
		"a failed item": func(*pipeline.Item) error { return errors.New("drawing") },
		"a rejected item": func(it *pipeline.Item) error {
			it.Reject("not wanted")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			calls := 0
			p := inLittle(t, 2, pipeline.Options{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
				if n := canvasFiles(t, state); n != 0 {
					t.Errorf("call %d begins with %d pictures", calls, n)
				}
				img, err := it.NewImage(ctx, color.GrayModel, canvasSize)
				if err != nil {
					return err
				}
				if calls++; calls > 1 {
					return nil
				}
				if name != "not used" {
					it.SetImage(img)
				}
				return end(it)
			}))
			mustRun(t, p, pipeline.RunOptions{StateDir: state})
			if calls < 2 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

// A frame that somebody keeps against the rules reads as zeros, and the program goes on.
func TestKeptFrameReadsAsZeros(t *testing.T) {
	var kept []byte
	p := inLittle(t, 1, pipeline.Options{}, enlarge, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		kept, _ = samples(f.Image)
		return nil
	}))
	mustRun(t, p, pipeline.RunOptions{NoStore: true})
	if kept[0] != 0 || kept[len(kept)-1] != 0 {
		t.Errorf("%d and %d", kept[0], kept[len(kept)-1])
	}
}

// A disk that fails under a picture fails the item that needs it.
func TestFaultInALargePicture(t *testing.T) {
	state := t.TempDir()
	p := inLittle(t, 1, pipeline.Options{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		img, err := it.NewImage(ctx, color.GrayModel, canvasSize)
		if err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(state, "scratch", "picture-*.pixels"))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("%v, %w", files, err)
		}
		if err := os.Truncate(files[0], 4096); err != nil { // as an error of reading would be
			return err
		}
		paint(img, it.ID())
		return nil
	}))
	s := mustRun(t, p, pipeline.RunOptions{StateDir: state})
	if s.Quarantined != 1 || !strings.Contains(s.Failed[0].Cause, "panicked: ") || !strings.Contains(s.Failed[0].Cause, ".pixels: the disk failed") {
		t.Errorf("failed %v", s.Failed)
	}
}

// One that fails while a part is written down, outside of a stage, ends the run and not
// the program.
func TestFaultWhileALargePictureIsParked(t *testing.T) {
	state := t.TempDir()
	p := inLittle(t, 1, pipeline.Options{}, enlarge, batchStage(func(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		files, err := filepath.Glob(filepath.Join(state, "scratch", "picture-*.pixels"))
		if err != nil || len(files) != 1 {
			return nil, fmt.Errorf("%v, %w", files, err)
		}
		if err := os.Truncate(files[0], 4096); err != nil {
			return nil, err
		}
		return append(out, batch[0].Derive("part", pipeline.Crop(image.Rect(0, 3000, 100, 3100)))), nil
	}), &all{})
	_, err := p.Run(t.Context(), pipeline.RunOptions{StateDir: state})
	if err == nil || !strings.Contains(err.Error(), "picture-1.pixels: the disk failed") {
		t.Errorf("error %v", err)
	}
}

// smallDisk is a file system with room for so many bytes of pictures.
type smallDisk struct {
	fsys.FS
	mu   sync.Mutex
	room int64
	most int64 // bytes that there were at once
	has  map[string]int64
}

func (d *smallDisk) OpenRoot(dir string) (fsys.Root, error) {
	r, err := d.FS.OpenRoot(dir)
	return smallRoot{r, d}, err
}

type smallRoot struct {
	fsys.Root
	disk *smallDisk
}

func (d *smallDisk) used() (n int64) {
	for _, bytes := range d.has {
		n += bytes
	}
	return n
}

func (r smallRoot) Free() (int64, error) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	return r.disk.room - r.disk.used(), nil
}

func (r smallRoot) Allocate(name string, bytes int64) error {
	free, _ := r.Free()
	if free < bytes {
		return &fsys.NoRoomError{Need: bytes, Free: free, Err: syscall.ENOSPC}
	}
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	r.disk.has[name] = bytes
	r.disk.most = max(r.disk.most, r.disk.used())
	return r.Root.Allocate(name, bytes)
}

func (r smallRoot) Remove(name string) error {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	delete(r.disk.has, name)
	return r.Root.Remove(name)
}

// A disk that has no room for one picture ends the run, whatever the stage makes of it.
func TestLargePictureOnAFullDisk(t *testing.T) {
	for name, broken := range map[string]pipeline.FS{
		"full":    &smallDisk{FS: fsys.OS, room: 4 << 20, has: map[string]int64{}},
		"failing": failingAllocate{fsys.OS},
	} {
		state := t.TempDir()
		p := inLittle(t, 3, pipeline.Options{FS: broken}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			_, err := it.NewImage(ctx, color.GrayModel, canvasSize)
			if err == nil {
				t.Errorf("%s: it was made", name)
			}
			return nil // it hides the error
		}))
		s, err := try(t, p, pipeline.RunOptions{StateDir: state})
		var se *pipeline.StageError
		if !errors.As(err, &se) || se.Stage != "s0" || s.Quarantined != 0 {
			t.Errorf("%s: the run ended with %v, failed %v", name, err, s.Failed)
		}
		want := "in " + filepath.Join(state, "scratch") + ": 6.7 MiB are missing on the disk: make room and run again"
		if name == "full" && !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// failingAllocate is a file system whose disk fails.
type failingAllocate struct{ fsys.FS }

func (f failingAllocate) OpenRoot(dir string) (fsys.Root, error) {
	r, err := f.FS.OpenRoot(dir)
	return failingRoot{r}, err
}

type failingRoot struct{ fsys.Root }

func (failingRoot) Allocate(string, int64) error { return syscall.EIO }

// On a disk that holds two pictures, five that come at once wait for each other.
func TestLargePicturesWaitForTheDisk(t *testing.T) {
	const n = 5
	disk := &smallDisk{FS: fsys.OS, room: 25 << 20, has: map[string]int64{}}
	p := inLittle(t, n, pipeline.Options{FS: disk})
	add(t, p, pipeline.Step{ID: "enlarge", Stage: enlarge, Workers: n, Batch: 1})
	add(t, p, pipeline.Step{ID: "look", Stage: look, Workers: 1, Batch: 1})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), n)
	if one := int64(canvasSize.X * canvasSize.Y); disk.most > 2*one || disk.most < one {
		t.Errorf("%s were on the disk at once", memory.FormatBytes(disk.most))
	}
}

// Over a barrier and from one phase to the next a picture stays in its file; a small part
// of one is written down, so that the file can go.
func TestLargePictureIsParked(t *testing.T) {
	const n = 3
	state := t.TempDir()
	rewound := 0
	p := inLittle(t, n, pipeline.Options{}, enlarge, &all{}, look, heavyPhase{look}, heavyPhase{batchStage(func(ctx context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range batch {
			if err := look(ctx, it); err != nil {
				return nil, err
			}
			rewound = max(rewound, canvasFiles(t, state))
			out = append(out, it.Derive("part", pipeline.Crop(image.Rect(0, 5, 100, 9))), it.Derive("half", pipeline.Crop(image.Rect(0, 10, canvasSize.X, canvasSize.Y))))
		}
		return out, nil
	})}, &looksFirst{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		top := 10
		if strings.HasSuffix(it.ID(), "@part") {
			top = 5
		}
		pix, stride := samples(f.Image)
		id, _, _ := strings.Cut(it.ID(), "@")
		for y := range f.Image.Bounds().Dy() {
			if w := f.Image.Bounds().Dx(); !bytes.Equal(pix[y*stride:][:w], rowOf(id, top+y, make([]byte, w))) {
				return fmt.Errorf("row %d is another", y)
			}
		}
		return nil
	}))
	s := mustRun(t, p, pipeline.RunOptions{StateDir: state, Check: true})
	wantAllOut(t, s, 2*n)
	if len(s.Phases) != 2 {
		t.Errorf("%d phases, want 2", len(s.Phases))
	}
	if peak := s.Devices[0].Peak; peak > 15<<20 {
		t.Errorf("%s were leased", memory.FormatBytes(peak))
	}
	if rewound != n { // those parked before, and the one at work
		t.Errorf("%d pictures in files, want %d", rewound, n)
	}
}

// heavyPhase is a stage that fills a phase of its own under the least limit.
type heavyPhase struct{ pipeline.Stage }

func (heavyPhase) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: 9 << 20}
}

// looksFirst is a barrier that goes over its items twice.
type looksFirst struct{ holder }

func (*looksFirst) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		if _, err := it.Frame(ctx); err != nil {
			return err
		}
	}
	for it, err := range held {
		if err != nil {
			return err
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// A run that was killed leaves its pictures. The next one removes them, also when it needs
// no scratch folder itself.
func TestPicturesOfAKilledRunGo(t *testing.T) {
	state := t.TempDir()
	run := func() { mustRun(t, inLittle(t, 1, pipeline.Options{}, pass), pipeline.RunOptions{StateDir: state}) }
	run()
	put(t, filepath.Join(state, "scratch", "picture-1.pixels"), make([]byte, 100))
	run()
	if canvasFiles(t, state) != 0 {
		t.Error("it is still there")
	}
}

// A barrier may give its items pictures as they leave.
func TestBarrierMakesLargePictures(t *testing.T) {
	state := t.TempDir()
	var most atomic.Int64
	p := inLittle(t, 6, pipeline.Options{}, &enlarging{done: func() { most.Store(max(most.Load(), int64(canvasFiles(t, state)))) }}, look)
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{StateDir: state}), 6)
	if most.Load() > 4 {
		t.Errorf("%d pictures were in files at once", most.Load())
	}
}

type enlarging struct {
	holder
	done func()
}

func (e *enlarging) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	for it, err := range held {
		if err != nil {
			return err
		}
		if err := enlarge(ctx, it); err != nil {
			return err
		}
		e.done()
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// What a part of a large picture becomes is a part of it: it stays while its item does.
func TestPartOfALargePictureBecomesThePicture(t *testing.T) {
	p := inLittle(t, 2, pipeline.Options{}, enlarge, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		it.SetImage(f.Image.(*image.Gray).SubImage(image.Rect(0, 1, canvasSize.X, canvasSize.Y)))
		return nil
	}), &all{}, pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		whole := image.NewGray(image.Rectangle{Max: canvasSize})
		paint(whole, it.ID())
		want := whole.SubImage(image.Rect(0, 1, canvasSize.X, canvasSize.Y))
		pix, _ := samples(want)
		if got, _ := samples(f.Image); f.Image.Bounds().Size() != want.Bounds().Size() || !bytes.Equal(got[:len(pix)], pix) {
			return errors.New("it is another")
		}
		return nil
	}))
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{NoStore: true}), 2)
}

// A JPEG that is larger than an eighth of the limit is decoded into a file, to the same
// samples, and out of it when nobody needs it any more.
func TestLargeSourceLiesInAFile(t *testing.T) {
	if _, _, err := imageio.JPEGLibrary(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	img := image.NewGray(image.Rectangle{Max: canvasSize})
	for i := range img.Pix {
		img.Pix[i] = byte(i >> 12)
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, nil); err != nil {
		t.Fatal(err)
	}
	decoded, err := jpeg.Decode(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "in", "a.jpg"), file.Bytes())

	state := filepath.Join(dir, "out", ".forgepipe")
	check := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		for _, when := range []string{"the first time", "again"} {
			f, err := it.Frame(ctx)
			if err != nil {
				return err
			}
			if canvasFiles(t, state) == 0 {
				t.Errorf("%s: it is in memory", when)
			}
			for y := range canvasSize.Y {
				got, want := f.Image.At(y, y).(color.Gray), color.GrayModel.Convert(decoded.At(y, y)).(color.Gray)
				if d := int(got.Y) - int(want.Y); d < -2 || d > 2 { // the libraries round differently
					return fmt.Errorf("%s: at %d it is %d, not %d", when, y, got.Y, want.Y)
				}
			}
			it.Done()
		}
		if n := canvasFiles(t, state); n != 0 {
			t.Errorf("%d pictures are still there", n)
		}
		return nil
	})
	p := pipeline.New("little", pipeline.Options{})
	p.HostLimit = pipeline.Amount{Bytes: smallest}
	if err := p.UseSource(t.Context(), standard.Registry(), "images", map[string]any{"path": filepath.Join(dir, "in")}); err != nil {
		t.Fatal(err)
	}
	if err := p.Use(t.Context(), standard.Registry(), "write", "write", map[string]any{"path": filepath.Join(dir, "out"), "format": "png"}); err != nil {
		t.Fatal(err)
	}
	add(t, p, pipeline.Step{ID: "check", Stage: check, Workers: 1, Batch: 1})
	s := mustRun(t, p, pipeline.RunOptions{})
	wantAllOut(t, s, 1)
	if peak := s.Devices[0].Peak; peak > 9<<20 {
		t.Errorf("%s were leased", memory.FormatBytes(peak))
	}
	written, err := png.Decode(bytes.NewReader(outputs(t, filepath.Join(dir, "out"))["a.png"]))
	if err != nil || written.Bounds().Max != canvasSize {
		t.Errorf("what was written: %v", err)
	}
}

// A barrier that holds small parts of large pictures does not keep the large ones.
func TestSmallPartOfALargePictureLetsItGo(t *testing.T) {
	state := t.TempDir()
	left := -1
	p := inLittle(t, 2, pipeline.Options{}, enlarge, batchStage(func(_ context.Context, batch []*pipeline.Item) (out []*pipeline.Item, _ error) {
		for _, it := range batch {
			out = append(out, it.Derive("part", pipeline.Crop(image.Rect(0, 5, 100, 9))))
		}
		return out, nil
	}), &atFlush{look: func() { left = canvasFiles(t, state) }})
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{StateDir: state}), 2)
	if left != 0 {
		t.Errorf("%d large pictures are kept", left)
	}
}

type atFlush struct {
	all
	look func()
}

func (c *atFlush) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	c.look()
	return c.all.Flush(ctx, held, emit)
}

// A call that has a picture in a file does not wait for itself when it looks at a source
// that is to lie in one as well.
func TestLargeSourceDoesNotWaitForItsOwnCall(t *testing.T) {
	if _, _, err := imageio.JPEGLibrary(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	var file bytes.Buffer
	if err := jpeg.Encode(&file, image.NewGray(image.Rectangle{Max: canvasSize}), nil); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "in", "a.jpg"), file.Bytes())
	disk := &askedDisk{smallDisk: &smallDisk{FS: fsys.OS, room: 25 << 20, has: map[string]int64{}}}
	both := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		if _, err := it.NewImage(ctx, color.GrayModel, canvasSize); err != nil {
			return err
		}
		disk.asked.Store(0)
		_, err := it.Frame(ctx)
		return err
	})
	yaml := fmt.Appendf(nil, "memory: {host: {limit: 80MiB}}\nsource: {images: {path: %s/in}}\nstages:\n  - {workers: 1, batch: 1, both: {}}\n", dir)
	p, err := pipeline.Load(t.Context(), "p.yaml", yaml, pipeline.Options{FS: disk, Registry: standard.Registry().With(pipeline.Info{
		Name: "both", Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return both, nil },
	})})
	if err != nil {
		t.Fatal(err)
	}
	wantAllOut(t, mustRun(t, p, pipeline.RunOptions{StateDir: filepath.Join(dir, "state")}), 1)
	if n := disk.asked.Load(); n != 1 {
		t.Errorf("it looked %d times whether the disk has room", n)
	}
}

// askedDisk counts how often somebody asks for its room.
type askedDisk struct {
	*smallDisk
	asked atomic.Int64
}

func (d *askedDisk) OpenRoot(dir string) (fsys.Root, error) {
	r, err := d.smallDisk.OpenRoot(dir)
	return askedRoot{r, d}, err
}

type askedRoot struct {
	fsys.Root
	disk *askedDisk
}

func (r askedRoot) Free() (int64, error) {
	r.disk.asked.Add(1)
	return r.Root.Free()
}
