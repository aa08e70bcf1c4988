package fsys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrDiffers says that a copy does not have the bytes that it should have.
var ErrDiffers = errors.New("the copy does not have the same bytes")

// CopyNew copies a regular file from one directory to another, and never over
// something: a name that is taken is an error that matches [fs.ErrExist]. Until the
// copy is whole, is on its disk and has been read back it has the name temp, which must
// lie in the folder of new; what is there by that name, as from a killed process, is
// removed first. The error matches ErrDiffers when the copy has other bytes, or when
// want is not zero and is not their SHA-256.
//
// The name itself is durable after SyncFS of the directory.
func CopyNew(ctx context.Context, from Root, old string, to Root, new, temp string, want [32]byte) (err error) {
	if err := to.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			_ = to.Remove(temp)
		}
	}()
	sum, err := copySynced(ctx, from, old, to, temp)
	if err != nil {
		return fmt.Errorf("copying it: %w", err)
	}
	got, err := Hash(ctx, to, temp)
	if err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	if got != sum || want != [32]byte{} && want != sum {
		return ErrDiffers
	}
	return MoveNew(to, temp, to, new)
}

// Hash is the SHA-256 of a regular file's bytes. A symbolic link is an error, and so is
// what is no regular file: opening a named pipe would wait for somebody who writes to it.
func Hash(ctx context.Context, root Root, name string) (sum [32]byte, err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return sum, err
	}
	if !info.Mode().IsRegular() {
		return sum, errors.New("it is not a regular file")
	}
	f, err := root.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &cancelled{ctx, f}); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

func copySynced(ctx context.Context, from Root, old string, to Root, temp string) (sum [32]byte, err error) {
	in, err := from.Open(old)
	if err != nil {
		return sum, err
	}
	defer in.Close()
	out, err := to.Create(temp)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), &cancelled{ctx, in})
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return [32]byte(h.Sum(nil)), err
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
