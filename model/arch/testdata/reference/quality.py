"""Networks that rate pictures: HyperIQA in both of its namings, LPIPS with its weights together and apart, and
ICNet, which is written from its paper.

    pip install torch torchvision lpips pyiqa timm numpy && python quality.py
"""

import re

import lpips
import timm
import torch

from networks import ICNet
from reference import save, shapes, weights

# HyperIQA.

create = timm.create_model
timm.create_model = lambda name, pretrained=False, **options: create(name, pretrained=False, **options)
from pyiqa.archs.hypernet_arch import HyperNet  # noqa: E402

net = HyperNet(pretrained=False).eval()
net.preprocess = lambda x: x  # the picture is prepared already
crops = [(1, 224, 224), (2, 224, 224), (1, 224, 224)]
state = shapes(net)
net.load_state_dict(weights(state, 1.0))
save("hyperiqa-toolbox", "pyiqa", state, 1.0, lambda x: {"score": net.forward_patch(x)}, crops)


def authors(key):
    """The toolbox's name of a weight as SSL92/hyperIQA has it."""
    key = key.replace("base_model.", "res.")
    key = re.sub(r"lda_modules\.(\d)\.0\.", lambda m: f"res.lda{int(m[1]) + 1}_pool.0.", key)
    key = re.sub(r"lda_modules\.(\d)\.[23]\.", lambda m: f"res.lda{int(m[1]) + 1}_fc.", key)
    key = key.replace("fc_w_modules.4.2.", "fc5w_fc.")
    key = re.sub(r"fc_w_modules\.(\d)\.", lambda m: f"fc{int(m[1]) + 1}w_conv.", key)
    return re.sub(r"fc_b_modules\.(\d)\.2\.", lambda m: f"fc{int(m[1]) + 1}b_fc.", key)


renamed = {authors(k): s for k, s in state.items()}
filled = weights(renamed, 1.0)
net.load_state_dict({k: filled[authors(k)] for k in state})
save("hyperiqa", "pyiqa, with the authors' names", renamed, 1.0, lambda x: {"score": net.forward_patch(x)}, crops[:2])

# LPIPS: the distances of all pictures of a batch.


def distances(net):
    def run(x):
        raw = x * net.scaling_layer.scale + net.scaling_layer.shift  # the network takes what this layer gives
        n = len(x)
        return {"distances": torch.stack([torch.stack([net(raw[i : i + 1], raw[j : j + 1]).reshape(()) for j in range(n)]) for i in range(n)])}

    return run


def positive(filled):
    return {k: v.abs() if k.startswith("lin") else v for k, v in filled.items()}


for name, backbone in ("lpips-vgg", "vgg"), ("lpips-alex", "alex"):
    net = lpips.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False).eval()
    together = shapes(net)
    used = {k: s for k, s in together.items() if not k.startswith(("lins.", "scaling_layer."))}
    filled = positive(weights(used, 1.2))
    for k in together:
        if k.startswith("lins."):
            filled[k] = filled[re.sub(r"lins\.(\d)", r"lin\1", k)]
        elif k.startswith("scaling_layer."):
            filled[k] = net.state_dict()[k]
    net.load_state_dict(filled)
    save(name, "lpips 0.1.4", used, 1.2, distances(net), [(2, 64, 64), (3, 49, 70), (2, 35, 64)])

    apart = {re.sub(r"net\.slice\d\.", "features.", k): s for k, s in used.items()}
    filled = positive(weights(apart, 1.2))
    state = net.state_dict()
    for k in used:
        state[k] = filled[re.sub(r"net\.slice\d\.", "features.", k)]
        if k.startswith("lin"):
            state[k.replace("lin", "lins.")] = state[k]
    net.load_state_dict(state)
    apart["classifier.6.bias"] = (10,)
    save(f"{name}-apart", "lpips 0.1.4", apart, 1.2, distances(net), [(2, 64, 64), (2, 40, 40)])

# ICNet.


net = ICNet().eval()
state = shapes(net)
net.load_state_dict(weights(state, 1.0))
save("icnet", "an implementation after the paper", state, 1.0, net, [(1, 128, 128), (1, 192, 128), (2, 64, 192)])
