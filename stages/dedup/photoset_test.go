package dedup_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io/fs"
	"maps"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// hooked is a file system that calls hook before each operation, also those that read,
// with how many there were. What hook returns is what the operation does. Between its folders
// nothing can be renamed, as between two disks.
type hooked struct {
	fsys.FS
	n    atomic.Int64
	hook func(n int64, op string) error
}

func (h *hooked) do(op, name string) error {
	if err := h.hook(h.n.Add(1), op+" "+name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (h *hooked) OpenRoot(dir string) (fsys.Root, error) {
	if err := h.do("mkdir", dir); err != nil {
		return nil, err
	}
	r, err := h.FS.OpenRoot(dir)
	return &hookedRoot{r, h}, err
}

type hookedRoot struct {
	fsys.Root
	h *hooked
}

func (r *hookedRoot) file(op, name string, open func(string) (fsys.File, error)) (fsys.File, error) {
	if err := r.h.do(op, name); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &hookedFile{f, r.h, name}, nil
}

func (r *hookedRoot) Create(name string) (fsys.File, error) {
	return r.file("create", name, r.Root.Create)
}

func (r *hookedRoot) Append(name string) (fsys.File, error) {
	return r.file("append", name, r.Root.Append)
}
func (r *hookedRoot) Open(name string) (fsys.File, error) { return r.file("open", name, r.Root.Open) }

func (r *hookedRoot) Rename(old, new string) error {
	if err := r.h.do("rename", old); err != nil {
		return err
	}
	return r.Root.Rename(old, new)
}

func (r *hookedRoot) Remove(name string) error {
	if err := r.h.do("remove", name); err != nil {
		return err
	}
	return r.Root.Remove(name)
}

type hookedFile struct {
	fsys.File
	h    *hooked
	name string
}

func (f *hookedFile) Write(p []byte) (int, error) {
	if err := f.h.do("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *hookedFile) Read(p []byte) (int, error) {
	if err := f.h.do("read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *hookedFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.h.do("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, at)
}

func (f *hookedFile) Sync() error {
	if err := f.h.do("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// photoSet are pictures in files that the test knows everything of.
type photoSet struct {
	cascade
	images map[string]image.Image
	files  map[string][]byte // what stands in them, and in their sidecars
}

// twelve pictures of three scenes: copies of files, pictures that differ by a shade, and some
// whose hashes are near and whose vectors are not.
func photographs(t testing.TB) *photoSet {
	t.Helper()
	dir := t.TempDir()
	p := &photoSet{cascade{given: given{}, embedded: embedded{}, vectors: []string{"v"}}, map[string]image.Image{}, map[string][]byte{}}
	for i := range 12 {
		id, scene := fmt.Sprintf("%02d.png", i), i%3
		img := image.NewNRGBA(image.Rect(0, 0, 32, 32))
		base := texture(uint64(scene), 32, 32)
		for y := range 32 {
			for x := range 32 {
				v := int(base.GrayAt(x, y).Y)
				img.SetNRGBA(x, y, color.NRGBA{R: uint8(min(255, v+8*(i/6))), G: uint8(v), B: uint8(max(0, v-4*(i/3))), A: 255})
			}
		}
		if i == 9 { // a copy of 06.png, byte for byte
			img = p.images["06.png"].(*image.NRGBA)
		}
		p.images[id] = img
		p.given[id] = attrs{"phash": hash64(uint64(scene)<<40*0xff | uint64(i/3))}
		p.embedded[id] = map[string]pipeline.Vector{"v": vec(1, float32(scene), float32(i%2))}
		p.files[id] = []byte(read(t, save(t, dir, id, img).Path))
		if i%2 == 1 {
			p.files[strings.TrimSuffix(id, ".png")+".txt"] = []byte("caption of " + id)
		}
	}
	return p
}

// lay puts the files into a folder and returns the source of them.
func (p *photoSet) lay(t testing.TB, dir string) stagetest.Source {
	t.Helper()
	for name, data := range p.files {
		if err := errors.Join(os.MkdirAll(dir, 0o777), os.WriteFile(filepath.Join(dir, name), data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return p.offered(t, dir)
}

// offered is the source of what lies in a folder.
func (p *photoSet) offered(t testing.TB, dir string) (src stagetest.Source) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p.images)) {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		in := pipeline.Input{Name: name, Path: path}
		text := strings.TrimSuffix(path, ".png") + ".txt"
		if info, err := os.Stat(text); err == nil {
			in.Sidecars = []pipeline.Sidecar{{Ext: ".txt", Path: text, Size: info.Size(), Time: info.ModTime().UnixNano()}}
		}
		src = append(src, in)
	}
	return src
}

// near tells whether two pictures are duplicates by a step, from what the test knows.
func (p *photoSet) near(step, a, b string) bool {
	switch step {
	case "sha256":
		return sha256.Sum256(p.files[a]) == sha256.Sum256(p.files[b])
	case "phash":
		n := 0
		x, y := p.given[a]["phash"].Hash(), p.given[b]["phash"].Hash()
		for i := range x {
			n += bits.OnesCount8(x[i] ^ y[i])
		}
		return n <= 4
	case "v":
		var dot, aa, bb float64
		for i, x := range p.embedded[a]["v"].Data {
			y := p.embedded[b]["v"].Data[i]
			dot, aa, bb = dot+float64(x)*float64(y), aa+float64(x)*float64(x), bb+float64(y)*float64(y)
		}
		return dot/math.Sqrt(aa*bb) >= 0.9
	}
	return perceived(p.images[a].(*image.NRGBA), p.images[b].(*image.NRGBA)) <= perceivedWithin
}

const perceivedWithin = 0.005

var sayingKeeper = regexp.MustCompile(`^duplicate: keeper (\S+), .*by (\w+), `)

// check looks whether each item that is rejected has a keeper that is not, and that is near
// by the steps of a clause.
func (p *photoSet) check(t testing.TB, when string, said map[string]string, clauses map[string][]string) {
	t.Helper()
	for id, text := range said {
		m := sayingKeeper.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("%s: %s is rejected: %s", when, id, text)
			continue
		}
		if _, gone := said[m[1]]; gone {
			t.Errorf("%s: %s is rejected for %s, which is rejected", when, id, m[1])
		}
		if clauses[m[2]] == nil {
			t.Errorf("%s: %s: no clause begins with %s", when, id, m[2])
		}
		for _, step := range clauses[m[2]] {
			if !p.near(step, id, m[1]) {
				t.Errorf("%s: %s is rejected for %s, which is far by %s: %s", when, id, m[1], step, text)
			}
		}
	}
}

// tree is what lies in a folder, without what begins with a dot and moves.jsonl.
func tree(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") || d.Name() == "moves.jsonl" {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = data
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// nothingLost looks whether all bytes lie in one of two folders.
func (p *photoSet) nothingLost(t testing.TB, when, in, to string) {
	t.Helper()
	here, there := tree(t, in), tree(t, to)
	for name, data := range p.files {
		if string(here[name]) != string(data) && string(there[name]) != string(data) {
			t.Errorf("%s: %s is lost", when, name)
		}
	}
}
