package wild_test

import (
	"testing"

	"github.com/forgepipe/forgepipe/internal/wild"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.png", "a.png", true},
		{"*", "a.png", true},
		{"*", "sub/a.png", false},
		{"*/*", "sub/a.png", true},
		{"*.png", "a.png.png", true},
		{"a*b*c", "aXbXbc", true},
		{"a*b*c", "aXbXb", false},
		{"?.png", "é.png", true},
		{"?.png", "ab.png", false},
		{"?", "\xff", true},
		{"a?b", "a/b", false},
		{"[a]", "a", false},
		{"[a]", "[a]", true},
		{"", "", true},
		{"**", "", true},
	} {
		if got := wild.Match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q of %q: %v", tt.pattern, tt.name, got)
		}
	}
	if wild.Has("a[b].png") || !wild.Has("a?") || !wild.Has("*") {
		t.Error("what is a pattern?")
	}
}
