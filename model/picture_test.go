package model_test

import (
	"image"
	"math"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// What Fill makes of a picture is that picture again, whatever the network wants.
func TestPictureUndoesFill(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 13, 7))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * 37)
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	for name, s := range map[string]model.Spec{
		"nothing known": {},
		"pixels":        {Layout: model.NHWC},
		"BGR":           {Channels: model.BGR},
		"BGR pixels":    {Channels: model.BGR, Layout: model.NHWC, Mean: [3]float64{0.1, 0.2, 0.3}},
		"-1..1":         {Range: model.MinusOneToOne},
		"0..255":        {Range: model.ZeroTo255},
		"mean and std":  {Mean: [3]float64{0.485, 0.456, 0.406}, Std: [3]float64{0.229, 0.224, 0.225}},
		"all of it":     {Range: model.MinusOneToOne, Mean: [3]float64{-0.5, 0.25, 0.5}, Std: [3]float64{2, 3, 0.5}},
		"float16":       {Element: model.Float16},
		"a border":      {Multiple: 8},
	} {
		t.Run(name, func(t *testing.T) {
			out := &model.Tensor{Type: ort.Float32, Shape: s.Shape(1, img.Bounds().Size())[1:], Data: tensor(t, s, img)}
			if s.Element == model.Float16 {
				out.Type = ort.Float16
			}
			got, err := s.Picture(out, img.Bounds().Size())
			if err != nil {
				t.Fatal(err)
			}
			back, ok := got.(*image.NRGBA)
			if !ok || back.Bounds() != img.Bounds() {
				t.Fatalf("%T of %v", got, got.Bounds())
			}
			for i, v := range back.Pix {
				if v != img.Pix[i] {
					t.Fatalf("sample %d is %d, want %d", i, v, img.Pix[i])
				}
			}
		})
	}
	t.Run("gray", func(t *testing.T) {
		s, gray := model.Spec{Channels: model.Gray}, image.NewGray(image.Rect(0, 0, 9, 5))
		for i := range gray.Pix {
			gray.Pix[i] = uint8(i * 5)
		}
		got, err := s.Picture(&model.Tensor{Type: ort.Float32, Shape: []int64{1, 5, 9}, Data: tensor(t, s, gray)}, image.Pt(9, 5))
		if err != nil {
			t.Fatal(err)
		}
		if back, ok := got.(*image.Gray); !ok || string(back.Pix) != string(gray.Pix) {
			t.Errorf("%+v", got)
		}
	})
}

func TestPictureOfOddOutputs(t *testing.T) {
	of := func(values []float32, shape ...int64) *model.Tensor {
		out := ort.NewTensor(ort.Float32, shape...)
		copy(out.Float32s(), values)
		return out
	}
	size := image.Pt(2, 1)
	got, err := model.Spec{}.Picture(of([]float32{-3, 7, 0.5, 0.5, 0, 1}, 3, 1, 2), size)
	if err != nil {
		t.Fatal(err)
	}
	if want := []uint8{0, 128, 0, 255, 255, 128, 255, 255}; string(got.(*image.NRGBA).Pix) != string(want) {
		t.Errorf("what is beyond black and white becomes %v, want %v", got.(*image.NRGBA).Pix, want)
	}
	for name, tt := range map[string]struct {
		out  *model.Tensor
		want string
	}{
		"a vector":       {of(nil, 512), "three axes"},
		"four channels":  {of(nil, 4, 1, 2), "4 channels, where 3"},
		"too small":      {of(nil, 3, 1, 1), "1 x 1 pixels, where 2 x 1"},
		"no number":      {of([]float32{0, float32(math.NaN())}, 3, 1, 2), "at 1, 0 is NaN"},
		"no end":         {of([]float32{float32(math.Inf(1))}, 3, 1, 2), "+Inf"},
		"less than said": {&model.Tensor{Type: ort.Float32, Shape: []int64{3, 1, 2}}, "0 numbers"},
	} {
		if _, err := (model.Spec{}).Picture(tt.out, size); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
