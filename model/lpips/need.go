package lpips

import (
	"fmt"

	"github.com/forgepipe/forgepipe/model"
)

// PreparedVersion is that of what Prepare makes: it is another one where the same picture
// would give other bytes, so that what was stored is not compared with it.
const PreparedVersion = "1"

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

// Prepared is a picture that was appended.
func (s *Set) Prepared(number uint32) ([]byte, error) {
	prepared := make([]byte, s.d.PreparedBytes())
	if err := s.pictures.read(prepared, int64(number)); err != nil {
		return nil, fmt.Errorf("reading squashed pictures: %w", err)
	}
	return prepared, nil
}
