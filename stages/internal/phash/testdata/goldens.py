"""Makes goldens.json, and the pictures beside it, from testdata/photos.

    pip install pdqhash==0.2.8 imagededup==0.3.3.post2 pillow==12.0.0 numpy==2.4.6 scipy
    python goldens.py

The photographs are decoded by Pillow (with its own libjpeg-turbo) and turned
upright. The small PNGs, which every decoder decodes to the same pixels, are
enlarged by repeating pixels and faded in integers, as the test does it.
"""

import glob
import json
import os
from importlib.metadata import version

import numpy as np
import pdqhash
from imagededup.methods import DHash, PHash
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
PHOTOS = os.path.join(HERE, "..", "..", "..", "..", "testdata", "photos")


def hashes(a):
    """The hashes of an array of RGB bytes: PDQ, its quality, PHash, DHash."""
    bits, quality = pdqhash.compute(a)
    return "%064x %d %s %s" % (
        int("".join(str(b) for b in bits), 2),
        quality,
        PHash(verbose=False).encode_image(image_array=a),
        DHash(verbose=False).encode_image(image_array=a),
    )


def dihedral(a):
    """The eight transforms: rotations counterclockwise by 90 degrees, then those of the transpose."""
    for b in (a, a.transpose(1, 0, 2)):
        for k in range(4):
            yield np.ascontiguousarray(np.rot90(b, k))


def small():
    """Small pictures of all kinds that hold the same photographs."""
    for f in sorted(glob.glob(PHOTOS + "/*.jpg")):
        name = os.path.basename(f)[:-4]
        im = ImageOps.exif_transpose(Image.open(f))
        im.thumbnail((80, 80), Image.LANCZOS)
        if name == "kite":  # colours that nobody sees below a transparent gradient
            im = im.convert("RGB")
            ramp = np.tile(np.linspace(0, 255, im.width).astype(np.uint8), (im.height, 1))
            im.putalpha(Image.fromarray(ramp))
        if name == "fig":
            im = im.convert("P", palette=Image.ADAPTIVE, colors=32)
            im.info["transparency"] = bytes(range(0, 256, 8))
        im.save(os.path.join(HERE, name + ".png"), optimize=True, icc_profile=None)
        yield name + ".png"


photos, pictures = [], []
for f in sorted(glob.glob(PHOTOS + "/*.jpg")):
    a = np.array(ImageOps.exif_transpose(Image.open(f)).convert("RGB"))
    photos.append({"file": os.path.basename(f), "hashes": [hashes(b) for b in dihedral(a)]})
for f in small():
    a = np.array(Image.open(os.path.join(HERE, f)).convert("RGBA").convert("RGB"))
    for x, y, fade in ((1, 1, 1), (5, 9, 1), (7, 3, 8), (2, 2, 20)):
        b = (a // fade).repeat(y, axis=0).repeat(x, axis=1)
        pictures.append({"file": f, "x": x, "y": y, "fade": fade, "hashes": [hashes(c) for c in dihedral(b)]})

versions = {p: version(p) for p in ("pdqhash", "imagededup", "pillow", "numpy", "scipy")}
with open(os.path.join(HERE, "goldens.json"), "w") as out:
    json.dump({"versions": versions, "photos": photos, "pictures": pictures}, out, indent=1)
    out.write("\n")
