#!/usr/bin/env python3
"""Makes the files of this folder.

Made with Pillow 13.0.0 (libwebp 1.6) and NumPy 2.4. NAME.webp is decoded to NAME.png.
icc.* carry icc.icc, and rotated.* are to be turned upright by their EXIF
orientation, to upright.png; rotated-after.png has its eXIf behind the pixels.
"""

import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageOps

HERE = pathlib.Path(__file__).parent

def chunk(name, payload):
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))

def main():
    rgb = Image.open(HERE.parent / "jpeg" / "444.png").convert("RGB")
    rgb.save(HERE / "lossy.webp", quality=90)
    a = np.asarray(rgb.convert("RGBA")).copy()
    a[:, :, 3] = np.linspace(0, 255, a.shape[1])[None, :]
    Image.fromarray(a).save(HERE / "lossy-alpha.webp", quality=90, exact=True)
    Image.open(HERE / "lossy.webp").convert("RGB").save(HERE / "lossy.png", optimize=True)
    Image.open(HERE / "lossy-alpha.webp").save(HERE / "lossy-alpha.png", optimize=True)

    small = rgb.crop((0, 0, 24, 17))
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (HERE / "icc.icc").write_bytes(icc)
    for ext in ("jpg", "png", "webp", "tif"):
        small.save(HERE / f"icc.{ext}", icc_profile=icc, lossless=True)
    exif = Image.Exif()
    exif[274] = 6
    for ext in ("png", "webp", "tif"):
        small.save(HERE / f"rotated.{ext}", exif=exif, lossless=True)
        upright = ImageOps.exif_transpose(Image.open(HERE / f"rotated.{ext}"))
        upright.load()
    small.save(HERE / "rotated-after.png")
    data = (HERE / "rotated-after.png").read_bytes()
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    (HERE / "rotated-after.png").write_bytes(data[:-12] + chunk(b"eXIf", payload) + data[-12:])
    upright.save(HERE / "upright.png")

main()
