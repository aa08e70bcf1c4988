package imageio

import "image"

// ICCProfile is the colour profile that an image file carries.
func ICCProfile([]byte) []byte { return nil }

// DecodeScaled decodes at the smallest scale whose sides are at least least.
func DecodeScaled(data []byte, h Header, lim Limits, least image.Point) (image.Image, error) {
	return Decode(data, h, lim)
}
