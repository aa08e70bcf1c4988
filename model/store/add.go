package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// Add copies a file of one's own into the store, with the files beside it that hold its
// weights. name "" is that of the entry whose file is called like this one, else the
// file's without its ending. An ONNX file must be one that can be read; where the registry
// or models.lock knows the hash of that name, it must be that of the file. A name that is
// taken by another file is an error.
func (s *Store) Add(ctx context.Context, file, name string) (string, Record, error) {
	if name == "" {
		name = s.nameFor(file)
	}
	if !nameForm.MatchString(name) {
		return "", Record{}, fmt.Errorf("adding the model %s: %q is no name for a model, which has letters, digits, - and _: give it one with --name", file, name)
	}
	paths, format, err := filesOf(file)
	if err != nil {
		return "", Record{}, fmt.Errorf("adding the model %s: %w", file, err)
	}
	root, err := s.fs.OpenRoot(s.dir)
	if err != nil {
		return "", Record{}, fmt.Errorf("opening the store of models: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing was written through it that has not been closed
	unlock, err := s.lock(ctx, root, name, nil)
	if err != nil {
		return "", Record{}, err
	}
	defer unlock()
	rec, err := s.add(ctx, root, name, paths, format)
	if err != nil {
		return "", Record{}, fmt.Errorf("adding the model %s: %w", file, s.explain(err))
	}
	return name, rec, nil
}

func (s *Store) nameFor(file string) string {
	base := filepath.Base(file)
	if i := slices.IndexFunc(s.registry, func(e Entry) bool { return e.File == base && len(e.URLs) == 0 }); i >= 0 {
		return s.registry[i].Name
	}
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// filesOf are a model's file and those beside it that it needs.
func filesOf(file string) (paths []string, format string, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", errors.New("it is no regular file")
	}
	if format = formatOf(file); format == "" {
		return nil, "", errors.New("its name does not say what it is: it has to end in .onnx, .pth, .pt, .pkl or .safetensors")
	}
	if err := checkFormat(file, format); err != nil {
		return nil, "", err
	}
	paths = []string{file}
	var beside []onnx.External
	if format == FormatONNX {
		h, err := onnx.ReadHeader(file)
		if err != nil {
			return nil, "", err
		}
		beside = h.External
	}
	for _, e := range beside {
		path := filepath.Join(filepath.Dir(file), e.Name)
		info, err := os.Lstat(path)
		switch {
		case err != nil:
			return nil, "", fmt.Errorf("looking for its weights: %w", err)
		case !info.Mode().IsRegular() || info.Size() < e.Bytes:
			return nil, "", fmt.Errorf("its weights %s are no regular file of at least %d bytes", path, e.Bytes)
		}
		paths = append(paths, path)
	}
	for _, p := range paths {
		if base := filepath.Base(p); !isFileName(base) {
			return nil, "", fmt.Errorf("%q cannot be the name of a file in the store: give it one of at most 200 bytes that begins with a letter, a digit or _ and has no control characters", base)
		}
	}
	return paths, format, nil
}

// add copies files into the store, under its lock.
func (s *Store) add(ctx context.Context, root fsys.Root, name string, paths []string, format string) (Record, error) {
	r, err := s.readRecords()
	if err != nil {
		return Record{}, err
	}
	source, err := filepath.Abs(paths[0])
	if err != nil {
		return Record{}, err
	}
	rec := Record{Source: source, Time: time.Now().UTC().Truncate(time.Second)}
	for _, p := range paths {
		hash, size, err := hashFile(ctx, p)
		if err != nil {
			return Record{}, err
		}
		rec.Files = append(rec.Files, File{Name: filepath.Base(p), Size: size, SHA256: hash})
	}
	old, recorded := r.Models[name]
	if err := s.expected(name, source, rec, format); err != nil {
		return Record{}, err
	}
	switch {
	case recorded && same(old, rec) && s.right(ctx, name, old):
		return old, nil
	case recorded && !sameBytes(old, rec):
		return Record{}, &WrongError{Name: name, From: source, What: fmt.Sprintf("sha256 %s instead of the %s of %s", rec.Files[0].SHA256, old.Files[0].SHA256, recordsName),
			Mend: fmt.Sprintf("add it under another --name, or forgepipe models rm --forget %s first", name)}
	}
	if err := s.room(rec.Bytes()); err != nil {
		return Record{}, err
	}
	var parts []string
	defer func() { _ = drop(root, parts...) }() // what is in its place is no longer there
	for i, p := range paths {
		part := fmt.Sprintf("%s/%s.add%d", partialDir, name, i)
		parts = append(parts, part)
		if err := s.copyIn(ctx, root, p, part, rec.Files[i]); err != nil {
			return Record{}, err
		}
	}
	return rec, s.settle(ctx, root, name, rec, parts)
}

// expected compares a file with what the registry says of its name.
func (s *Store) expected(name, source string, rec Record, format string) error {
	e, known := s.registry.Find(name)
	got := rec.Files[0]
	wrong := ""
	switch {
	case !known:
	case e.Format != format:
		wrong = fmt.Sprintf("it is of format %s, and that model's is %s", format, e.Format)
	case e.Size > 0 && got.Size != e.Size:
		wrong = fmt.Sprintf("%d bytes instead of the %d of the registry", got.Size, e.Size)
	case e.SHA256 != "" && got.SHA256 != e.SHA256:
		wrong = fmt.Sprintf("sha256 %s instead of the %s of the registry", got.SHA256, e.SHA256)
	}
	if wrong == "" {
		return nil
	}
	return &WrongError{Name: name, From: source, What: wrong, Mend: "download it again, or add it under another --name"}
}

// sameBytes tells whether two records are of the same bytes, whatever the files are called.
func sameBytes(a, b Record) bool {
	return slices.EqualFunc(a.Files, b.Files, func(f, g File) bool { return f.SHA256 == g.SHA256 })
}

// copyIn copies a file, and sees that it is still the one that was looked at.
func (s *Store) copyIn(ctx context.Context, root fsys.Root, path, part string, want File) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := root.MkdirAll(partialDir); err != nil {
		return err
	}
	if err := drop(root, part); err != nil {
		return err
	}
	out, err := root.Create(part)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = copyContext(ctx, io.MultiWriter(out, h), in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copying %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("%s changed while it was copied", path)
	}
	return nil
}

// checkFormat looks whether a file begins as its format does. What is in it is for others
// to check.
func checkFormat(path, format string) error {
	if format == FormatONNX {
		_, err := onnx.ReadHeader(path)
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	head = head[:n]
	ok := false
	switch format {
	case FormatPyTorch: // a zip archive, or a pickle of protocol 2 or later
		ok = bytes.HasPrefix(head, []byte("PK\x03\x04")) || len(head) > 1 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5
	case FormatSafetensors: // the length of its header, and a JSON object
		ok = len(head) > 8 && binary.LittleEndian.Uint64(head) < 100<<20 && head[8] == '{'
	}
	if !ok {
		return fmt.Errorf("it is no file of format %s: it begins with %.32q", format, head)
	}
	return nil
}
