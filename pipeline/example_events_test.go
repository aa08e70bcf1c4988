package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"sync"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Events tell of a run while it goes on. They come from several goroutines; Progress has
// the figures so far, and the summary those at the end.
func ExampleEvent() {
	p := pipeline.New("events", pipeline.Options{})
	p.SetSource(pictures{
		{Name: "a.png", Image: image.NewGray(image.Rect(0, 0, 300, 100))},
		{Name: "b.png", Image: image.NewGray(image.Rect(0, 0, 20, 20))},
		{Name: "c.png", Err: errors.New("the file is cut short")},
		{Name: "notes.txt", Ignored: "not an image"},
	})
	small := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		if it.Size().X < 100 {
			it.Reject("too small", pipeline.Attribute{Name: "width", Value: pipeline.Int(int64(it.Size().X))})
		}
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "size", Stage: small}); err != nil {
		fmt.Println(err)
		return
	}

	var mu sync.Mutex
	run, err := p.Start(context.Background(), pipeline.RunOptions{NoStore: true, OnEvent: func(e pipeline.Event) {
		mu.Lock()
		defer mu.Unlock()
		switch e.Kind {
		case pipeline.EventRejected, pipeline.EventFailed, pipeline.EventIgnored:
			fmt.Printf("%s %s at %s: %s\n", e.Item, e.Kind, e.Stage, e.Message)
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := run.Wait() // meanwhile, from elsewhere: run.Progress(), and run.Drain() to end it soon
	fmt.Println(s.In, "in", s.Out, "out", s.Quarantined, "quarantined", s.Ignored, "ignored", err)
	// Unordered output:
	// notes.txt ignored at source: not an image
	// c.png failed at source: the file is cut short
	// b.png rejected at size: too small: width 20
	// 3 in 1 out 1 quarantined 1 ignored <nil>
}
