package arch

import (
	"fmt"
	"math"
)

// CLIP is the image half of CLIP with a vision transformer (Radford et al. 2021), as
// OpenAI, open_clip and Hugging Face name its weights. The output is the vector in the
// space that it shares with texts, not normalised.
var clip = architecture{
	name: "CLIP",
	marks: [][]string{
		{"visual.conv1.weight", "visual.class_embedding", "visual.proj", "visual.transformer.resblocks.0.ln_1.weight"},
		{"vision_model.embeddings.class_embedding", "visual_projection.weight", "vision_model.encoder.layers.0.layer_norm1.weight"},
	},
	// The text half, and what OpenAI's files say of the network.
	ignore: []string{
		"positional_embedding", "text_projection", "logit_scale", "logit_bias", "token_embedding.", "transformer.", "ln_final.", "attn_mask", "text.",
		"input_resolution", "context_length", "vocab_size", "text_model.", "vision_model.embeddings.position_ids",
	},
	build: buildCLIP,
}

// clipNames are the keys of a naming.
type clipNames struct {
	class, patches, positions, before, after, projection string
	transposed                                           bool // the projection is [dim width]
	block                                                func(i int) vitBlock
}

func clipNaming(n *net) clipNames {
	if n.w.has("vision_model.embeddings.class_embedding") {
		const p = "vision_model."
		return clipNames{
			class: p + "embeddings.class_embedding", patches: p + "embeddings.patch_embedding", positions: p + "embeddings.position_embedding.weight",
			before: p + "pre_layrnorm", after: p + "post_layernorm", projection: "visual_projection.weight", transposed: true,
			block: func(i int) vitBlock {
				k := p + "encoder.layers." + itoa(i)
				pair := func(name string) [2]string {
					return [2]string{k + ".self_attn." + name + ".weight", k + ".self_attn." + name + ".bias"}
				}
				return vitBlock{
					norm1: k + ".layer_norm1", norm2: k + ".layer_norm2", query: pair("q_proj"), key: pair("k_proj"), value: pair("v_proj"),
					out: k + ".self_attn.out_proj", expand: k + ".mlp.fc1", contract: k + ".mlp.fc2",
				}
			},
		}
	}
	const p = "visual."
	return clipNames{
		class: p + "class_embedding", patches: p + "conv1", positions: p + "positional_embedding",
		before: p + "ln_pre", after: p + "ln_post", projection: p + "proj",
		block: func(i int) vitBlock {
			k := p + "transformer.resblocks." + itoa(i)
			return vitBlock{
				norm1: k + ".ln_1", norm2: k + ".ln_2", query: [2]string{k + ".attn.in_proj_weight", k + ".attn.in_proj_bias"},
				out: k + ".attn.out_proj", expand: k + ".mlp.c_fc", contract: k + ".mlp.c_proj",
			}
		},
	}
}

func buildCLIP(n *net) {
	names := clipNaming(n)
	width, patch := n.w.dim(names.patches+".weight", 0), n.w.dim(names.patches+".weight", 2)
	tokens := n.w.dim(names.positions, 0)
	side := int(math.Sqrt(float64(max(tokens-1, 0))))
	v := vit{width: width, tokens: tokens, epsilon: 1e-5, gelu: n.Gelu}
	gelu := n.gelu
	switch {
	case gelu != "":
	case n.w.openAI:
		gelu = QuickGELU
	case names.transposed:
		n.w.refuse("a file in Hugging Face's form does not tell whether OpenAI trained the network or LAION, which took other activations: say preset: clip-openai or preset: clip in a pipeline, or --gelu to forgepipe models convert")
	}
	activation := ""
	if gelu == QuickGELU {
		v.gelu, activation = n.QuickGelu, ", with the activation of OpenAI's"
	}

	x := n.Input("input", n.element, n.Dim("batch"), 3, side*patch, side*patch)
	y := n.withClass(x, n.patches(names.patches, x, width, patch, side), n.reshaped(names.class, 1, 1, width), width)
	y = n.Add(y, n.reshaped(names.positions, 1, tokens, width))
	y = n.layerNorm(names.before, y, width, v.epsilon)
	layers := 0
	for n.w.has(names.block(layers).norm1 + ".weight") {
		y = n.block(y, names.block(layers), v)
		layers++
	}
	y = n.layerNorm(names.after, n.firstToken(y), width, v.epsilon)
	var dim int
	if names.transposed {
		dim = n.w.dim(names.projection, 0)
		y = n.affine(names.projection, "", y, width, dim)
	} else {
		dim = n.w.dim(names.projection, 1)
		y = n.MatMul(y, n.weight(names.projection, width, dim))
	}
	n.Output("output", y, n.Dim("batch"), dim)
	n.about.Details = fmt.Sprintf("ViT of %d layers of %d numbers, patches of %d pixels, %d numbers%s", layers, width, patch, dim, activation)
	n.about.Preset = "clip"
	if gelu == QuickGELU {
		n.about.Preset = "clip-openai"
	}
}
