package imageio

// OpenWebP opens the library as the variable FORGEPIPE_LIBWEBP says.
func OpenWebP(wanted string) error { _, err := openWebP(wanted); return err }
