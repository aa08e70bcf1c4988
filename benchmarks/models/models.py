"""What bench-models measures of PyTorch: networks as published implementations have them.

    models.py make NAME FOLDER     writes weights by formula (checkpoint.pth), an input and what comes out
    models.py serve NAME FOLDER THREADS
    models.py large FILE float32|bfloat16
    models.py versions

serve loads the checkpoint, says "ready", and for each number that it reads runs the network on the input so many
times, and prints the seconds and the CPU seconds that took. It ends with its input. large writes a CLIP of the size of L/14 as safetensors.
PYTHONPATH must have model/arch/testdata/reference.
"""

import importlib.util
import pathlib
import platform
import sys
import time
import types

import numpy as np
import torch


def hollow(*names):
    """Makes packages known without running what they do first: that wants many more."""
    for name in names:
        spec = importlib.util.find_spec(name)
        module = types.ModuleType(name)
        module.__path__ = list(spec.submodule_search_locations)
        sys.modules[name] = module


def icnet():
    from networks import ICNet

    return ICNet()


def clip():
    from open_clip.transformer import VisionTransformer

    net = VisionTransformer(image_size=224, patch_size=32, width=768, layers=12, heads=12, mlp_ratio=4, output_dim=512)
    return Within("visual", net)


class Within(torch.nn.Module):
    """A network that is a part of another one."""

    def __init__(self, name, net):
        super().__init__()
        self.add_module(name, net)
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(x)


def dinov2():
    import timm

    return timm.models.vision_transformer.VisionTransformer(
        img_size=224, patch_size=14, embed_dim=384, depth=12, num_heads=6, num_classes=0, init_values=1.0, global_pool="token"
    )


def sscd():
    import torchvision
    from networks import SSCD

    return SSCD(torchvision.models.resnet50, 512)


def hyperiqa():
    import timm

    create = timm.create_model
    timm.create_model = lambda name, pretrained=False, **options: create(name, pretrained=False, **options)
    hollow("pyiqa", "pyiqa.archs", "pyiqa.utils")
    from pyiqa.archs.hypernet_arch import HyperNet

    net = HyperNet(pretrained=False)
    net.preprocess = lambda x: x  # the picture is prepared already
    net.forward = net.forward_patch
    return net


def lpips_vgg():
    import lpips

    return lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)


def features(net, x):
    """LPIPS of one picture: the vector of which the squared length of a difference is the distance."""
    import lpips

    out = []
    for i, y in enumerate(net.net.forward(x)):
        w = net.lins[i].model[1].weight.sqrt() / (y.shape[2] * y.shape[3]) ** 0.5
        out.append((lpips.normalize_tensor(y) * w).flatten(1))
    return torch.cat(out, 1)


def upscaler(state):
    """As spandrel loads it, with the parameters that the checkpoint will have."""
    import spandrel

    return spandrel.ModelLoader().load_from_state_dict(state).model


def rrdb():
    from reference import weights

    shapes = {}

    def add(key, n_in, n_out):
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (n_out, n_in, 3, 3), (n_out,)

    add("conv_first", 3, 64)
    for i in range(23):
        for d in range(1, 4):
            for c in range(1, 6):
                add(f"body.{i}.rdb{d}.conv{c}", 64 + (c - 1) * 32, 64 if c == 5 else 32)
    for key in "conv_body", "conv_up1", "conv_up2", "conv_hr":
        add(key, 64, 64)
    add("conv_last", 64, 3)
    return upscaler(weights(shapes, GAINS["rrdb"]))


def compact():
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    return SRVGGNetCompact(num_feat=64, num_conv=16, upscale=4)


def span():
    from spandrel.architectures.SPAN.__arch.span import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=4)


def realplksr():
    from spandrel.architectures.PLKSR.__arch.RealPLKSR import RealPLKSR

    return RealPLKSR(dim=64, n_blocks=28)


# The size of the input: batch, height, width.
NETWORKS = {
    "icnet": (icnet, (1, 512, 512)),
    "clip": (clip, (4, 224, 224)),
    "dinov2": (dinov2, (4, 224, 224)),
    "sscd": (sscd, (2, 320, 320)),
    "hyperiqa": (hyperiqa, (4, 224, 224)),
    "lpips": (lpips_vgg, (2, 224, 224)),
    "rrdb": (rrdb, (1, 64, 64)),
    "compact": (compact, (1, 256, 256)),
    "span": (span, (1, 128, 128)),
    "realplksr": (realplksr, (1, 128, 128)),
}

# Smaller weights where larger ones would make a network answer to rounding alone.
GAINS = {"span": 0.5, "lpips": 1.2, "rrdb": 1.0}


def saved(net, name):
    """The weights by formula, as a checkpoint has them."""
    from reference import shapes, weights

    state = weights({k: s for k, s in shapes(net).items() if not k.startswith(("lins.", "scaling_layer."))}, GAINS.get(name, 1.0))
    if name == "lpips":
        state = {k: v.abs() if k.startswith("lin") else v for k, v in state.items()}
    return state


def load(net, state):
    own = net.state_dict()
    for k in own:
        if k.startswith("lins."):
            state[k] = state["lin" + k.removeprefix("lins.")]
        elif k.startswith("scaling_layer."):
            state[k] = own[k]
    net.load_state_dict(state)
    return net.eval()


def run(net, name, x):
    y = features(net, x) if name == "lpips" else net(x)
    return y["score"] if isinstance(y, dict) else y


def make(name, folder):
    from reference import picture

    build, size = NETWORKS[name]
    folder = pathlib.Path(folder)
    net = build()
    state = saved(net, name)
    torch.save(state, folder / "checkpoint.pth")
    x = picture(0, *size)
    x.numpy().tofile(folder / "input.f32")
    with torch.inference_mode():
        run(load(net, state), name, x).float().contiguous().numpy().tofile(folder / "output.f32")
    print(*size)


def serve(name, folder, threads):
    torch.set_num_threads(int(threads))
    build, size = NETWORKS[name]
    folder = pathlib.Path(folder)
    net = load(build(), torch.load(folder / "checkpoint.pth", weights_only=True))
    x = torch.from_numpy(np.fromfile(folder / "input.f32", np.float32).reshape(size[0], 3, *size[1:]))
    with torch.inference_mode():
        run(net, name, x)
        print("ready", flush=True)
        for line in sys.stdin:
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(int(line)):
                run(net, name, x)
            print(time.perf_counter() - began, time.process_time() - cpu, flush=True)


def large(file, kind):
    from open_clip.transformer import VisionTransformer
    from safetensors.torch import save_file

    net = VisionTransformer(image_size=224, patch_size=14, width=1024, layers=24, heads=16, mlp_ratio=4, output_dim=768)
    save_file({f"visual.{k}": v.to(getattr(torch, kind)).contiguous() for k, v in net.state_dict().items()}, file)


def versions():
    import lpips
    import open_clip
    import spandrel
    import timm
    import torchvision

    from importlib.metadata import version

    assert lpips and open_clip and spandrel and timm
    packages = "lpips", "open_clip_torch", "spandrel", "timm"
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, " + ", ".join(f"{p} {version(p)}" for p in packages) + f", numpy {np.__version__} on Python {platform.python_version()}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
