package model

// ImageNet's mean and standard deviation, of red, green and blue in 0..1, as
// torchvision has them.
var (
	imagenetMean = [3]float64{0.485, 0.456, 0.406}
	imagenetStd  = [3]float64{0.229, 0.224, 0.225}
)

// clipSpec is how CLIP sees pictures.
var clipSpec = Spec{
	Resize: Shortest, Shorter: 224, Filter: "bicubic", Crop: Centre, Width: 224, Height: 224,
	Mean: [3]float64{0.48145466, 0.4578275, 0.40821073}, Std: [3]float64{0.26862954, 0.26130258, 0.27577711},
}

const clipOpenAI = "clip-openai"

// presets are those that Preset knows, in the order of the documentation.
var presets = []struct {
	name string
	spec Spec
}{
	// torchvision's classifiers (ImageClassification with its defaults).
	{"imagenet", Spec{Resize: Shortest, Shorter: 256, Filter: "bilinear", Crop: Centre, Width: 224, Height: 224, Mean: imagenetMean, Std: imagenetStd}},
	// CLIP, Radford et al. 2021; open_clip's models have the same.
	{"clip", clipSpec},
	// The same, of a network that OpenAI trained: checkpoints of it are built with the
	// activation that it has.
	{clipOpenAI, clipSpec},
	// DINOv2, Oquab et al. 2023: its evaluation transform.
	{"dinov2", Spec{Resize: Shortest, Shorter: 256, Filter: "bicubic", Crop: Centre, Width: 224, Height: 224, Mean: imagenetMean, Std: imagenetStd}},
	// SSCD, Pizzi et al. 2022: the transform whose batches have one shape.
	{"sscd", Spec{Resize: Squash, Width: 320, Height: 320, Filter: "bilinear", Mean: imagenetMean, Std: imagenetStd}},
	// IC9600, Feng et al. 2022: as in its paper.
	{"ic9600", Spec{Resize: Squash, Width: 512, Height: 512, Filter: "bilinear", Mean: imagenetMean, Std: imagenetStd}},
	// HyperIQA, Su et al. 2020: one of the 25 crops of 224 pixels, which the caller
	// cuts.
	{"hyperiqa", Spec{Resize: NoResize, Mean: imagenetMean, Std: imagenetStd}},
	// LPIPS v0.1, Zhang et al. 2018: its mean and std are of samples in -1..1. The
	// size is that of finding duplicates.
	{"lpips", Spec{
		Resize: Squash, Width: 224, Height: 224, Filter: "bilinear", Range: MinusOneToOne,
		Mean: [3]float64{-0.030, -0.088, -0.188}, Std: [3]float64{0.458, 0.448, 0.450},
	}},
}

// Presets are the names that Preset knows.
func Presets() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.name
	}
	return names
}

// Preset is what a known network wants to see; ok tells whether the name is one
// of Presets.
func Preset(name string) (s Spec, ok bool) {
	for _, p := range presets {
		if p.name == name {
			return p.spec, true
		}
	}
	return Spec{}, false
}
