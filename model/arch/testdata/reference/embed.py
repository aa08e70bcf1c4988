"""Networks that make vectors of pictures: CLIP in its three namings, DINOv2 and SSCD.

    pip install torch torchvision open_clip_torch transformers timm numpy && python embed.py
"""

import open_clip
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from open_clip.transformer import QuickGELU, VisionTransformer

from networks import SSCD
from reference import save, shapes, weights

side, patch, width, layers, dim = 64, 16, 128, 3, 48
sizes = [(1, side, side), (2, side, side), (3, side, side)]

for name, act in ("clip-openclip", torch.nn.GELU), ("clip-openclip-quick", QuickGELU):
    net = VisionTransformer(image_size=side, patch_size=patch, width=width, layers=layers, heads=width // 64, mlp_ratio=4, output_dim=dim, act_layer=act).eval()
    state = {f"visual.{k}": v for k, v in shapes(net).items()}
    state |= {"positional_embedding": (7, 16), "text_projection": (16, 16), "transformer.resblocks.0.ln_1.weight": (16,), "logit_scale": ()}
    filled = weights(state, 1.0)
    net.load_state_dict({k.removeprefix("visual."): v for k, v in filled.items() if k.startswith("visual.")})
    save(name, f"open_clip {open_clip.__version__}", state, 1.0, net, sizes)

for name, act in ("clip-huggingface", "gelu"), ("clip-huggingface-quick", "quick_gelu"):
    config = transformers.CLIPVisionConfig(
        image_size=side, patch_size=patch, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=4 * width, projection_dim=dim, hidden_act=act,
    )
    net = transformers.CLIPVisionModelWithProjection(config).eval()
    state = shapes(net)
    net.load_state_dict(weights(state, 1.0))
    state["text_model.final_layer_norm.weight"] = (16,)
    save(name, f"transformers {transformers.__version__}", state, 1.0, lambda x: net(pixel_values=x).image_embeds, sizes)


def interpolated(pos, grid, registers):
    """As facebookresearch/dinov2 does it: with an offset of 0.1 and no antialias, or with registers the other way round."""
    learned = int((pos.shape[1] - 1) ** 0.5)
    square = pos[:, 1:].reshape(1, learned, learned, -1).permute(0, 3, 1, 2)
    if registers:
        square = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
    else:
        factor = (grid + 0.1) / learned
        square = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic", antialias=False)
    assert square.shape[-2:] == (grid, grid)
    return torch.cat([pos[:, :1], square.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)], 1)


for name, registers in ("dinov2", 0), ("dinov2-registers", 4):
    options = dict(img_size=224, patch_size=14, embed_dim=width, depth=layers, num_heads=width // 64, num_classes=0, init_values=1.0, global_pool="token")
    if registers:
        options |= dict(reg_tokens=registers, no_embed_class=True)
    net = timm.models.vision_transformer.VisionTransformer(**options).eval()
    state = shapes(net)
    state["pos_embed"] = (1, 1 + 37 * 37, width)
    state["mask_token"] = (1, width)
    if registers:
        state["register_tokens"] = state.pop("reg_token")
    filled = weights(state, 1.0)
    del filled["mask_token"]
    pos = interpolated(filled["pos_embed"], 16, registers)
    filled["pos_embed"] = pos
    if registers:  # timm adds the places before the class token comes, so that its place is added to the class itself
        filled["reg_token"] = filled.pop("register_tokens")
        filled["cls_token"] = filled["cls_token"] + pos[:, :1]
        filled["pos_embed"] = pos[:, 1:]
    net.load_state_dict(filled)
    save(name, f"timm {timm.__version__}, places as in facebookresearch/dinov2", state, 1.0, net, [(1, 224, 224), (2, 224, 224), (1, 224, 224)])


net = SSCD(torchvision.models.resnet18, 32).eval()
state = shapes(net)
net.load_state_dict(weights(state, 1.0))
save("sscd", f"torchvision {torchvision.__version__} with GeM pooling", state, 1.0, net, [(1, 64, 64), (2, 49, 70), (1, 33, 32)])
