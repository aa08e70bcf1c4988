"""Makes the test images that are not photographs as they were found.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install pillow==13.0.0 numpy==2.4.6 pdqhash==0.2.8
    /tmp/venv/bin/python testdata/make.py

The outputs are committed, and no test runs this. They were made with Python 3.11, Pillow 13.0.0 (libjpeg-turbo 3.2.0,
zlib-ng, libwebp 1.6.0, libtiff 4.7.2, littlecms 2.19), numpy 2.4.6, pdqhash 0.2.8 and, for two kinds of chroma
subsampling, cjpeg of libjpeg-turbo 2.1.5. Other versions may make other bytes; the expected values would follow.

It writes, beside this file:

    duplicates/      near-duplicates of three photographs; expected.json says what is how near to what
    pairs/           high-quality images and their companions, four times smaller (Pillow's bicubic)
    pairs-broken/    the same with a pair that does not fit and files without a partner
    formats/         what a decoder meets: expected.json says what the pixels are
    formats-pixels/  the pixels of the lossy ones, as Pillow decodes them, upright, in 8 bits
    broken/          files of which every one must be quarantined

In formats/expected.json a file has "width" and "height" (upright), "mode" (gray, rgb or rgba), "bits" (8 or 16),
"icc" (sha256 of its profile, if it has one) and either "sha256", the hash of its pixels from the upper left corner, row
by row, as R, G, B and A (not multiplied by alpha, black where a GIF is transparent, big endian if 16 bits), or
"pixels", a picture in formats-pixels, with the difference that is allowed: "most" for every sample, and for some "mean"
for the mean of all.
"""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pdqhash
from PIL import Image, ImageCms, ImageEnhance, ImageOps

HERE = Path(__file__).parent
PHOTOS = HERE / "photos"


