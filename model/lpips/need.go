package lpips

import (
	"github.com/forgepipe/forgepipe/model"
)

// SetBytes is how many bytes of disk a Set takes at most for each of its pictures, squashed
// to size x size pixels. It loads no network, and reads of the files, which are those of
// Open, what they say of themselves.
func SetBytes(size int, files ...string) (int64, error) {
	h, err := model.ReadHeader(files[0], model.FileOptions{Preset: "lpips", Beside: files[1:]})
	if err != nil {
		return 0, err
	}
	return 3*int64(size)*int64(size) + 4*int64(gridNumbers(layersOf(h.Metadata["details"], size))), nil
}
