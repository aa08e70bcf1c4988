package model_test

import (
	"context"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model"
)

func Example() {
	s, _ := model.Preset("clip")
	photo := image.NewRGBA(image.Rect(0, 0, 640, 480))
	batch := make([]byte, 2*s.TensorBytes(photo.Rect.Size()))
	second := batch[len(batch)/2:]
	if err := s.Fill(context.Background(), second, photo); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Shape(2, photo.Rect.Size()), len(second))
	// Output: [2 3 224 224] 602112
}

func TestValidate(t *testing.T) {
	nan := math.NaN()
	for name, tt := range map[string]struct {
		spec model.Spec
		want string // a part of the error; none: valid
	}{
		"unknown network":     {model.Spec{}, ""},
		"fixed size":          {model.Spec{Width: 256, Height: 128}, ""},
		"shorter side":        {model.Spec{Shorter: 64}, ""},
		"shortest by size":    {model.Spec{Resize: model.Shortest, Width: 64, Height: 64}, ""},
		"native crop":         {model.Spec{Crop: model.Centre, Width: 64, Height: 32}, ""},
		"layout":              {model.Spec{Layout: "chw"}, `layout is "chw": use one of nchw, nhwc`},
		"channels":            {model.Spec{Channels: "RGB"}, `channels is "RGB"`},
		"element":             {model.Spec{Element: "fp16"}, `element is "fp16"`},
		"resize":              {model.Spec{Resize: "fit"}, `resize is "fit"`},
		"filter":              {model.Spec{Filter: "cubic"}, `filter is "cubic"`},
		"crop":                {model.Spec{Crop: "center"}, `crop is "center"`},
		"border":              {model.Spec{Border: "mirror"}, `border is "mirror"`},
		"range":               {model.Spec{Range: "0-1"}, `range is "0-1"`},
		"multiple":            {model.Spec{Multiple: -2}, "multiple is -2"},
		"one side":            {model.Spec{Width: 5}, "height is 0"},
		"negative":            {model.Spec{Width: -5, Height: -5}, "width is -5"},
		"too large":           {model.Spec{Width: 5, Height: 70000}, "height is 70000"},
		"squash without size": {model.Spec{Resize: model.Squash}, "give width and height"},
		"squash and crop":     {model.Spec{Resize: model.Squash, Crop: model.Centre, Width: 5, Height: 5}, "leave crop out"},
		"crop without size":   {model.Spec{Crop: model.Centre}, "give width and height"},
		"shortest of nothing": {model.Spec{Resize: model.Shortest}, "give shorter"},
		"squash and shorter":  {model.Spec{Resize: model.Squash, Width: 5, Height: 5, Shorter: 7}, "shorter has no meaning"},
		"size of nothing":     {model.Spec{Resize: model.NoResize, Width: 5, Height: 5}, "no meaning"},
		"mean":                {model.Spec{Mean: [3]float64{0, nan, 0}}, "mean has NaN"},
		"std":                 {model.Spec{Std: [3]float64{1, 0, 1}}, "std has 0"},
		"std of infinity":     {model.Spec{Std: [3]float64{1, 1, math.Inf(1)}}, "std has +Inf"},
	} {
		err := tt.spec.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestSizes(t *testing.T) {
	shortest := model.Spec{Shorter: 224}
	clip, _ := model.Preset("clip")
	clip.Layout, clip.Element = model.NHWC, model.Float16
	for name, tt := range map[string]struct {
		spec             model.Spec
		src, size, least image.Point
	}{
		"native":              {model.Spec{}, image.Pt(31, 17), image.Pt(31, 17), image.Pt(31, 17)},
		"to a multiple":       {model.Spec{Multiple: 32}, image.Pt(33, 64), image.Pt(64, 64), image.Pt(33, 64)},
		"squash":              {model.Spec{Width: 320, Height: 288}, image.Pt(4000, 600), image.Pt(320, 288), image.Pt(640, 576)},
		"hardly smaller":      {model.Spec{Width: 320, Height: 288}, image.Pt(600, 300), image.Pt(320, 288), image.Pt(600, 300)},
		"nearest":             {model.Spec{Width: 20, Height: 20, Filter: "nearest"}, image.Pt(600, 300), image.Pt(20, 20), image.Pt(600, 300)},
		"wide":                {shortest, image.Pt(1000, 301), image.Pt(744, 224), image.Pt(1000, 301)}, // int(744.18)
		"tall":                {shortest, image.Pt(999, 3001), image.Pt(224, 672), image.Pt(448, 1344)}, // int(672.89)
		"square":              {shortest, image.Pt(7, 7), image.Pt(224, 224), image.Pt(7, 7)},
		"cropped":             {clip, image.Pt(999, 3001), image.Pt(224, 224), image.Pt(448, 1344)},
		"empty":               {clip, image.Pt(0, 5), image.Point{}, image.Pt(0, 5)},
		"shorter by the crop": {model.Spec{Resize: model.Shortest, Crop: model.Centre, Width: 20, Height: 30}, image.Pt(100, 200), image.Pt(20, 30), image.Pt(60, 120)},
	} {
		if err := tt.spec.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := tt.spec.OutputSize(tt.src); got != tt.size {
			t.Errorf("%s: %v, want %v", name, got, tt.size)
		}
		if got := tt.spec.Least(tt.src); got != tt.least {
			t.Errorf("%s: at least %v, want %v", name, got, tt.least)
		}
	}
	src := image.Pt(9, 8)
	if got := clip.Shape(5, src); !slices.Equal(got, []int64{5, 224, 224, 3}) || clip.TensorBytes(src) != 224*224*3*2 {
		t.Errorf("%v, %d bytes", got, clip.TensorBytes(src))
	}
	gray := model.Spec{Channels: model.Gray, Width: 3, Height: 4}
	if got := gray.Shape(5, src); !slices.Equal(got, []int64{5, 1, 4, 3}) || gray.TensorBytes(src) != 48 || gray.Depth() != 1 {
		t.Errorf("%v, %d bytes", got, gray.TensorBytes(src))
	}
}

func TestPresets(t *testing.T) {
	want := []string{"imagenet", "clip", "clip-openai", "dinov2", "sscd", "ic9600", "hyperiqa", "lpips"}
	if got := model.Presets(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	for _, name := range want {
		s, ok := model.Preset(name)
		if err := s.Validate(); err != nil || !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := model.Preset("resnet"); ok {
		t.Error("any name is known")
	}
	// LPIPS v0.1: black is -1 before its own mean and std.
	s, _ := model.Preset("lpips")
	got := floats(tensor(t, s, image.NewRGBA(image.Rect(0, 0, 4, 4))))
	for c, want := range []float64{(-1 + 0.030) / 0.458, (-1 + 0.088) / 0.448, (-1 + 0.188) / 0.450} {
		if v := float64(got[c*224*224]); math.Abs(v-want) > 1e-6 {
			t.Errorf("black is %v in channel %d, want %v", v, c, want)
		}
	}
}
