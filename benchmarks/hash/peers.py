"""What bench-hash measures of pdqhash and imagededup.

    peers.py hash pdq|phash|dhash file|pixels ROUNDS FOLDER
    peers.py all WORKERS FOLDER
    peers.py search FILE DISTANCE WORKERS
    peers.py versions

Results are one line of JSON. The import below leaves out the parts of imagededup
that need torch and matplotlib; the hashes and the search are its own, unchanged.
"""

import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import sys
import time
import types

import numpy as np
import pdqhash
from PIL import Image, features

for part in ("imagededup.methods", "imagededup.utils"):
    stub = types.ModuleType(part)
    stub.__path__ = [os.path.join(os.path.dirname(importlib.util.find_spec("imagededup").origin), part.split(".")[1])]
    sys.modules[part] = stub
from imagededup.methods.hashing import DHash, PHash  # noqa: E402


def decode(file):
    return np.asarray(Image.open(file).convert("RGB"))


def pdq(pixels):
    bits, quality = pdqhash.compute(pixels)
    return np.packbits(bits).tobytes().hex()


def pdq_file(file):
    return pdq(decode(file))


def hasher(kind, what):
    if kind == "pdq":
        return pdq_file if what == "file" else pdq
    m = {"phash": PHash, "dhash": DHash}[kind](verbose=False)
    if what == "file":
        return lambda file: m.encode_image(image_file=file)
    return lambda pixels: m.encode_image(image_array=pixels)


def files(folder):
    return [os.path.join(folder, n) for n in sorted(os.listdir(folder))]


def hash_folder(kind, what, rounds, folder):
    compute = hasher(kind, what)
    hashes, wall, cpu = {}, 0, 0
    for file in files(folder):
        source = file if what == "file" else decode(file)
        w, c = time.perf_counter(), time.process_time()
        for _ in range(int(rounds)):
            h = compute(source)
        wall, cpu = wall + time.perf_counter() - w, cpu + time.process_time() - c
        hashes[os.path.basename(file)] = h
    print(json.dumps({"hashes": hashes, "wall": wall / int(rounds), "cpu": cpu / int(rounds)}))


def hash_all(workers, folder):
    """The three hashes of a folder, as each library does it with that many processes."""
    for method in (PHash(verbose=False), DHash(verbose=False)):
        method.encode_images(folder, num_enc_workers=int(workers))
    with multiprocessing.Pool(int(workers)) as pool:
        pool.map(pdq_file, files(folder), chunksize=1)


def search(file, distance, workers):
    with open(file) as f:
        hashes = {str(i): line.strip() for i, line in enumerate(f)}
    w = time.perf_counter()
    found = PHash(verbose=False).find_duplicates(encoding_map=hashes, max_distance_threshold=int(distance), num_dist_workers=int(workers))
    print(json.dumps({"found": sum(len(v) for v in found.values()) // 2, "wall": time.perf_counter() - w}))


def versions():
    v = importlib.metadata.version
    print(f"pdqhash {v('pdqhash')}, imagededup {v('imagededup')} (without torch), Pillow {v('pillow')} (libjpeg-turbo {features.version('libjpeg_turbo')}), "
          f"numpy {v('numpy')}, scipy {v('scipy')} on Python {platform.python_version()}")


if __name__ == "__main__":
    {"hash": hash_folder, "all": hash_all, "search": search, "versions": versions}[sys.argv[1]](*sys.argv[2:])
