// Package standard is the battery pack: every stage and source that comes with
// forgepipe, in one registry. A program that embeds forgepipe takes it whole,
// takes some away (Registry.Without), adds its own (Registry.With), or makes a
// registry of just what it needs and leaves this package out.
package standard

import (
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/compare"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/filter"
	"github.com/forgepipe/forgepipe/stages/hash"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/infer"
	"github.com/forgepipe/forgepipe/stages/manifest"
	"github.com/forgepipe/forgepipe/stages/pair"
	"github.com/forgepipe/forgepipe/stages/pairs"
	"github.com/forgepipe/forgepipe/stages/resize"
	"github.com/forgepipe/forgepipe/stages/score"
	"github.com/forgepipe/forgepipe/stages/tile"
	"github.com/forgepipe/forgepipe/stages/upscale"
	"github.com/forgepipe/forgepipe/stages/vectors"
	"github.com/forgepipe/forgepipe/stages/write"
)

// Registry returns the standard stages and sources.
func Registry() pipeline.Registry {
	return pipeline.NewRegistry(
		images.Info(),
		pairs.Info(),
		tile.Info(),
		pair.Info(),
		resize.Info(),
		upscale.Info(),
		score.Info(),
		hash.Info(),
		embed.Info(),
		infer.Info(),
		filter.Info(),
		dedup.Info(),
		write.Info(),
		compare.Info(),
		vectors.Info(),
		manifest.Info(),
	)
}
