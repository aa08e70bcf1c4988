"""Makes the pictures in this folder and golden.json: what the metrics of package score are on them.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 pillow==13.0.0
    python3 reference.py ../../../testdata/photos

The metrics come from the packages that people use for them and, where there is none, from the formula in the paper.
The tests read golden.json and never run this.
"""

import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image
from scipy import fft, ndimage
from skimage import color, measure

HERE = pathlib.Path(__file__).parent


def write_png(name, a, kind):
    """a: height x width x channels, uint8 or big-endian uint16; Pillow does not write 16-bit RGB."""
    h, w = a.shape[:2]
    depth = 8 * a.dtype.itemsize
    raw = b"".join(b"\0" + row.tobytes() for row in a)
    chunk = lambda t, d: struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0))
    (HERE / name).write_bytes(data + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


def photo(folder, name, box, quality):
    """A piece of a photograph, made smaller so that its own blocks are gone, and compressed again."""
    im = Image.open(pathlib.Path(folder) / name).convert("RGB")
    im = im.resize((im.width // 2, im.height // 2), Image.Resampling.LANCZOS).crop(box)
    if quality:
        b = io.BytesIO()
        im.save(b, "JPEG", quality=quality)
        im = Image.open(io.BytesIO(b.getvalue())).convert("RGB")
    return np.asarray(im)


def gray_of(rgb):
    return (299.0 * rgb[..., 0] + 587.0 * rgb[..., 1] + 114.0 * rgb[..., 2]) / 1000


def whole(gray):
    return np.floor(gray + 0.5)


def blockiness(gray, x=0, y=0):
    """gray: whole levels; x, y: where the file's first whole block begins."""

    def v(x, y):
        rows, columns = (gray.shape[0] - y) // 8, (gray.shape[1] - x) // 8
        cut = gray[y : y + 8 * rows, x : x + 8 * columns].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
        d = fft.dctn(cut, axes=(2, 3), norm="ortho")
        c, l, r = d[1:-1, 1:-1], d[1:-1, :-2], d[1:-1, 2:]
        t, b = d[:-2, 1:-1], d[2:, 1:-1]
        return np.sqrt((l + r - 2 * c) ** 2 + (t + b - 2 * c) ** 2).mean(axis=(0, 1))

    on, off = v(x, y), v((x + 4) % 8, (y + 4) % 8)
    return float((np.abs(off - on) / (on + 1e-8)).sum())


def metrics(rgb):
    """rgb: from 0 to 255, with fractions when it was 16 bits."""
    gray = gray_of(rgb)
    lap = ndimage.laplace(gray, mode="nearest")
    mask = np.outer([1, -2, 1], [1, -2, 1])
    response = ndimage.convolve(gray, mask)[1:-1, 1:-1]
    return {
        "laplacian": float(np.abs(lap).mean()),
        "blockiness": blockiness(whole(gray)),
        "sharpness": float(lap.var()),
        "entropy": float(measure.shannon_entropy(whole(gray).astype(np.uint8), base=2)),
        "brightness": float(gray.mean()),
        "contrast": float(gray.std()),
        "saturation": float(color.rgb2hsv(rgb / 255)[..., 1].mean()),
        "noise": float(np.sqrt(np.pi / 2) * np.abs(response).sum() / (6 * response.size)),
    }


def main(photos):
    out = {}

    def record(name, rgb):
        out[name] = metrics(rgb.astype(np.float64))

    for name, box, quality in [
        ("boats.jpg", (100, 100, 203, 171), None),
        ("flower.jpg", (150, 150, 230, 231), 90),
        ("mountains.jpg", (60, 200, 156, 272), 50),
        ("dogs.jpg", (100, 60, 188, 124), 30),
    ]:
        a = photo(photos, name, box, quality)
        png = name.replace(".jpg", "-rgb.png")
        write_png(png, a, 2)
        record(png, a)
        if quality == 50:
            g = whole(gray_of(a.astype(np.float64)))
            for x, y in [(0, 0), (1, 0), (5, 3), (7, 7), (4, 4)]:
                # Of the picture without its first x columns and y rows.
                out[png + f"@{x},{y}"] = {"blockiness": blockiness(g[y:, x:], (8 - x) % 8, (8 - y) % 8)}
            write_png("gray.png", g[..., None].astype(np.uint8), 0)
            record("gray.png", np.repeat(g[..., None], 3, axis=2))

    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:48, 0:56]
    smooth = np.stack([x * 900.0 + y * 31, 60000 - y * 1000.0, x * y * 17.0], axis=2)
    deep = np.clip(smooth + rng.normal(0, 400, smooth.shape), 0, 65535).astype(">u2")
    write_png("rgb16.png", deep, 2)
    record("rgb16.png", deep.astype(np.float64) / 257)
    write_png("gray16.png", deep[..., :1], 0)
    record("gray16.png", np.repeat(deep[..., :1], 3, axis=2).astype(np.float64) / 257)
    deep_alpha = np.concatenate([deep, (x * 1100 % 65536)[..., None]], axis=2).astype(">u2")
    write_png("rgba16.png", deep_alpha, 6)
    record("rgba16.png", deep.astype(np.float64) / 257)

    a = photo(photos, "fig.jpg", (50, 50, 98, 90), None)
    with_alpha = np.concatenate([a, (np.arange(48) * 5 % 256).astype(np.uint8)[None, :, None].repeat(40, 0)], axis=2)
    write_png("rgba.png", with_alpha, 6)
    record("rgba.png", a)  # alpha is ignored
    palette = Image.fromarray(a).quantize(64)
    palette.save(HERE / "palette.png")
    record("palette.png", np.asarray(palette.convert("RGB")))

    (HERE / "golden.json").write_text(json.dumps(out, indent=1) + "\n")


main(sys.argv[1])
