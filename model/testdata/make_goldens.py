"""Makes the goldens of package model with Pillow and NumPy.

    pip install pillow==13.0.0 numpy==2.4.6
    python make_goldens.py            # writes beside itself

A source is the middle of a photograph of testdata/photos, or made here; it is
kept as PNG, so that no JPEG decoder has a part in the comparison. What becomes
of it in each case is in one gray picture, NAME.golden.png: the samples of the
cases of cases.txt, one after another, in lines of LINE bytes. The two sums of
torchvision that sizes and crops come from are written out below; they are those
of Resize (_compute_resized_output_size) and CenterCrop (center_crop) in
torchvision.transforms.functional.
"""

import pathlib

import numpy as np
import PIL
from PIL import Image, ImageOps

assert PIL.__version__ == "13.0.0" and np.__version__ == "2.4.6"

HERE = pathlib.Path(__file__).parent
PHOTOS = HERE.parent.parent / "testdata" / "photos"
LINE = 512

# kind, filter, mode, then the size of squash, or the shorter side and the crop.
CASES = """\
squash bicubic RGB 48 40 0
squash bilinear RGB 31 57 0
squash lanczos RGB 23 17 0
squash bicubic L 37 29 0
crop bicubic RGB 44 44 44
crop bilinear RGB 28 25 33
crop lanczos RGB 40 21 40
shortest bicubic RGB 0 0 19
"""
LARGE = """\
squash bicubic RGB 131 97 0
squash lanczos RGB 99 151 0
crop bilinear RGB 120 83 151
"""


def resize_shortest(im, size, resample):
    w, h = im.size
    short, long = (w, h) if w <= h else (h, w)
    new_short, new_long = size, int(size * long / short)
    return im.resize((new_short, new_long) if w <= h else (new_long, new_short), resample)


def center_crop(im, cw, ch):
    w, h = im.size
    if cw > w or ch > h:
        padding = (
            (cw - w) // 2 if cw > w else 0,
            (ch - h) // 2 if ch > h else 0,
            (cw - w + 1) // 2 if cw > w else 0,
            (ch - h + 1) // 2 if ch > h else 0,
        )
        im = ImageOps.expand(im, padding, fill=0)
        w, h = im.size
        if cw == w and ch == h:
            return im
    top, left = int(round((h - ch) / 2.0)), int(round((w - cw) / 2.0))
    return im.crop((left, top, left + cw, top + ch))


def prepare(im, case):
    kind, name, mode, w, h, shorter = case.split()
    w, h, shorter = int(w), int(h), int(shorter)
    f = Image.Resampling[name.upper()]
    im = im.convert(mode)
    if kind == "squash":
        return im.resize((w, h), f)
    if kind == "shortest":
        return resize_shortest(im, shorter, f)
    if kind == "crop":
        return center_crop(resize_shortest(im, shorter, f), w, h)
    return center_crop(im, w, h)  # centre


def golden(name, im, cases):
    im.save(HERE / f"{name}.png", optimize=True)
    out = np.concatenate([np.asarray(prepare(im, c)).ravel() for c in cases])
    out = np.pad(out, (0, -len(out) % LINE)).reshape(-1, LINE)
    Image.fromarray(out).save(HERE / f"{name}.golden.png", optimize=True)
    return [f"{name} {c}\n" for c in cases]


def middle(path):
    im = Image.open(path)
    w, h = im.size
    # Odd sizes, tall and wide in turn.
    cw, ch = (181, 127) if len(path.stem) % 2 else (123, 177)
    return im.crop(((w - cw) // 2, (h - ch) // 2, (w - cw) // 2 + cw, (h - ch) // 2 + ch))


def noise(w, h, channels, seed):
    a = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
    return Image.fromarray(a[:, :, 0] if channels == 1 else a)


lines = []
cases, large = CASES.splitlines(), LARGE.splitlines()
for path in sorted(PHOTOS.glob("*.jpg")):
    lines += golden(path.stem, middle(path), cases)
lines += golden("noise", noise(67, 61, 3, 1), cases + large)
lines += golden("noise-gray", noise(61, 67, 1, 2), cases + large)
lines += golden("noise-alpha", noise(53, 47, 4, 3), cases[:5] + large)
lines += golden("small", noise(21, 14, 3, 4), large + ["centre box RGB 30 9 0", "centre box RGB 20 25 0", "centre box RGB 26 21 0"])
lines += golden("dot", noise(1, 1, 3, 5), cases)
lines += golden("column", noise(1, 300, 3, 6), cases)
(HERE / "cases.txt").write_text("".join(lines))

# ToTensor and Normalize, of all samples, with CLIP's mean and std: in float32,
# and as half floats.
mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
std = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
v = np.arange(256, dtype=np.float32) / np.float32(255)
x = (v[None, :] - mean[:, None]) / std[:, None]
assert x.dtype == np.float32
(HERE / "clip.float32").write_bytes(x.astype("<f4").tobytes())
(HERE / "clip.float16").write_bytes(x.astype("<f2").tobytes())
