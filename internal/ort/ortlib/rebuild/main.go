//go:build ortblob

// Command rebuild makes the compressed library of package ortlib from the npm
// package that ortlib names, takes the notices from the Python package of the same
// version, and compares all with the hashes recorded there:
//
//	go run -tags ortblob,noort ./internal/ort/ortlib/rebuild PACKAGE.tgz PACKAGE.whl internal/ort/ortlib
//
// It has a build tag of its own because it compiles the C library of zstd, whose
// highest level makes the file 1.2 MB smaller than the best in Go; noort, so that
// there need be no file to embed yet.
package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/DataDog/zstd"

	"github.com/forgepipe/forgepipe/internal/ort/ortlib"
)

// level is zstd's highest, whose window of 64 MiB holds the whole library.
const level = 22

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: rebuild PACKAGE.tgz PACKAGE.whl FOLDER")
		os.Exit(2)
	}
	err := rebuild(os.Args[1], filepath.Join(os.Args[3], "libonnxruntime.so.zst"))
	if err == nil {
		err = notices(os.Args[2], filepath.Join(os.Args[3], "ThirdPartyNotices.txt"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rebuild:", err)
		os.Exit(1)
	}
}

func rebuild(archive, blob string) error {
	library, err := extract(archive)
	if err != nil {
		return err
	}
	if got := hash(library); got != ortlib.SHA256 || len(library) != ortlib.Size {
		return fmt.Errorf("%s of %s has sha256 %s and %d bytes, and recorded are %s and %d: if the version is meant to change, change internal/ort/ortlib/origin.go",
			ortlib.Member, archive, got, len(library), ortlib.SHA256, ortlib.Size)
	}
	packed, err := zstd.CompressLevel(nil, library, level)
	if err != nil {
		return fmt.Errorf("compressing %s: %w", ortlib.Member, err)
	}
	if err := os.WriteFile(blob, packed, 0o644); err != nil {
		return fmt.Errorf("writing the compressed library: %w", err)
	}
	if got := hash(packed); got != ortlib.BlobSHA256 {
		return fmt.Errorf("%s, written just now, has sha256 %s, and recorded is %s: if zstd was updated, change BlobSHA256 in internal/ort/ortlib/origin.go",
			blob, got, ortlib.BlobSHA256)
	}
	fmt.Printf("%s: %d bytes of %d, as recorded\n", blob, len(packed), len(library))
	return nil
}

// notices takes the notices from a wheel, which is a zip file.
func notices(wheel, file string) error {
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return fmt.Errorf("reading %s: %w", wheel, err)
	}
	defer z.Close()
	text, err := fs.ReadFile(z, ortlib.NoticesMember)
	if err != nil {
		return fmt.Errorf("reading %s: %w", wheel, err)
	}
	if got := hash(text); got != ortlib.NoticesSHA256 {
		return fmt.Errorf("%s of %s has sha256 %s, and recorded is %s: if the version is meant to change, change internal/ort/ortlib/origin.go",
			ortlib.NoticesMember, wheel, got, ortlib.NoticesSHA256)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return fmt.Errorf("writing the notices: %w", err)
	}
	fmt.Printf("%s: %d bytes, as recorded\n", file, len(text))
	return nil
}

func extract(archive string) ([]byte, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", archive, err)
	}
	r := tar.NewReader(gz)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s has no %s", archive, ortlib.Member)
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", archive, err)
		}
		if h.Name == ortlib.Member {
			// One byte more tells a longer file from the one that is wanted.
			return io.ReadAll(io.LimitReader(r, ortlib.Size+1))
		}
	}
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