def photo(name, size=None, box=None):
    im = Image.open(PHOTOS / f"{name}.jpg").convert("RGB")
    if box:
        im = im.crop(box)
    return im.resize(size, Image.Resampling.LANCZOS) if size else im


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def saved(im, fmt, **options):
    b = io.BytesIO()
    im.save(b, fmt, **options)
    return b.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def dump(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


# ---- near-duplicates


def duplicates():
    folder = fresh("duplicates")
    how = {}

    def put(name, data, of, text):
        write(folder / name, data)
        how[name] = (of, text)

    for name in ("hills", "sunset", "brushes"):
        im = photo(name)
        im = im.resize((384, round(384 * im.height / im.width)), Image.Resampling.LANCZOS)
        original = saved(im, "JPEG", quality=92, subsampling=0)
        put(f"{name}.jpg", original, name, "resized to 384 px, quality 92")
        im = Image.open(io.BytesIO(original)).convert("RGB")
        w, h = im.size

        def jpeg(x, quality=92):
            return saved(x, "JPEG", quality=quality, subsampling=0 if quality > 90 else 2)

        def cropped(share):
            dx, dy = round(w * share / 2), round(h * share / 2)
            return im.crop((dx, dy, w - dx, h - dy))

        put(f"{name}-q80.jpg", jpeg(im, 80), name, "encoded again, quality 80")
        put(f"{name}-q50.jpg", jpeg(im, 50), name, "encoded again, quality 50")
        for label, share in (("half", 0.5), ("threequarters", 0.75)):
            small = im.resize((round(w * share), round(h * share)), Image.Resampling.BICUBIC)
            put(f"{name}-{label}.jpg", jpeg(small), name, f"resized by {share}, bicubic, quality 92")
        for percent in (2, 5, 10):
            put(f"{name}-crop{percent}.jpg", jpeg(cropped(percent / 100)), name,
                f"{percent}% of width and height cut off, half at each side, quality 92")
        put(f"{name}-mirrored.jpg", jpeg(ImageOps.mirror(im)), name, "mirrored left to right, quality 92")
        put(f"{name}-brighter.jpg", jpeg(ImageEnhance.Brightness(im).enhance(1.05)), name, "5% brighter, quality 92")
        put(f"{name}-copy.jpg", original, name, "a copy, byte for byte")
        # The same scene, but not the same picture.
        put(f"{name}-left.jpg", jpeg(im.crop((0, 0, w * 6 // 10, h)), 80), name, "the left 60%, quality 80: another picture")
        put(f"{name}-right.jpg", jpeg(im.crop((w * 4 // 10, 0, w, h)), 80), name, "the right 60%, quality 80: another picture")
        if name == "hills":
            put("hills-pixels.png", saved(im, "PNG", optimize=True), name, "the decoded pixels of hills.jpg as PNG")
            put("hills-pixels.webp", saved(im, "WEBP", lossless=True, quality=100, method=6), name, "the pixels of hills-pixels.png as lossless WebP")
    for name, colour in (("flat-blue", (90, 130, 200)), ("flat-gray", (128, 128, 128))):
        put(f"{name}.png", saved(Image.new("RGB", (256, 192), colour), "PNG"), name, "one colour: PDQ's quality is 0")
    write(folder / "hills.txt", b"Hills in the evening.\n")
    write(folder / "hills-copy.txt", b"A valley with a path.\n")

    files, bits, pixels = {}, {}, {}
    for name, (of, text) in sorted(how.items()):
        data = (folder / name).read_bytes()
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        bits[name], quality = pdqhash.compute(rgb)
        pixels[name] = sha(rgb.tobytes() + str(rgb.shape).encode())
        files[name] = {
            "of": of, "how": text, "sha256": sha(data), "pixels_sha256": sha(rgb.tobytes()),
            "pdq": np.packbits(bits[name]).tobytes().hex(), "pdq_quality": int(quality),
        }
    names = sorted(files)
    distances = {}
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            d = int((bits[a] != bits[b]).sum())
            if d <= 60 and min(files[a]["pdq_quality"], files[b]["pdq_quality"]) >= 50:
                distances[f"{a} {b}"] = d
    dump(folder / "expected.json", {
        "files": files,
        "pdq_distances": distances,
        "groups": {
            "sha256": groups(names, lambda a, b: files[a]["sha256"] == files[b]["sha256"]),
            "pixels": groups(names, lambda a, b: pixels[a] == pixels[b]),
            "pdq 31": groups(names, lambda a, b: distances.get(" ".join(sorted((a, b))), 99) <= 31),
        },
        "notes": "pdq_distances are those of up to 60 between pictures of quality 50 and more. groups are connected, not "
                 "necessarily each with each. The pixels of a JPEG and of hills-pixels.png are only equal with libjpeg-turbo.",
    })


def groups(names, same):
    """Connected groups of two and more."""
    out = []
    for n in names:
        near = [g for g in out if any(same(m, n) for m in g)]
        out = [g for g in out if g not in near] + [sorted(sum(near, [n]))]
    return sorted(g for g in out if len(g) > 1)


# ---- pairs


def pairs():
    def put(folder, name, im, lq_name=None, **options):
        data = saved(im, "JPEG", quality=92) if name.endswith(".jpg") else saved(im, "PNG", optimize=True)
        write(folder / "hq" / name, data)
        if lq_name:
            hq = Image.open(io.BytesIO(data)).convert("RGB")
            size = options.get("lq_size") or (hq.width // 4, hq.height // 4)
            write(folder / "lq" / lq_name, saved(hq.resize(size, Image.Resampling.BICUBIC), "PNG", optimize=True))

    folder = fresh("pairs")
    put(folder, "0001.jpg", photo("stream", (640, 424)), "0001.png")
    put(folder, "0002.jpg", photo("drum", (384, 576)), "0002.png")
    put(folder, "0003.png", photo("fig", (288, 192)), "0003.png")
    put(folder, "more/0004.jpg", photo("brushes", (512, 400)), "more/0004.png")
    write(folder / "hq" / "0001.txt", b"A stream between trees.\n")

    folder = fresh("pairs-broken")
    small = photo("fig", (64, 44))
    put(folder, "fits.png", small, "fits.png")
    put(folder, "mismatch.png", small, "mismatch.png", lq_size=(15, 11))
    put(folder, "alone.png", small)
    write(folder / "lq" / "orphan.png", saved(small.resize((16, 11)), "PNG"))


# ---- formats


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(a, before=b"", after=b"", interlaced=False, colour=None, bits=None, width=None):
    """A PNG of an array (h, w) or (h, w, channels) of uint8 or uint16; with bits under 8, of rows already packed."""
    a = np.asarray(a)
    channels = 1 if a.ndim == 2 else a.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour is None else colour
    bits = bits or 8 * a.itemsize

    def rows(part):
        return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in part)

    if interlaced:
        data = b"".join(rows(a[y::dy, x::dx]) for x, y, dx, dy in ADAM7 if a[y::dy, x::dx].size)
    else:
        data = rows(a)
    head = struct.pack(">IIBBBBB", width or a.shape[1], a.shape[0], bits, colour, 0, 0, int(interlaced))
    return SIGNATURE + chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(data, 9)) + after + chunk(b"IEND", b"")


def tiff(a, endian="<", tile=0, deflate=False, loop=False):
    """A TIFF of an array (h, w) or (h, w, 3); loop lets the list of its pictures begin again at its end."""
    h, w = a.shape[:2]
    channels = 1 if a.ndim == 2 else 3
    a = a.astype(a.dtype.newbyteorder(endian))
    if tile:
        parts = []
        for y in range(0, h, tile):
            for x in range(0, w, tile):
                p = a[y:y + tile, x:x + tile]
                pad = [(0, tile - p.shape[0]), (0, tile - p.shape[1])] + [(0, 0)] * (a.ndim - 2)
                parts.append(np.pad(p, pad).astype(a.dtype).tobytes())
    else:
        parts = [a[y:y + 16].tobytes() for y in range(0, h, 16)]
    if deflate:
        parts = [zlib.compress(p, 9) for p in parts]
    out = bytearray((b"II" if endian == "<" else b"MM") + struct.pack(endian + "HI", 42, 0))
    offsets = []
    for p in parts:
        offsets.append(len(out))
        out += p + b"\0" * (len(p) % 2)

    def array(kind, values):
        code = {3: "H", 4: "I"}[kind]
        data = struct.pack(f"{endian}{len(values)}{code}", *values)
        if len(data) <= 4:
            return struct.pack(endian + "HI", kind, len(values)) + data.ljust(4, b"\0")
        at = len(out)
        out.extend(data + b"\0" * (len(data) % 2))
        return struct.pack(endian + "HII", kind, len(values), at)

    tags = {
        256: array(4, [w]), 257: array(4, [h]), 258: array(3, [8 * a.itemsize] * channels),
        259: array(3, [8 if deflate else 1]), 262: array(3, [1 if channels == 1 else 2]), 277: array(3, [channels]),
    }
    if tile:
        tags |= {322: array(3, [tile]), 323: array(3, [tile]), 324: array(4, offsets), 325: array(4, [len(p) for p in parts])}
    else:
        tags |= {273: array(4, offsets), 278: array(3, [16]), 279: array(4, [len(p) for p in parts])}
    start = len(out)
    out[4:8] = struct.pack(endian + "I", start)
    out += struct.pack(endian + "H", len(tags)) + b"".join(struct.pack(endian + "H", t) + tags[t] for t in sorted(tags))
    return bytes(out + struct.pack(endian + "I", start if loop else 0))


def exif(orientation):
    """An EXIF block with nothing but the orientation."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg_with(data, segment):
    """The JPEG with a segment behind its JFIF header."""
    n = 4 + struct.unpack(">H", data[4:6])[0]
    return data[:n] + segment + data[n:]


def app1(orientation):
    body = b"Exif\0\0" + exif(orientation)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def turned_back(im, orientation):
    """The picture as it is stored with this orientation, so that it appears as im."""
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}
    return im.transpose(undo[orientation]) if orientation > 1 else im


def profile(description, red, green, blue, gamma):
    """A matrix profile (ICC.1:2001-04) with the given primaries, as XYZ values adapted to D50."""
    def fixed(v):
        return struct.pack(">i", round(v * 65536))

    def xyz(v):
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, v))

    text = description.encode() + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + b"\0" * 78
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = [(b"desc", desc), (b"cprt", b"text\0\0\0\0CC0\0"), (b"wtpt", xyz((0.9642, 1, 0.8249))), (b"rXYZ", xyz(red)),
            (b"gXYZ", xyz(green)), (b"bXYZ", xyz(blue)), (b"rTRC", curve), (b"gTRC", curve), (b"bTRC", curve)]
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", 128 + 4 + len(table) + len(body), b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + fixed(0.9642) + fixed(1) + fixed(0.8249)
    out = head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
    ImageCms.ImageCmsProfile(io.BytesIO(out))  # littlecms can read it
    return out


# The primaries of Display P3, adapted to D50 as its published profile has them.
P3 = profile("a wide gamut", (0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), 2.2)


def formats():
    folder, reference = fresh("formats"), fresh("formats-pixels")
    expected = {}
    im = photo("brushes", (61, 45), (300, 200, 971, 695))
    rgb = np.asarray(im)
    h, w = rgb.shape[:2]
    gray = np.asarray(im.convert("L"))
    yy, xx = np.mgrid[0:h, 0:w]
    alpha = (xx * 255 // (w - 1)).astype(np.uint8)
    alpha[:8] = 0
    alpha[-8:] = 255
    rng = np.random.default_rng(1)
    rgb16 = rgb.astype(np.uint16) * 256 + rng.integers(0, 256, rgb.shape, np.uint16)
    gray16 = gray.astype(np.uint16) * 256 + rng.integers(0, 256, gray.shape, np.uint16)
    alpha16 = alpha.astype(np.uint16) * 257
    rgba = np.dstack([rgb, alpha])

    def four(a):
        """R, G, B, A of an array of any number of channels."""
        a = np.asarray(a)
        full = np.full(a.shape[:2], np.iinfo(a.dtype).max, a.dtype)
        if a.ndim == 2:
            return np.dstack([a, a, a, full])
        if a.shape[2] == 2:
            return np.dstack([a[..., 0]] * 3 + [a[..., 1]])
        return np.dstack([a, full]) if a.shape[2] == 3 else a

    def put(name, data, a, icc=None):
        """A file whose pixels are exactly those of the array."""
        a = np.asarray(a)
        mode = "gray" if a.ndim == 2 else {2: "rgba", 3: "rgb", 4: "rgba"}[a.shape[2]]
        f = four(a)
        e = {"width": a.shape[1], "height": a.shape[0], "mode": mode, "bits": 8 * a.itemsize,
             "sha256": sha(f.astype(f.dtype.newbyteorder(">")).tobytes())}
        if icc:
            e["icc"] = sha(icc)
        write(folder / name, data)
        expected[name] = e
        if a.itemsize == 1:  # Pillow agrees, up to the colour of what cannot be seen
            got = np.array(ImageOps.exif_transpose(Image.open(folder / name)).convert("RGBA"))
            if name.endswith(".gif"):
                got[got[..., 3] == 0] = 0
            assert (got == f).all(), name

    def lossy(name, data, most, mean=None, icc=None):
        """A file whose pixels are what Pillow decodes, within the tolerance."""
        write(folder / name, data)
        got = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        got = got.convert({"L": "L", "RGBA": "RGBA"}.get(got.mode, "RGB"))
        e = {"width": got.width, "height": got.height, "mode": {"L": "gray", "RGB": "rgb", "RGBA": "rgba"}[got.mode],
             "bits": 8, "pixels": name + ".png", "most": most}
        if mean is not None:
            e["mean"] = mean
        if icc:
            e["icc"] = sha(icc)
        expected[name] = e
        got.save(reference / (name + ".png"), optimize=True)

    # PNG
    put("png-rgb.png", png(rgb), rgb)
    put("png-rgb16.png", png(rgb16), rgb16)
    put("png-rgba.png", png(rgba), rgba)
    put("png-rgba16.png", png(np.dstack([rgb16, alpha16])), np.dstack([rgb16, alpha16]))
    put("png-gray.png", png(gray), gray)
    put("png-gray16.png", png(gray16), gray16)
    put("png-gray-alpha.png", png(np.dstack([gray, alpha])), np.dstack([gray, alpha]))
    put("png-gray16-alpha.png", png(np.dstack([gray16, alpha16])), np.dstack([gray16, alpha16]))
    put("png-interlaced.png", png(rgb, interlaced=True), rgb)
    put("png-interlaced16.png", png(gray16, interlaced=True), gray16)
    bilevel = gray > 128
    put("png-1bit.png", png(np.packbits(bilevel, axis=1), bits=1, width=w), bilevel.astype(np.uint8) * 255)
    four_bits = gray >> 4
    even = np.pad(four_bits, ((0, 0), (0, w % 2)))
    put("png-4bit.png", png(even[:, ::2] << 4 | even[:, 1::2], bits=4, width=w), four_bits * 17)
    key = gray[h // 2, w // 2]
    put("png-gray-key.png", png(gray, before=chunk(b"tRNS", struct.pack(">H", key))), np.dstack([gray, np.where(gray == key, 0, 255).astype(np.uint8)]))
    colours = im.quantize(40)
    palette = np.array(colours.getpalette()[:120], np.uint8).reshape(40, 3)
    index = np.asarray(colours)
    plte = chunk(b"PLTE", palette.tobytes())
    put("png-palette.png", png(index, before=plte, colour=3), palette[index])
    see = np.full(40, 255, np.uint8)
    see[:20] = np.arange(20) * 12
    put("png-palette-alpha.png", png(index, before=plte + chunk(b"tRNS", see[:20].tobytes()), colour=3), np.dstack([palette[index], see[index]]))
    stored = np.asarray(turned_back(im, 6))
    put("png-exif-before.png", png(stored, before=chunk(b"eXIf", exif(6))), rgb)
    put("png-exif-after.png", png(stored, after=chunk(b"eXIf", exif(6))), rgb)
    put("png-icc.png", png(rgb, before=chunk(b"iCCP", b"wide\0\0" + zlib.compress(P3, 9))), rgb, icc=P3)
    put("png-called.jpg", png(rgb), rgb)

    # JPEG. Decoders differ by a few levels, in their inverse transforms and in how they upsample chroma; image/jpeg with
    # libjpeg's upsampling is up to 3 from Pillow, 0.11 on average.
    near = {"most": 4, "mean": 0.25}

    def jpeg(x, quality=95, subsampling=0, **options):
        return saved(x, "JPEG", quality=quality, subsampling=subsampling, **options)

    lossy("jpeg-444.jpg", jpeg(im), **near)
    lossy("jpeg-422.jpg", jpeg(im, subsampling=1), **near)
    lossy("jpeg-420.jpg", jpeg(im, subsampling=2), **near)
    ppm = saved(im, "PPM")
    for label, sample in (("411", "4x1,1x1,1x1"), ("440", "1x2,1x1,1x1")):
        data = subprocess.run(["cjpeg", "-quality", "95", "-sample", sample], input=ppm, capture_output=True, check=True).stdout
        lossy(f"jpeg-{label}.jpg", data, **near)
    lossy("jpeg-progressive.jpg", jpeg(im, progressive=True), **near)
    lossy("jpeg-restart.jpg", jpeg(im, restart_marker_blocks=3), **near)
    lossy("jpeg-gray.jpg", saved(im.convert("L"), "JPEG", quality=95), **near)
    lossy("jpeg-icc.jpg", jpeg(im, icc_profile=P3), **near, icc=P3)
    for o in range(1, 9):
        lossy(f"jpeg-orientation{o}.jpg", jpeg_with(jpeg(turned_back(im, o)), app1(o)), **near)
    k = 60 + xx.astype(np.int32)
    cmyk = np.dstack([255 - rgb.astype(np.int32), k]).clip(0, 255).astype(np.uint8)
    as_cmyk = Image.frombytes("CMYK", (w, h), cmyk.tobytes())
    lossy("jpeg-cmyk.jpg", saved(as_cmyk, "JPEG", quality=98), most=2)
    # YCCK: the inverted inks C, M and Y, as Adobe stores them, are what libjpeg takes for CMY and turns from R, G and B =
    # 255 - CMY into Y, Cb and Cr. Pillow inverts once more when it writes; the marker then says which transform it was.
    ycc = np.asarray(Image.frombytes("RGB", (w, h), np.ascontiguousarray(cmyk[..., :3]).tobytes()).convert("YCbCr"))
    data = saved(Image.frombytes("CMYK", (w, h), np.dstack([255 - ycc, cmyk[..., 3]]).tobytes()), "JPEG", quality=98)
    at = data.index(b"Adobe")
    data = data[:at + 11] + b"\x02" + data[at + 12:]
    back = np.asarray(Image.open(io.BytesIO(data)))
    assert abs(back.astype(int) - cmyk).mean() < 2, "the YCCK file does not come back as its inks"
    lossy("jpeg-ycck.jpg", data, most=2)

    # WebP
    put("webp-lossless.webp", saved(im, "WEBP", lossless=True), rgb)
    with_alpha = Image.fromarray(rgba)
    put("webp-lossless-alpha.webp", saved(with_alpha, "WEBP", lossless=True, exact=True), rgba)
    lossy("webp-lossy.webp", saved(im, "WEBP", quality=90), most=2)
    lossy("webp-lossy-alpha.webp", saved(with_alpha, "WEBP", quality=90, exact=True), most=2)

    # TIFF
    put("tiff-rgb.tif", tiff(rgb), rgb)
    put("tiff-big-endian.tif", tiff(rgb, ">"), rgb)
    put("tiff-lzw.tif", saved(im, "TIFF", compression="tiff_lzw"), rgb)
    put("tiff-deflate.tif", saved(im, "TIFF", compression="tiff_adobe_deflate"), rgb)
    put("tiff-packbits.tif", saved(im, "TIFF", compression="packbits"), rgb)
    put("tiff-tiled.tif", tiff(rgb, tile=32), rgb)
    put("tiff-rgb16.tif", tiff(rgb16, deflate=True), rgb16)
    put("tiff-rgb16-big-endian.tif", tiff(rgb16, ">"), rgb16)
    put("tiff-gray.tif", tiff(gray), gray)
    put("tiff-gray16.tif", tiff(gray16), gray16)
    put("tiff-gray16-tiled.tif", tiff(gray16, ">", tile=16, deflate=True), gray16)
    put("tiff-palette.tif", saved(colours, "TIFF"), palette[index])
    put("tiff-1bit.tif", saved(Image.fromarray(bilevel), "TIFF"), bilevel.astype(np.uint8) * 255)
    put("tiff-circular.tif", tiff(rgb, loop=True), rgb)

    # BMP
    put("bmp-24bit.bmp", saved(im, "BMP"), rgb)
    put("bmp-palette.bmp", saved(colours, "BMP"), palette[index])
    put("bmp-gray.bmp", saved(im.convert("L"), "BMP"), np.dstack([gray] * 3))

    # GIF
    put("gif-still.gif", saved(colours, "GIF"), palette[index])
    put("gif-interlaced.gif", saved(colours, "GIF", interlace=1), palette[index])
    others = [im.transpose(Image.Transpose.ROTATE_180).quantize(40), im.transpose(Image.Transpose.FLIP_TOP_BOTTOM).quantize(40)]
    put("gif-animated.gif", saved(colours, "GIF", save_all=True, append_images=others, duration=100), palette[index])
    clear = int(index[h // 2, w // 2])
    seen = (index != clear)[..., None]
    put("gif-transparent.gif", saved(colours, "GIF", transparency=clear), np.where(seen, np.dstack([palette[index], np.full((h, w), 255)]), 0).astype(np.uint8))

    dump(folder / "expected.json", expected)


# ---- broken files


def broken():
    folder = fresh("broken")
    im = photo("brushes", (64, 48), (300, 200, 972, 704))
    rgb = np.asarray(im)
    whole = {
        "jpg": saved(im, "JPEG", quality=90), "png": png(rgb), "webp": saved(im, "WEBP", quality=80), "gif": saved(im.quantize(40), "GIF"),
        "tif": tiff(rgb), "bmp": saved(im, "BMP"),
    }

    def put(name, data):
        write(folder / name, data)

    for ext, data in whole.items():
        put(f"truncated.{ext}", data[:len(data) * 6 // 10])
        put(f"truncated-header.{ext}", data[:20])
    progressive = saved(im, "JPEG", quality=90, progressive=True)
    put("truncated-progressive.jpg", progressive[:len(progressive) // 4])
    put("empty.png", b"")
    put("text.jpg", b"This is no picture.\n")
    put("error-page.jpg", b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n")
    put("folder.png/inside.md", b"A folder whose name says that it is a picture.\n")

    p = bytearray(whole["png"])
    p[p.index(b"IDAT") + 100] ^= 0x55
    put("wrong-crc.png", bytes(p))
    good = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rgb), 9)

    def headed(w, h, idat=good, bits=8, colour=2):
        return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, 0)) + chunk(b"IDAT", idat) + chunk(b"IEND", b"")

    put("huge.png", headed(60000, 60000))
    put("no-width.png", headed(0, 48))
    put("wrong-depth.png", headed(64, 48, bits=7))
    put("more-than-said.png", headed(64, 48, zlib.compress(bytes(32 << 20), 9)))
    put("less-than-said.png", headed(64, 400))
    put("no-data.png", SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)) + chunk(b"IEND", b""))
    gif = bytearray(whole["gif"])
    gif[6:10] = b"\xff\xff\xff\xff"
    put("huge.gif", bytes(gif))
    gif[6:10] = b"\0\0\0\0"
    put("no-size.gif", bytes(gif))
    jpg = bytearray(whole["jpg"])
    at = jpg.index(b"\xff\xc0")
    jpg[at + 5:at + 9] = b"\xff\xff\xff\xff"
    put("huge.jpg", bytes(jpg))
    jpg[at + 5:at + 7] = b"\0\0"
    put("no-height.jpg", bytes(jpg))
    put("no-table.jpg", whole["jpg"].replace(b"\xff\xdb", b"\xff\xef"))
    t = bytearray(whole["tif"])
    t[4:8] = struct.pack("<I", len(t) * 2)
    put("directory-outside.tif", bytes(t))
    t = tiff(rgb, tile=32)
    put("huge-tiles.tif", t.replace(struct.pack("<HHIHH", 322, 3, 1, 32, 0), struct.pack("<HHII", 322, 4, 1, 0x7fffffff)))
    b = bytearray(whole["bmp"])
    b[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    put("huge.bmp", bytes(b))
    b = bytearray(whole["webp"])
    b[12:16] = b"VP9 "
    put("unknown-chunk.webp", bytes(b))

    # A progressive JPEG whose last scan comes again and again: each has to be decoded over the whole picture.
    small = saved(im.resize((16, 16)), "JPEG", quality=50, progressive=True)
    scan = small.rindex(b"\xff\xda")
    put("scans.jpg", small[:scan] + small[scan:-2] * 4000 + small[-2:])

    # Formats and features that cannot be decoded yet.
    put("unsupported.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(100))
    put("unsupported.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    put("unsupported.jxl", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl " + bytes(100))
    put("unsupported-stream.jxl", b"\xff\x0a" + bytes(100))
    put("animated.webp", saved(im.resize((16, 12)), "WEBP", save_all=True, append_images=[im.resize((16, 12)).transpose(Image.Transpose.ROTATE_180)]))
    rows = b"".join(bytes([16, int(v)]) * 4 + b"\0\0" for v in np.asarray(im.convert("L").resize((1, 48)))[:, 0]) + b"\0\1"
    colours = b"".join(bytes([v, v, v, 0]) for v in range(256))
    put("rle.bmp", b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54 + 1024 + len(rows), 0, 0, 54 + 1024, 40, 64, 48, 1, 8, 1, len(rows), 0, 0, 256, 256) + colours + rows)
    put("cmyk.tif", saved(im.convert("CMYK"), "TIFF", compression="tiff_lzw"))
    put("jpeg-inside.tif", saved(im, "TIFF", compression="jpeg"))


if __name__ == "__main__":
    duplicates()
    pairs()
    formats()
    broken()
