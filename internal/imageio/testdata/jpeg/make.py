#!/usr/bin/env python3
"""Makes the JPEG files of this folder, and what Pillow decodes them to.

Made with Pillow 13.0.0 (libjpeg-turbo 3.2.0), NumPy 2.4, cjpeg and libturbojpeg
2.1.5 of Debian 12. NAME.jpg is decoded to NAME.png by Image.convert("RGB"), or "L"
where the file is gray; NAME@N.png is the same at N/8, by Image.draft. photos.txt
has the SHA-256 of the RGB bytes of each photograph in testdata/photos, upright;
encoded.txt that of what Pillow saves of a PNG at a quality and subsampling.
"""

import ctypes
import hashlib
import io
import pathlib
import subprocess

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
PHOTOS = HERE.parents[3] / "testdata" / "photos"
W, H = 71, 45

def picture():
    """Gradients, sharp coloured edges and some noise, of odd size."""
    y, x = np.mgrid[0:H, 0:W]
    rgb = np.stack([x * 255 // W, y * 255 // H, (x + y) * 255 // (W + H)], axis=2)
    rgb[8:24, 10:30] = [230, 20, 40]
    rgb[20:40, 35:60] = [10, 60, 220]
    rgb[::5, 50:] = [250, 240, 30]
    rgb += np.random.default_rng(7).integers(-12, 13, rgb.shape)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))

def cjpeg(image, *options):
    ppm = io.BytesIO()
    image.save(ppm, "ppm")
    return subprocess.run(["cjpeg", *options], input=ppm.getvalue(), capture_output=True, check=True).stdout

def pillow(image, **options):
    out = io.BytesIO()
    image.save(out, "jpeg", **options)
    return out.getvalue()

def ycck(image, subsampling):
    """What Photoshop writes: TurboJPEG's own choice for CMYK pixels."""
    tj = ctypes.CDLL("libturbojpeg.so.0")
    tj.tjInitCompress.restype = ctypes.c_void_p
    pixels = (255 - np.asarray(image)).tobytes()  # inverted, as Adobe has them
    out, size = ctypes.c_void_p(), ctypes.c_ulong()
    rc = tj.tjCompress2(ctypes.c_void_p(tj.tjInitCompress()), pixels, W, 0, H, 11, ctypes.byref(out),
                        ctypes.byref(size), subsampling, 90, 4096)
    assert rc == 0
    return ctypes.string_at(out, size.value)

def main():
    rgb = picture()
    # Not convert("CMYK"), which leaves black empty.
    a = np.asarray(rgb).astype(int)
    k = 255 - a.max(axis=2)
    cmyk = Image.fromarray(np.dstack([255 - a - k[..., None] // 2, k // 2]).clip(0, 255).astype(np.uint8), "CMYK")
    files = {
        "444": pillow(rgb, quality=90, subsampling="4:4:4"),
        "422": pillow(rgb, quality=90, subsampling="4:2:2"),
        "420": pillow(rgb, quality=90, subsampling="4:2:0"),
        "440": cjpeg(rgb, "-quality", "90", "-sample", "1x2"),
        "411": cjpeg(rgb, "-quality", "90", "-sample", "4x1"),
        "410": cjpeg(rgb, "-quality", "90", "-sample", "4x2"),
        "narrow": pillow(rgb.crop((0, 0, 3, H)), quality=90, subsampling="4:2:0"),
        "gray": pillow(rgb.convert("L"), quality=90),
        "progressive": pillow(rgb, quality=90, subsampling="4:2:0", progressive=True),
        "restart": cjpeg(rgb, "-quality", "90", "-sample", "2x2", "-restart", "3B"),
        "rgb": pillow(rgb, quality=90, keep_rgb=True),
        "cmyk": pillow(cmyk, quality=90),
        "ycck": ycck(cmyk, 0),
        "ycck420": ycck(cmyk, 2),
    }
    for name, data in files.items():
        (HERE / f"{name}.jpg").write_bytes(data)
        image = Image.open(io.BytesIO(data))
        image.convert("L" if image.mode == "L" else "RGB").save(HERE / f"{name}.png", optimize=True)
        for n, part in ((4, 2), (2, 4), (1, 8)):
            if name not in ("420", "gray", "progressive", "cmyk"):
                continue
            image = Image.open(io.BytesIO(data))
            image.draft(None, (W // part, H // part))
            image.convert("L" if image.mode == "L" else "RGB").save(HERE / f"{name}@{n}.png", optimize=True)
    # Of these there is nothing to decode.
    (HERE / "arithmetic.jpg").write_bytes(cjpeg(rgb, "-quality", "90", "-arithmetic"))
    with open(HERE / "encoded.txt", "w") as out:
        for kind in ("444", "gray"):
            image = Image.open(HERE / f"{kind}.png")
            for quality in (30, 88, 95, 100):
                for subsampling in (444, 422, 420) if kind == "444" else (444,):
                    data = pillow(image, quality=quality, subsampling=":".join(str(subsampling)))
                    print(kind, quality, subsampling, hashlib.sha256(data).hexdigest(), file=out)
    with open(HERE / "photos.txt", "w") as out:
        for path in sorted(PHOTOS.glob("*.jpg")):
            image = ImageOps.exif_transpose(Image.open(path))
            print(path.name, hashlib.sha256(image.convert("RGB").tobytes()).hexdigest(), file=out)

main()
