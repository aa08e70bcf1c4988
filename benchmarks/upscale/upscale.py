"""What bench-upscale measures of Python: pictures of a folder, enlarged in tiles.

    upscale.py loop opencv|pillow MODEL TILE OVERLAP THREADS FOLDER OUT
    upscale.py versions

A loop as in the scripts of upscalers (chaiNNer, Real-ESRGAN): a picture is decoded with
Pillow, cut with numpy into tiles that reach OVERLAP beyond their own part into their
neighbours, each tile is run by itself, what is its own is put together, and the whole is
written as PNG with OpenCV or Pillow, in their default settings.
"""

import os
import platform
import sys

import numpy as np
import onnxruntime
from PIL import Image

SCALE = 4


def enlarge(run, picture, tile, overlap):
    height, width = picture.shape[:2]
    tensor = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32) / 255
    if height <= tile and width <= tile:
        whole = run(tensor)[0]
    else:
        own = tile - 2 * overlap
        whole = np.empty((3, height * SCALE, width * SCALE), np.float32)
        for y in range(0, height, own):
            for x in range(0, width, own):
                bottom, right = min(y + own, height), min(x + own, width)
                top, left = max(y - overlap, 0), max(x - overlap, 0)
                part = tensor[:, :, top:min(bottom + overlap, height), left:min(right + overlap, width)]
                made = run(np.ascontiguousarray(part))[0]
                whole[:, y * SCALE:bottom * SCALE, x * SCALE:right * SCALE] = made[
                    :, (y - top) * SCALE:(bottom - top) * SCALE, (x - left) * SCALE:(right - left) * SCALE]
    return (whole.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)


def loop(library, model, tile, overlap, threads, folder, out):
    if library == "opencv":
        import cv2

        cv2.setNumThreads(int(threads))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    os.makedirs(out)
    for file in sorted(os.listdir(folder)):
        picture = np.asarray(Image.open(os.path.join(folder, file)).convert("RGB"))
        made = enlarge(lambda t: session.run(None, {name: t})[0], picture, int(tile), int(overlap))
        to = os.path.join(out, file)
        if library == "opencv":
            cv2.imwrite(to, made[:, :, ::-1])
        else:
            Image.fromarray(made).save(to)


def versions():
    import cv2
    from PIL import __version__

    print(f"Pillow {__version__}, OpenCV {cv2.__version__}, onnxruntime {onnxruntime.__version__}, "
          f"numpy {np.__version__} on Python {platform.python_version()}")


if __name__ == "__main__":
    versions() if sys.argv[1] == "versions" else loop(*sys.argv[2:])
