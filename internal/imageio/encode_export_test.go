package imageio

// OpenWebP opens the library as the variable FORGEPIPE_LIBWEBP says.
func OpenWebP(wanted string) error { _, err := openWebP(wanted); return err }

// NewRunWriter makes level 1's compressor.
func NewRunWriter() compressor { return &runWriter{} }
