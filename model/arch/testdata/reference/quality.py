"""Networks that rate pictures: HyperIQA in both of its namings, LPIPS with its weights together and apart, and
ICNet, which is written here from its paper.

    pip install torch torchvision lpips pyiqa timm numpy && python quality.py
"""

import re

import lpips
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

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


class SLAM(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side
        self.linear = nn.Sequential(nn.Linear(side * side, 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, x):
        y = x
        if x.shape[2:] != (self.side, self.side):
            y = F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=True)
        return x * self.linear(y.flatten(2)).unsqueeze(3)


class ConvNorm(nn.Module):
    def __init__(self, n_in, n_out, size):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, size, padding=size // 2)
        self.bn = nn.BatchNorm2d(n_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class ToMap(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_map = nn.Sequential(nn.Conv2d(512, 1, 1), nn.Sigmoid())

    def forward(self, x):
        return self.to_map(x)


class ICNet(nn.Module):
    def __init__(self):
        super().__init__()
        one, two = list(torchvision.models.resnet18().children()), list(torchvision.models.resnet18().children())
        self.b1_1, self.b1_1_slam = nn.Sequential(*one[:5]), SLAM(32)
        self.b1_2, self.b1_2_slam = one[5], SLAM(32)
        self.b2_1, self.b2_1_slam = nn.Sequential(*two[:5]), SLAM(32)
        self.b2_2, self.b2_2_slam = two[5], SLAM(32)
        self.b2_3, self.b2_3_slam = two[6], SLAM(16)
        self.b2_4, self.b2_4_slam = two[7], SLAM(8)
        self.up1, self.up2 = ConvNorm(128, 256, 1), ConvNorm(512, 256, 1)
        self.to_map_f, self.to_map_f_slam, self.to_map = ConvNorm(512, 512, 3), SLAM(32), ToMap()
        self.to_score_f, self.to_score_f_slam = ConvNorm(512, 512, 3), SLAM(32)
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, x):
        h, w = x.shape[2:]
        small = F.interpolate(x, (h // 2, w // 2), mode="bilinear", align_corners=True)
        detail = self.b1_2_slam(self.b1_2(self.b1_1_slam(self.b1_1(x))))
        context = small
        for stage in "b2_1", "b2_2", "b2_3", "b2_4":
            context = getattr(self, f"{stage}_slam")(getattr(self, stage)(context))
        context = F.interpolate(context, (h // 8, w // 8), mode="bilinear", align_corners=True)
        both = torch.cat([self.up1(detail), self.up2(context)], 1)
        y = self.to_score_f_slam(self.to_score_f(both)).mean((2, 3))
        return {"score": self.head(y), "map": self.to_map(self.to_map_f_slam(self.to_map_f(both)))}


net = ICNet().eval()
state = shapes(net)
net.load_state_dict(weights(state, 1.0))
save("icnet", "an implementation after the paper", state, 1.0, net, [(1, 128, 128), (1, 192, 128), (2, 64, 192)])
