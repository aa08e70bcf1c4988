"""What bench-infer measures of Python: vectors of a folder's images.

    infer.py loop|loader spin|nospin pillow|opencv exact|fast MODEL SHORTER bilinear|bicubic MEAN STD THREADS BATCH FOLDER OUT
    infer.py versions

loop decodes, prepares and runs a batch after another in one process; loader has
THREADS processes that prepare batches, in memory that is shared, ahead of the
one that runs them. spin lets the runtime's threads wait busily for work, as is
its default; nospin leaves the cores to others meanwhile. fast decodes JPEGs at the smallest scale that is at least
twice the size that is wanted. OUT gets the vectors as float32, in the order of
the files' names.
"""

import multiprocessing
import os
import platform
import sys

import numpy as np

CROP = 224  # px


def numbers(text):
    return np.array([float(x) for x in text.split(",")], np.float32)


class Prepare:
    """Brings a picture's shorter side to `shorter`, cuts the centre, normalises."""

    def __init__(self, library, decode, shorter, kernel, mean, std):
        self.fast, self.shorter, self.kernel = decode == "fast", int(shorter), kernel
        self.scale = 1 / (255 * numbers(std))
        self.shift = -numbers(mean) / numbers(std)
        self.load = {"pillow": self.pillow, "opencv": self.opencv}[library]

    def size(self, width, height):
        if width < height:
            return self.shorter, int(self.shorter * height / width)
        return int(self.shorter * width / height), self.shorter

    @staticmethod
    def corner(width, height):
        return round((width - CROP) / 2), round((height - CROP) / 2)

    def pillow(self, file):
        from PIL import Image

        im = Image.open(file)
        size = self.size(*im.size)
        if self.fast:
            im.draft("RGB", (2 * size[0], 2 * size[1]))
        kernel = Image.Resampling[self.kernel.upper()]
        im = im.convert("RGB")
        if im.size != size:
            im = im.resize(size, kernel)
        x, y = self.corner(*size)
        return np.asarray(im.crop((x, y, x + CROP, y + CROP)))

    def opencv(self, file):
        import cv2

        flag = cv2.IMREAD_COLOR
        if self.fast:
            # imread has no way to ask for the size: all photographs are of one.
            flag = {256: cv2.IMREAD_REDUCED_COLOR_4, 224: cv2.IMREAD_REDUCED_COLOR_4}[self.shorter]
        im = cv2.imread(file, flag)
        size = self.size(im.shape[1], im.shape[0])
        if (im.shape[1], im.shape[0]) != size:
            im = cv2.resize(im, size, interpolation=cv2.INTER_AREA)
        x, y = self.corner(*size)
        return im[y:y + CROP, x:x + CROP, ::-1]

    def __call__(self, file, out):
        np.copyto(out, (self.load(file) * self.scale + self.shift).transpose(2, 0, 1))


def chunks(folder, batch):
    files = [os.path.join(folder, n) for n in sorted(os.listdir(folder))]
    return [files[i:i + batch] for i in range(0, len(files), batch)]


def open_session(model, threads, spin):
    import onnxruntime

    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = threads
    o.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return onnxruntime.InferenceSession(model, o, providers=["CPUExecutionProvider"])


def loop(prepare, model, threads, spin, batch, folder):
    session = open_session(model, threads, spin)
    name = session.get_inputs()[0].name
    tensor = np.empty((batch, 3, CROP, CROP), np.float32)
    for files in chunks(folder, batch):
        for i, file in enumerate(files):
            prepare(file, tensor[i])
        yield session.run(None, {name: tensor[:len(files)]})[0]


def slot_view(shared, slot, batch):
    n = batch * 3 * CROP * CROP
    return np.frombuffer(shared, np.float32, n, slot * n * 4).reshape(batch, 3, CROP, CROP)


def work(prepare, shared, batch, tasks, done):
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)  # each process has a core
    while (task := tasks.get()) is not None:
        number, slot, files = task
        tensor = slot_view(shared, slot, batch)
        for i, file in enumerate(files):
            prepare(file, tensor[i])
        done.put((number, slot))


def loader(prepare, model, threads, spin, batch, folder):
    slots = 2 * threads
    context = multiprocessing.get_context("fork")  # cheaper to start than spawn, and nothing runs yet
    shared = context.RawArray("b", slots * batch * 3 * CROP * CROP * 4)
    tasks, done = context.Queue(), context.Queue()
    workers = [context.Process(target=work, args=(prepare, shared, batch, tasks, done)) for _ in range(threads)]
    for w in workers:
        w.start()
    batches = chunks(folder, batch)
    asked = 0
    while asked < min(slots, len(batches)):
        tasks.put((asked, asked, batches[asked]))
        asked += 1
    session = open_session(model, threads, spin)  # while the first batches are prepared
    name = session.get_inputs()[0].name
    outputs = [None] * len(batches)
    for _ in batches:
        number, slot = done.get()
        outputs[number] = session.run(None, {name: slot_view(shared, slot, batch)[:len(batches[number])]})[0]
        if asked < len(batches):
            tasks.put((asked, slot, batches[asked]))
            asked += 1
    for _ in workers:
        tasks.put(None)
    for w in workers:
        w.join()
    return outputs


def main(way, spin, library, decode, model, shorter, kernel, mean, std, threads, batch, folder, out):
    if library == "opencv":
        import cv2

        cv2.setNumThreads(int(threads))
    else:
        import PIL.Image  # noqa: F401, before the processes are forked
    prepare = Prepare(library, decode, shorter, kernel, mean, std)
    run = {"loop": loop, "loader": loader}[way]
    np.concatenate(list(run(prepare, model, int(threads), spin == "spin", int(batch), folder))).astype(np.float32).tofile(out)


def versions():
    import cv2
    import onnxruntime
    from PIL import __version__, features

    print(f"Pillow {__version__} (libjpeg-turbo {features.version('libjpeg_turbo')}), OpenCV {cv2.__version__}, "
          f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__} on Python {platform.python_version()}")


if __name__ == "__main__":
    versions() if sys.argv[1] == "versions" else main(*sys.argv[1:])
