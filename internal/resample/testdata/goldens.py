"""Makes the goldens of package resample with Pillow.

    pip install pillow==13.0.0 numpy==2.4.6
    python goldens.py            # writes beside itself

A golden's name is its source, the filter and the size it was resized to. Pillow
has no 16-bit colour: rgba16 is four 16-bit gray pictures, of which the colours
were multiplied with alpha, resized, and divided by it.
"""

import pathlib

import numpy as np
import PIL
from PIL import Image

assert PIL.__version__ == "13.0.0" and np.__version__ == "2.4.6"

HERE = pathlib.Path(__file__).parent
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CONVOLVED = ["bilinear", "bicubic", "lanczos"]


def samples(width, height, channels, top, seed):
    """Ramps, hard edges and noise, from 0 to top, in thirds of the width."""
    rng = np.random.default_rng(seed)
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    ramp = (x * 7 + y * 5 + c * 40) % 128 / 127
    edges = ((x // 3 + y // 2 + c) % 2).astype(float)
    noise = rng.random((height, width, channels))
    third = x * 3 // max(width, 3)
    return np.rint(np.choose(third, [ramp, edges, noise]) * top)


def gray(a):
    return Image.fromarray(a[:, :, 0].astype(np.uint8))


def gray16(a):
    return Image.fromarray(a[:, :, 0].astype(np.uint16))


def rgb(a):
    return Image.fromarray(a.astype(np.uint8), "RGB")


def rgba(a):
    return Image.fromarray(a.astype(np.uint8), "RGBA")


def save(name, im):
    im.save(HERE / f"{name}.png", optimize=True)


def resized(name, im, filters, sizes):
    save(name, im)
    for f in filters:
        for w, h in sizes:
            save(f"{name}-{f}-{w}x{h}", im.resize((w, h), FILTERS[f]))


def alpha(a, top):
    """A fourth channel with parts that are transparent, opaque and between."""
    h, w = a.shape[:2]
    y, x = np.mgrid[0:h, 0:w]
    a[:, :, 3] = np.clip((x * 3 - y * 2) * top // 64, 0, top)
    return a


def rgba16(name, a, filters, sizes):
    def planes(name, a):
        for c, letter in enumerate("rgba"):
            save(f"{name}-{letter}", gray16(a[:, :, c : c + 1]))

    planes(name, a)
    pre = a.copy()
    pre[:, :, :3] = np.rint(a[:, :, :3] * a[:, :, 3:] / 65535)
    for f in filters:
        for w, h in sizes:
            out = np.stack(
                [np.asarray(gray16(pre[:, :, c : c + 1]).resize((w, h), FILTERS[f]), dtype=float) for c in range(4)],
                axis=2,
            )
            al = out[:, :, 3:]
            with np.errstate(divide="ignore", invalid="ignore"):
                colour = np.where(al > 0, np.rint(out[:, :, :3] * 65535 / al), 0)
            out[:, :, :3] = np.clip(colour, 0, 65535)
            planes(f"{name}-{f}-{w}x{h}", out)


SIZES = [(13, 11), (53, 47), (20, 61), (37, 12), (1, 1)]
resized("gray", gray(samples(37, 29, 1, 255, 1)), FILTERS, SIZES)
resized("gray16", gray16(samples(37, 29, 1, 65535, 2)), FILTERS, SIZES)
resized("rgb", rgb(samples(37, 29, 3, 255, 3)), CONVOLVED, SIZES[:3])
resized("rgba", rgba(alpha(samples(37, 29, 4, 255, 4), 255)), CONVOLVED, SIZES[:3])
rgba16("rgba16", alpha(samples(37, 29, 4, 65535, 5), 65535), ["lanczos"], SIZES[:2])

resized("dot", rgb(samples(1, 1, 3, 255, 6)), ["lanczos"], [(300, 200)])
resized("column", gray(samples(1, 40, 1, 255, 7)), CONVOLVED, [(5, 9), (1, 77)])
resized("strip", rgb(samples(4000, 3, 3, 255, 8)), CONVOLVED, [(10, 10)])
resized("strip16", gray16(samples(4000, 3, 1, 65535, 9)), CONVOLVED, [(10, 10)])
