"""What the scripts beside this one share: weights and pictures by a formula that the Go tests
have too, and the files that the tests compare with.

A number is splitmix64 of its place in the tensor and of the FNV-1a hash of the tensor's name, so
that no weight has to be stored. A file holds the names and shapes of the weights, and what an
implementation by others made of some pictures.
"""

import base64
import gzip
import json
import pathlib

import numpy as np
import torch

goldens = pathlib.Path(__file__).parent.parent


def uniform(name, shape):
    """Numbers in [0, 1) with 24 bits."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    n = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**24).reshape(shape)


def weight(name, shape, gain):
    """A weight that is not far from what training gives: the range follows from name and shape."""
    u = uniform(name, shape)
    if name.endswith("running_var"):
        w = 0.5 + u
    elif len(shape) > 1:
        fan_in = int(np.prod(shape[1:]))
        w = gain * np.sqrt(3 / fan_in) * (2 * u - 1)
    elif name.endswith("weight"):
        w = 0.75 + 0.5 * u
    else:
        w = 0.2 * (2 * u - 1)
    return torch.from_numpy(np.asarray(w, np.float32))


def weights(shapes, gain):
    """A state dict for {name: shape}; counters of training are 0."""
    return {k: torch.tensor(0) if k.endswith("num_batches_tracked") else weight(k, tuple(s), gain) for k, s in shapes.items()}


def shapes(model):
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def picture(i, batch, height, width, channels=3):
    """A batch in [0, 1): a gradient with noise, so that large and small structures are there."""
    noise = uniform(f"picture {i}", (batch, channels, height, width))
    y, x = np.mgrid[0:height, 0:width]
    ramp = (x / max(width - 1, 1) + y / max(height - 1, 1)) / 2
    return torch.from_numpy((0.5 * noise + 0.5 * ramp).astype(np.float32))


def save(name, about, state, gain, run, sizes):
    """Runs the network on a picture of each (batch, height, width), and writes what comes out.

    state is {name: tensor or shape} as the checkpoint has it; run takes a batch and returns a tensor,
    or {output: tensor}.
    """
    cases = []
    for i, (batch, height, width) in enumerate(sizes):
        x = picture(i, batch, height, width)
        with torch.no_grad():
            out = run(x)
        if not isinstance(out, dict):
            out = {"output": out}
        cases.append({
            "size": [batch, height, width],
            "outputs": {k: {"shape": list(v.shape), "data": base64.b64encode(v.contiguous().numpy().astype("<f4").tobytes()).decode()} for k, v in out.items()},
        })
        print(name, (batch, height, width), {k: (tuple(v.shape), float(v.abs().mean())) for k, v in out.items()})
    tensors = [[k, list(v.shape) if torch.is_tensor(v) else list(v)] for k, v in state.items()]
    text = json.dumps({"about": about, "gain": gain, "tensors": tensors, "cases": cases})
    with open(goldens / f"{name}.json.gz", "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(text.encode())
