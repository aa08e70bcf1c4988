package imageio_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

func TestJPEGLibraryIsNamed(t *testing.T) {
	needLibrary(t)
	name, path, err := imageio.JPEGLibrary()
	if err != nil || !regexp.MustCompile(`^libturbojpeg \d+\.\d+(\.\d+)*$`).MatchString(name) {
		t.Errorf("%q, %v", name, err)
	}
	if _, err := os.Stat(path); err != nil || !strings.Contains(filepath.Base(path), "libturbojpeg") {
		t.Errorf("path %q: %v", path, err)
	}
	// A run that used the library is told from one that did not.
	with, encoder := imageio.Decoder(), imageio.JPEGEncoder(imageio.JPEGOptions{})
	back := imageio.WithoutLibrary()
	defer back()
	name, path, err = imageio.JPEGLibrary()
	if err == nil || path != "" || !strings.HasPrefix(name, "image/jpeg go1.") {
		t.Errorf("without: %q, %q, %v", name, path, err)
	}
	if imageio.Decoder() == with || imageio.JPEGEncoder(imageio.JPEGOptions{}) == encoder || !strings.HasPrefix(with, "libturbojpeg ") {
		t.Errorf("Decoder() = %q and %q without, JPEGEncoder = %q and %q", with, imageio.Decoder(), encoder, imageio.JPEGEncoder(imageio.JPEGOptions{}))
	}
}

func TestOpenLibrary(t *testing.T) {
	nothing := filepath.Join(t.TempDir(), "libturbojpeg.so")
	for _, tt := range []struct{ name, wanted, want string }{
		{"off", "off", "switched off: unset FORGEPIPE_TURBOJPEG"},
		{"not there", nothing, "opening the libturbojpeg that FORGEPIPE_TURBOJPEG names"},
		{"another library", "libc.so.6", "has no function tjInitDecompress: install libturbojpeg 2.0 or newer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := imageio.OpenLibrary(tt.wanted); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("by its path", func(t *testing.T) {
		needLibrary(t)
		_, path, _ := imageio.JPEGLibrary()
		link := filepath.Join(t.TempDir(), "mine.so")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		version, opened, err := imageio.OpenLibrary(link)
		if name, _, _ := imageio.JPEGLibrary(); err != nil || "libturbojpeg "+version != name || opened != path {
			t.Errorf("%q, %q, %v", version, opened, err)
		}
	})
}
