// Package photos prepares the photographs that benchmarks work on: 16 of a
// Debian package, as JPEG files of one size. None of them is part of this
// repository; they are licensed CC-BY-SA 3.0.
package photos

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/disintegration/imaging"
)

// Width, Height and Quality are what every prepared photograph has.
const (
	Width   = 4000
	Height  = 3000
	Quality = 88
)

// Package is where the photographs come from.
const Package = "ukui-wallpapers 20.04.4-1"

// Described says in a sentence what the photographs are.
const Described = "The 16 photographs are those of Debian's package " + Package + ", 3840x2160 each, cropped to 4:3 about the centre, resized to 4000x3000 (Lanczos, imaging) and written as baseline JPEG 4:2:0 quality 88 by image/jpeg."

const debSHA256 = "3e9036f3e9fa197e3ff8fc6551eeba208f31ac99cba06da052e49a00d77ed62d"

// A package leaves Debian's mirrors when no release has it any more; the
// snapshots keep it.
var debURLs = []string{
	"https://deb.debian.org/debian/pool/main/u/ukui-wallpapers/ukui-wallpapers_20.04.4-1_all.deb",
	"https://snapshot.debian.org/archive/debian/20261030T000000Z/pool/main/u/ukui-wallpapers/ukui-wallpapers_20.04.4-1_all.deb",
}

// names are all photographs of the package; its other files are drawings.
var names = []string{
	"bluebird", "bridgecity", "bridgecity2", "flamingos", "horse", "house", "look", "mountain",
	"mountain-range", "mountain2", "planet-ascending", "sea", "sky", "snowy-mountains", "still-life", "sunf",
}

// Prepare makes the photographs under dir, where those of an earlier call are
// used again, and returns the folder that holds them and nothing else. It needs
// dpkg-deb and, the first time, the network. The work is done by the calling
// program started anew with the flags -prepare and -dir, for which it must call
// Make: see proc.Usage for why a benchmark has to stay small.
func Prepare(dir string) (string, error) {
	out, done := places(dir)
	if _, err := os.Stat(done); err == nil {
		return out, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if msg, err := exec.Command(self, "-prepare", "-dir", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("preparing the photographs: %w\n%s", err, msg)
	}
	return out, nil
}

// places are the folder of the photographs, and the file that says that they
// are complete.
func places(dir string) (out, done string) {
	return filepath.Join(dir, "photos"), filepath.Join(dir, "photos.made-from-"+debSHA256[:16])
}

// Make makes the photographs under dir.
func Make(dir string) error {
	out, done := places(dir)
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	deb := filepath.Join(dir, "photos.deb")
	if err := fetch(deb); err != nil {
		return err
	}
	tree := filepath.Join(dir, "photos.tree")
	if msg, err := exec.Command("dpkg-deb", "-x", deb, tree).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s with dpkg-deb: %w\n%s", deb, err, msg)
	}
	for _, n := range names {
		if err := prepare(filepath.Join(tree, "usr/share/backgrounds", n+".jpg"), filepath.Join(out, n+".jpg")); err != nil {
			return fmt.Errorf("preparing the photograph %s: %w", n, err)
		}
	}
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o666)
}

// fetch downloads the package unless the file is there.
func fetch(file string) error {
	if b, err := os.ReadFile(file); err == nil && isPackage(b) {
		return nil
	}
	var failed error
	for _, url := range debURLs {
		b, err := get(url)
		if err == nil && !isPackage(b) {
			err = fmt.Errorf("%s is not the file with sha256 %s", url, debSHA256)
		}
		if err == nil {
			return os.WriteFile(file, b, 0o666)
		}
		failed = errors.Join(failed, err)
	}
	return fmt.Errorf("downloading the photographs: %w", failed)
}

func isPackage(b []byte) bool {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]) == debSHA256
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// prepare writes the photograph src as a JPEG of the size that all have.
func prepare(src, dst string) error {
	b, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	img, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		return err
	}
	var fitted image.Image = imaging.Fill(img, Width, Height, imaging.Center, imaging.Lanczos)
	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, fitted, &jpeg.Options{Quality: Quality}); err != nil {
		return err
	}
	return os.WriteFile(dst, jpg.Bytes(), 0o666)
}
