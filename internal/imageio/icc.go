package imageio

// ICCProfile is the colour profile that an image file carries.
func ICCProfile([]byte) []byte { return nil }
