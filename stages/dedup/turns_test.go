package dedup_test

import (
	"slices"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Hashes that must agree are asked about one orientation: that in which the first of them
// finds the two nearest.
func TestHashesConfirmTheSameOrientation(t *testing.T) {
	far := hash64(0xffff << 20)
	// turned is near in one orientation, and far from everything in the others.
	turned := func(at int, near, far pipeline.Value) pipeline.Value {
		all := make([][]byte, 7)
		for i := range all {
			all[i] = far.Hash()
		}
		all[at-1] = near.Hash()
		return pipeline.Hash(slices.Concat(all...))
	}
	item := func(pdq, phash, dhash int) cascade {
		return cascade{given: given{
			"a": {"pdq": ones(0), "phash": hash64(0), "dhash": hash64(0), "pdq_orientations": turned(1, ones(200), ones(200)), "phash_orientations": turned(1, far, far), "dhash_orientations": turned(1, far, far), "pixels_sha256": ones(0), "pixels_sha256_orientations": turned(1, ones(200), ones(200))},
			"b": {
				"pdq": ones(100), "phash": far, "dhash": far,
				"pixels_sha256": ones(100), "pixels_sha256_orientations": turned(pdq, ones(0), ones(100)),
				"pdq_orientations": turned(pdq, ones(5), ones(100)), "phash_orientations": turned(phash, hash64(1), far), "dhash_orientations": turned(dhash, hash64(3), far),
			},
		}}
	}
	for name, tt := range map[string]struct {
		pdq, phash, dhash int
		by                []any
		want              string
	}{
		"one orientation":           {1, 1, 1, []any{option("pdq"), option("phash", "confirm", true), option("dhash", "confirm", true)}, "duplicate: keeper a, by pdq, distance 5, phash_distance 1, dhash_distance 2, rule id"},
		"the last one":              {7, 7, 7, []any{option("dhash"), option("pdq", "confirm", true)}, "duplicate: keeper a, by dhash, distance 2, pdq_distance 5, rule id"},
		"two":                       {1, 4, 1, []any{option("pdq"), option("phash", "confirm", true)}, ""},
		"the third has its own":     {2, 2, 3, []any{option("pdq"), option("phash", "confirm", true), option("dhash", "confirm", true)}, ""},
		"the same pixels":           {4, 4, 1, []any{option("pixels"), option("phash", "confirm", true)}, "duplicate: keeper a, by pixels, distance 0, phash_distance 1, rule id"},
		"the same pixels otherwise": {3, 4, 1, []any{option("pixels"), option("phash", "confirm", true)}, ""},
		"by itself it is any":       {1, 4, 1, []any{option("pdq"), option("phash")}, "duplicate: keeper a, by pdq, distance 5, phash_distance 1, rule id"},
		"none proposes one":         {1, 4, 4, []any{option("sha256"), option("phash", "confirm", true), option("dhash", "confirm", true)}, "duplicate: keeper a, by sha256, distance 0, phash_distance 1, dhash_distance 2, rule id"},
		"nor agree two":             {1, 4, 5, []any{option("sha256"), option("phash", "confirm", true), option("dhash", "confirm", true)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			said, _ := item(tt.pdq, tt.phash, tt.dhash).said(t, config("by", tt.by, "prefer", []string{}, "orientations", "all"))
			if said["b"] != tt.want || said["a"] != "" {
				t.Errorf("got %q\nwant %q", said, tt.want)
			}
		})
	}
	// What is told of a step that confirms is what made it say yes.
	c := item(1, 1, 1)
	c.given["b"]["dhash"] = hash64(0)
	said, _ := c.said(t, config("by", []any{option("pdq"), option("dhash", "confirm", true), option("phash")}, "prefer", []string{}, "orientations", "all"))
	if want := "duplicate: keeper a, by pdq, distance 5, dhash_distance 2, phash_distance 1, rule id"; said["b"] != want {
		t.Errorf("got %q\nwant %q", said, want)
	}
}
