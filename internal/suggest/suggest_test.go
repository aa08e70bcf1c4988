package suggest_test

import (
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/suggest"
)

func TestDidYouMean(t *testing.T) {
	names := []string{"tile", "filter", "abs", "laplacian", "jpeg"}
	for name, want := range map[string]string{
		"tyle": "tile", "tiel": "tile", "Tile": "tile", "laplsian": "laplacian", "fliter": "filter", "jpg": "jpeg",
		"any": "", "manifest": "", "": "", strings.Repeat("tile", 100): "", strings.Repeat("İ", 32): "",
	} {
		if want != "" {
			want = `; did you mean "` + want + `"?`
		}
		if got := suggest.DidYouMean(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := suggest.DidYouMean("x", nil); got != "" {
		t.Errorf("without candidates: %q", got)
	}
}
