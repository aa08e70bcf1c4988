package pipeline_test

import (
	"context"
	"fmt"
	"image"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/score"
)

// squares declares a source of pictures that are made in Go.
var squares = pipeline.Info{
	Name: "squares", Short: "Makes gray squares of 1, 2, 3, ... pixels.",
	Fields: []pipeline.Field{{Name: "count", Type: pipeline.FieldInt, Required: true, Min: 1, Max: 1000, Doc: "How many."}},
	NewSource: func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Source, error) {
		return squareSource(c.Int("count")), nil
	},
}

type squareSource int

func (n squareSource) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for i := range int(n) {
		in := pipeline.Input{Name: fmt.Sprintf("%d.png", i+1), Image: image.NewGray(image.Rect(0, 0, i+1, i+1))}
		if err := emit(in); err != nil {
			return err
		}
	}
	return nil
}

// A registry of one's own has what its program wants to offer, and nothing else: here a
// source of its own and one of the standard stages. It is a value; adding to it and
// taking away from it make another.
func ExampleRegistry() {
	ctx := context.Background()
	r := pipeline.NewRegistry(squares, score.Info())

	for _, file := range []string{
		"source: {squares: {count: 3}}\nstages: [{score: {metrics: [entropy]}}]\n",
		"source: {images: {path: .}}\nstages: [{score: {metrics: [entropy]}}]\n",
	} {
		p, err := pipeline.Load(ctx, "p.yaml", []byte(file), pipeline.Options{Registry: r})
		if err != nil {
			fmt.Println(err)
			continue
		}
		s, err := p.Run(ctx, pipeline.RunOptions{NoStore: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(s.In, "in", s.Out, "out")
	}
	fmt.Println(len(r.Without("score").Stages()), "stages are left without score, and", len(r.Stages()), "here")
	// Output:
	// 3 in 3 out
	// p.yaml:1:10: there is no source "images" (there are squares)
	// 0 stages are left without score, and 1 here
}
