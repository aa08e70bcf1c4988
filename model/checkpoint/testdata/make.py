"""Makes the checkpoints in this folder, and expected.json with what is in them.

    pip install torch safetensors && python make.py

No test runs it. The numbers of a tensor are a running count, so that a wrong offset, type or
order shows.
"""

import collections
import json
import pathlib

import torch
from safetensors.torch import save_file

here = pathlib.Path(__file__).parent
expected = {}


def count(shape, dtype=torch.float32, start=1):
    n = 1
    for d in shape:
        n *= d
    values = torch.arange(start, start + n)
    return (values % 2 == 0 if dtype == torch.bool else values.to(dtype)).reshape(shape)


def tell(name, tensors, within="", prefix=""):
    expected[name] = {
        "within": within,
        "prefix": prefix,
        "tensors": [
            {"name": k, "type": str(v.dtype).removeprefix("torch."), "shape": list(v.shape), "values": [float(x) for x in v.flatten()]}
            for k, v in tensors.items()
        ],
    }


types = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
every_type = collections.OrderedDict((str(t).removeprefix("torch."), count((2, 3), t)) for t in types)

base = count((4, 5))
views = collections.OrderedDict(
    weight=torch.nn.Parameter(base),
    transposed=base.t(),
    column=base[:, 2],
    block=base[1:3, 1:4],
    single=torch.tensor(7.5),
    empty=torch.zeros(0, 3),
    same=base,
    last=base[3:, 4:],
)

for suffix, new in ("pth", True), ("legacy.pth", False):
    for name, tensors in ("types", every_type), ("views", views):
        torch.save(tensors, here / f"{name}.{suffix}", _use_new_zipfile_serialization=new)
        tell(f"{name}.{suffix}", {k: v.detach() for k, v in tensors.items()})

save_file(every_type, here / "types.safetensors", metadata={"modelspec.title": "types"})
loaded = {k: every_type[k] for k in sorted(every_type)}
tell("types.safetensors", every_type)

plain, averaged = count((2, 2)), count((2, 2), start=100)
training = {
    "iter": 5000, "best": 0.25, "name": "net", "betas": (0.9, 0.99), "history": [1, 2, {"loss": 3.5}], "none": None, "big": 1 << 70, "negative": -3,
    "params": {"module.conv.weight": plain, "module.conv.bias": plain[0]},
    "params_ema": {"module.conv.weight": averaged, "module.conv.bias": averaged[0]},
    "optimizer": {"state": {0: {"exp_avg": plain}}, "param_groups": [{"lr": 1e-4, "params": [0, 1]}]},
}
torch.save(training, here / "training.pth")
torch.save(training, here / "training-protocol4.pth", pickle_protocol=4)
for name in "training.pth", "training-protocol4.pth":
    tell(name, {"conv.weight": averaged, "conv.bias": averaged[0]}, within="params_ema", prefix="module.")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1)
        self.conv.weight.data, self.conv.bias.data = count((2, 1, 1, 1)), count((2,), start=10)
        self.scale = 2

    def forward(self, x):
        return self.conv(x) * self.scale


torch.jit.script(Net()).save(here / "script.pt")
tell("script.pt", Net().state_dict())

(here / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
