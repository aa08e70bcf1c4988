"""What bench-dedup measures of FAISS and imagededup.

    peers.py faiss-hashes INDEX FILE BYTES DISTANCE PART OUT THREADS
    peers.py faiss-vectors FILE DIM SIMILARITY PART OUT THREADS
    peers.py imagededup-hashes FILE DISTANCE OUT WORKERS
    peers.py cnn FILE DIM SIMILARITY OUT WORKERS
    peers.py find FOLDER DISTANCE WORKERS
    peers.py accuracy FOLDER DISTANCE WORKERS
    peers.py versions

Results are one line of JSON, and pairs go to OUT. The import below leaves out the
parts of imagededup that need torch and matplotlib; the hashes and the searches are
its own, unchanged.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
import types

import numpy as np

for part in ("imagededup.methods", "imagededup.utils"):
    stub = types.ModuleType(part)
    stub.__path__ = [os.path.join(os.path.dirname(importlib.util.find_spec("imagededup").origin), part.split(".")[1])]
    sys.modules[part] = stub
from imagededup.handlers.search.retrieval import get_cosine_similarity  # noqa: E402
from imagededup.methods.hashing import PHash  # noqa: E402


def write(out, pairs):
    with open(out, "w") as f:
        for i, j, v in sorted(pairs):
            f.write(f"{i} {j} {v}\n")


def ranges(lims, ids, values, first):
    """The pairs of a range search whose queries have the numbers from first on."""
    query = np.repeat(np.arange(first, first + len(lims) - 1), np.diff(lims).astype(np.int64))
    other = query != ids
    return {(int(min(i, j)), int(max(i, j)), float(v)) for i, j, v in zip(query[other], ids[other], values[other])}


def answer(pairs, out, wall, before=0.0):
    write(out, pairs)
    print(json.dumps({"found": len(pairs), "wall": wall, "before": before}))


def faiss_hashes(kind, file, size, distance, part, out, threads):
    import faiss

    faiss.omp_set_num_threads(int(threads))
    size, distance = int(size), int(distance)
    hashes = np.fromfile(file, dtype=np.uint8).reshape(-1, size)
    began = time.perf_counter()
    if kind == "IndexBinaryFlat":
        index = faiss.IndexBinaryFlat(8 * size)
    else:  # one bit in each of as many chunks as make that enough
        chunks = (distance + 1) // 2
        index = faiss.IndexBinaryMultiHash(8 * size, chunks, 8 * size // chunks)
        index.nflip = 1
    index.add(hashes)
    before = time.perf_counter() - began
    began = time.perf_counter()
    lims, values, ids = index.range_search(hashes[: int(part)], distance + 1)  # nearer than that
    wall = time.perf_counter() - began
    answer(ranges(lims, ids, values, 0), out, wall, before)


def faiss_vectors(file, dim, similarity, part, out, threads):
    import faiss

    faiss.omp_set_num_threads(int(threads))
    vectors = np.fromfile(file, dtype=np.float32).reshape(-1, int(dim))
    began = time.perf_counter()
    index = faiss.IndexFlatIP(int(dim))
    index.add(vectors)
    before = time.perf_counter() - began
    pairs, wall = {}, 0.0
    for first in range(0, int(part), 1024):
        block = vectors[first : min(first + 1024, int(part))]
        began = time.perf_counter()
        lims, values, ids = index.range_search(block, float(similarity))
        wall += time.perf_counter() - began
        for i, j, v in ranges(lims, ids, values, first):
            pairs[i, j] = v
    answer([(i, j, v) for (i, j), v in pairs.items()], out, wall, before)


def imagededup_hashes(file, distance, out, workers):
    hashes = {str(i): h.tobytes().hex() for i, h in enumerate(np.fromfile(file, dtype=np.uint8).reshape(-1, 8))}
    began = time.perf_counter()
    found = PHash(verbose=False).find_duplicates(
        encoding_map=hashes, max_distance_threshold=int(distance), scores=True, num_dist_workers=int(workers)
    )
    wall = time.perf_counter() - began
    answer({(min(int(i), int(j)), max(int(i), int(j)), float(v)) for i, all in found.items() for j, v in all}, out, wall)


def cnn(file, dim, similarity, out, workers):
    """The search of imagededup's CNN: its own function for the similarities, and what its method does with them."""
    vectors = np.fromfile(file, dtype=np.float32).reshape(-1, int(dim))
    names = np.arange(len(vectors))
    began = time.perf_counter()
    scores = get_cosine_similarity(vectors, False, num_workers=int(workers))
    np.fill_diagonal(scores, 2.0)
    found = [names[(row >= float(similarity)) & (row < 2)] for row in scores]
    wall = time.perf_counter() - began
    answer({(int(min(i, j)), int(max(i, j)), float(scores[min(i, j), max(i, j)])) for i, all in enumerate(found) for j in all}, out, wall)


def find(folder, distance, workers):
    began = time.perf_counter()
    found = PHash(verbose=False).find_duplicates_to_remove(
        image_dir=folder, max_distance_threshold=int(distance), num_enc_workers=int(workers), num_dist_workers=int(workers)
    )
    print(json.dumps({"found": len(found), "wall": time.perf_counter() - began}))


def accuracy(folder, distance, workers):
    """The nearest other image of each copy, within the distance; of equally near ones an original."""
    hasher = PHash(verbose=False)
    hashes = {}
    for part in ("originals", "copies"):
        for name, h in hasher.encode_images(os.path.join(folder, part), num_enc_workers=int(workers)).items():
            hashes[part + "/" + name] = h
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=int(distance), scores=True, num_dist_workers=int(workers))
    near = {}
    for name, all in found.items():
        if name.startswith("copies/") and all:
            near[name] = min(all, key=lambda m: (m[1], m[0].startswith("copies/")))[0]
    print(json.dumps(near))


def versions():
    v = importlib.metadata.version
    print(
        f"FAISS {v('faiss-cpu')}, imagededup {v('imagededup')} (without torch), scikit-learn {v('scikit-learn')}, Pillow {v('pillow')}, "
        f"numpy {v('numpy')} on Python {platform.python_version()}"
    )


if __name__ == "__main__":
    {
        "faiss-hashes": faiss_hashes,
        "faiss-vectors": faiss_vectors,
        "imagededup-hashes": imagededup_hashes,
        "cnn": cnn,
        "find": find,
        "accuracy": accuracy,
        "versions": versions,
    }[sys.argv[1]](*sys.argv[2:])
