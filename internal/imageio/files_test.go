package imageio_test

import (
	"bytes"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// files are those of testdata/files, made by Pillow.
func file(t testing.TB, name string) []byte { return readFile(t, "testdata", "files", name) }

func TestLossyWebPEqualsLibwebp(t *testing.T) {
	for _, name := range []string{"lossy", "lossy-alpha"} {
		t.Run(name, func(t *testing.T) {
			_, img := decode(t, file(t, name+".webp"))
			_, want := decode(t, file(t, name+".png"))
			same(t, img, want)
		})
	}
}

func TestRotatedFiles(t *testing.T) {
	_, want := decode(t, file(t, "upright.png"))
	for _, name := range []string{"rotated.png", "rotated-after.png", "rotated.webp", "rotated.tif"} {
		t.Run(name, func(t *testing.T) {
			_, img := decode(t, file(t, name))
			same(t, img, want)
		})
	}
}

func TestICCOfFiles(t *testing.T) {
	want := file(t, "icc.icc")
	for _, name := range []string{"icc.jpg", "icc.png", "icc.webp", "icc.tif"} {
		if got := imageio.ICCProfile(file(t, name)); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	for _, name := range []string{"rotated.png", "lossy.webp", "rotated.tif", "icc.icc"} {
		if got := imageio.ICCProfile(file(t, name)); got != nil {
			t.Errorf("%s: %d bytes of a profile that it does not have", name, len(got))
		}
	}
}
