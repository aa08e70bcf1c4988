//go:build soak

package lpips_test

import (
	"os"
	"testing"

	"github.com/forgepipe/forgepipe/model/arch/archtest"
)

// FORGEPIPE_LPIPS names an ONNX file of LPIPS with the published weights, which are not
// here, to be measured too.
func TestSoakPairsByPooling(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, golden := range []string{"lpips-alex", "lpips-vgg"} {
		t.Run(golden, func(t *testing.T) {
			pairs(t, archtest.Read(t, golden).Save(t, "lpips.safetensors", nil), 64, 400)
		})
	}
	if file := os.Getenv("FORGEPIPE_LPIPS"); file != "" {
		t.Run("published", func(t *testing.T) { pairs(t, file, 64, 400) })
	}
}
