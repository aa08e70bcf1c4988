package pipeline_test

import (
	"context"
	"fmt"
	"image"

	"github.com/forgepipe/forgepipe/pipeline"
)

// pictures is a source of pictures that are made in Go.
type pictures []pipeline.Input

func (p pictures) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for _, in := range p {
		if err := emit(in); err != nil {
			return err
		}
	}
	return nil
}

// A stage of one's own is a function. Here it rejects what is not wide enough.
func Example() {
	p := pipeline.New("wide", pipeline.Options{})
	p.SetSource(pictures{
		{Name: "banner.png", Image: image.NewGray(image.Rect(0, 0, 300, 100))},
		{Name: "stamp.png", Image: image.NewGray(image.Rect(0, 0, 20, 20))},
	})
	wide := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		if w := it.Size().X; w < 100 {
			it.Reject("too narrow", pipeline.Attribute{Name: "width", Value: pipeline.Int(int64(w))})
		}
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "wide", Stage: wide}); err != nil {
		fmt.Println(err)
		return
	}
	s, err := p.Run(context.Background(), pipeline.RunOptions{NoStore: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d in = %d out + %d rejected\n", s.In, s.Out, s.Rejected["wide"]["too narrow"])
	// Output: 2 in = 1 out + 1 rejected
}
