"""The bytes of `corpus.py`: whole images of every kind, files that are broken on purpose, and other files."""

from __future__ import annotations

import io
import itertools
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
RARE = {
    "PPM": "ppm",
    "JPEG2000": "jp2",
    "AVIF": "avif",
    "ICO": "ico",
    "SGI": "sgi",
    "QOI": "qoi",
    "DDS": "dds",
}


def photo(chance: np.random.Generator, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth coloured picture, unlike any other."""
    coarse = chance.integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def whole(chance: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Images of every format and mode that is to be scored, by file name."""

    def one(what: str, image: Image.Image, kind: str, **options: object) -> tuple[str, bytes]:
        return f"{what} {kind}.{(EXTENSIONS | RARE)[kind]}", encoded(image, kind, **options)

    for kind in EXTENSIONS:
        yield one("plain", photo(chance), kind)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        yield one(f"mode {mode.replace(';', ' ')}", _in_mode(photo(chance), mode), "PNG")
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"):
        yield one(f"mode {mode.replace(';', ' ')}", _in_mode(photo(chance), mode), "TIFF")
    for mode in ("1", "L", "P"):
        yield one(f"mode {mode}", _in_mode(photo(chance), mode), "BMP")
    for mode in ("1", "L", "RGBA"):
        yield one(f"mode {mode}", _in_mode(photo(chance), mode), "GIF")
    yield one("mode L", photo(chance).convert("L"), "JPEG")
    yield one("mode CMYK", photo(chance).convert("CMYK"), "JPEG")
    yield one("mode RGBA", _in_mode(photo(chance), "RGBA"), "WEBP")
    yield one("lossless", photo(chance), "WEBP", lossless=True)
    yield one("progressive", photo(chance, 200, 150), "JPEG", progressive=True)
    yield one("full colour", photo(chance), "JPEG", subsampling=0, quality=95)
    yield one("transparent palette", photo(chance).quantize(16), "PNG", transparency=3)
    yield one("transparent palette bytes", photo(chance).quantize(4), "PNG", transparency=b"\0\x80\xff\x10")
    yield one("transparent colour", photo(chance), "PNG", transparency=(1, 2, 3))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield one(f"packed by {compression}", photo(chance), "TIFF", compression=compression)
    frames = [photo(chance) for _ in range(3)]
    for mode in ("1", "L", "RGB"):
        yield one(f"mode {mode}", _in_mode(photo(chance), mode), "PPM")
    yield one("mode F", _in_mode(photo(chance), "F"), "PPM")
    yield one(
        "16 bits", Image.fromarray(np.asarray(photo(chance).convert("L")).astype(np.uint16) * 257), "PPM"
    )
    for mode in ("L", "LA", "RGB", "RGBA"):
        yield one(f"mode {mode}", _in_mode(photo(chance), mode), "JPEG2000")
    for mode in ("RGB", "RGBA"):
        yield one(f"mode {mode}", _in_mode(photo(chance), mode), "AVIF")
        yield one(f"mode {mode}", _in_mode(photo(chance), mode), "ICO")
    for kind in ("SGI", "QOI", "DDS"):
        yield one("mode RGB", photo(chance), kind)
    for kind in ("PNG", "GIF", "WEBP", "TIFF"):
        yield one("three frames", frames[0], kind, save_all=True, append_images=frames[1:])
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        yield one(f"turned {turn}", photo(chance), "JPEG", exif=exif)
    for what, exif in (("garbage", b"Exif\0\0garbage"), ("cut", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff")):
        yield one(f"exif of {what}", photo(chance), "JPEG", exif=exif)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode in ("RGBA", "LA"):
        image.putalpha(image.convert("L"))
        return image.convert(mode)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.quantize(32) if mode == "P" else image.convert(mode)


def shapes(chance: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Images of extreme shapes."""
    for width, height in ((1, 1), (1, 3000), (3000, 1), (2, 3), (7, 200), (1000, 1000), (32, 32), (33, 32)):
        for kind in ("PNG", "JPEG"):
            yield f"{width} x {height} {kind}.{EXTENSIONS[kind]}", encoded(photo(chance, width, height), kind)


def metadata(chance: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Images that carry far more than pixels."""
    profile, text = chance.bytes(1_500_000), b"<x>" + b"a" * 60_000 + b"</x>"
    for kind in ("JPEG", "TIFF", "WEBP"):
        yield f"profile {kind}.{EXTENSIONS[kind]}", encoded(photo(chance), kind, icc_profile=profile)
    yield "comment.jpg", encoded(photo(chance), "JPEG", comment=text)
    yield "xmp.jpg", encoded(photo(chance), "JPEG", xmp=text)
    yield "exif JPEG.jpg", encoded(photo(chance), "JPEG", exif=b"Exif\0\0" + chance.bytes(60_000))
    yield "exif WEBP.webp", encoded(photo(chance), "WEBP", exif=b"Exif\0\0" + chance.bytes(1_000_000))
    data = encoded(photo(chance), "PNG")  # any number of small texts, before the pixels
    yield "texts.png", data[:33] + b"".join(chunk(b"tEXt", b"k%d\0v" % i) for i in range(5000)) + data[33:]
    yield "private chunk.png", data[:33] + chunk(b"prVt", chance.bytes(1_000_000)) + data[33:]
    # More than Pillow unpacks, or damaged: the pixels need none of it.
    packed = zlib.compress(b"a" * 30_000_000, 9)
    yield "bomb ztxt.png", data[:33] + chunk(b"zTXt", b"k\0\0" + packed) + data[33:]
    yield "bomb itxt.png", data[:33] + chunk(b"iTXt", b"k\0\1\0\0\0" + packed) + data[33:]
    yield "bomb profile.png", data[:33] + chunk(b"iCCP", b"k\0\0" + packed) + data[33:]
    yield "profile PNG.png", encoded(photo(chance), "PNG", icc_profile=profile)
    yield "damaged text.png", data[:33] + chunk(b"tEXt", b"k\0v")[:-4] + bytes(4) + data[33:]


# ------------------------------------------------------------------------------------------------------- broken


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, rows: bytes = b"\0\0\0\0") -> bytes:
    """A grey PNG whose header may promise what its rows do not hold."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + end


def bombs() -> Iterator[tuple[str, bytes]]:
    """Few bytes that unpack to many."""
    yield "claim PNG.png", png(20_000, 20_000)
    yield "claim below what pillow refuses.png", png(10_000, 9000)
    yield "largest claim.png", png(2**31 - 1, 2**31 - 1)
    yield "zeros.png", png(20_000, 20_000, rows=b"\0" * 20_001 * 500)
    gif = bytearray(encoded(Image.new("L", (4, 4)), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    yield "screen.gif", bytes(gif)
    frame = bytearray(encoded(Image.new("L", (4, 4)), "GIF"))
    at = frame.index(b",\0\0\0\0\4\0\4\0")
    frame[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    yield "frame.gif", bytes(frame)
    bmp = bytearray(encoded(Image.new("L", (4, 4)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 30_000, 30_000)
    yield "claim BMP.bmp", bytes(bmp)
    jpeg = bytearray(encoded(Image.new("L", (4, 4)), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    yield "claim JPEG.jpg", bytes(jpeg)
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16_382).to_bytes(3, "little") * 2
    body = b"WEBP" + canvas + encoded(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]
    yield "canvas.webp", b"RIFF" + struct.pack("<I", len(body)) + body
    for what, tags in (("claim", {256: 50_000, 257: 50_000}), ("tile", {322: 50_000, 323: 50_000})):
        yield f"{what} TIFF.tif", tiff(tags)


def tiff(changes: dict[int, int]) -> bytes:
    """A grey TIFF of 4 x 4 pixels, some of whose tags say otherwise."""
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16} | changes
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return (
        b"II*\0" + struct.pack("<I", 24) + bytes(range(16)) + struct.pack("<H", len(tags)) + rows + bytes(4)
    )


def broken(chance: np.random.Generator) -> Iterator[tuple[str, bytes, str | None]]:
    """Files of known formats whose pixels cannot be had, with how the reason begins."""
    for kind, extension in EXTENSIONS.items():
        yield f"empty {kind}.{extension}", b"", "no bytes"
        yield f"one byte {kind}.{extension}", encoded(photo(chance), kind)[:1], "not an image: "
        head = encoded(photo(chance), kind)[:12]
        yield f"noise after its magic {kind}.{extension}", head + chance.bytes(400), None
        yield f"zeros after its magic {kind}.{extension}", head + bytes(400), None
    whole = encoded(photo(chance), "PNG")
    yield "checksum.png", whole[:29] + bytes(4) + whole[33:], "broken PNG: "
    middle = whole.index(b"IDAT") + 40
    yield "overwritten.png", whole[:middle] + chance.bytes(60) + whole[middle + 60 :], None
    yield "no width.png", png(0, 5), "broken PNG: "
    yield "no rows.png", png(64, 64), "truncated PNG"
    yield "no pixels.png", whole[:33] + chunk(b"IEND", b""), None
    whole = encoded(photo(chance), "JPEG")
    scan = whole.index(b"\xff\xda")
    yield "no scan.jpg", whole[:scan] + b"\xff\xd9", None
    yield (
        "no tables.jpg",
        whole.replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe"),
        "broken JPEG: ",
    )
    yield "icon.ico", b"\0\0\1\0\1\0" + bytes(60), None
    yield "layers.psd", b"8BPS\0\1" + bytes(60), "broken PSD"
    yield "cut.ppm", b"P6 2 2 255\n" + bytes(11), "truncated PPM"
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    for kind in ("PNG", "WEBP", "TIFF"):
        yield f"clear {kind}.{EXTENSIONS[kind]}", encoded(clear, kind), "wholly transparent"
    yield "no entries.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0", None
    yield "beyond its end.tif", tiff({273: 10_000}), None
    yield (
        "lab.tif",
        encoded(Image.merge("LAB", photo(chance).split()), "TIFF"),
        "LAB is not supported here",
    )


def other_files(chance: np.random.Generator) -> Iterator[tuple[str, bytes, str]]:
    """Files of other kinds, with how the reason begins."""
    zipped, archive = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr(zipfile.ZipInfo("inner.png"), encoded(photo(chance), "PNG"))
    with tarfile.open(fileobj=archive, mode="w") as file:
        inner = encoded(photo(chance), "PNG")
        info = tarfile.TarInfo("inner.png")
        info.size = len(inner)
        file.addfile(info, io.BytesIO(inner))
    files = {
        "html": b"<!doctype html><title>404</title><script>alert(1)</script>",
        "error": b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
        "json": b'{"error": "not found"}',
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "zip": zipped.getvalue(),
        "tar": archive.getvalue(),
        "gzip": b"\x1f\x8b\x08\0" + chance.bytes(50),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(60),
        "exe": b"MZ\x90\0" + bytes(60),
        "parquet": b"PAR1" + bytes(60),
        "movie": b"\0\0\0\x18ftypmp42" + bytes(60),
        "ps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "riff": b"RIFF\x10\0\0\0WAVEfmt " + bytes(60),
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "line break first": b"\n" + encoded(photo(chance), "PNG"),
        "text marks first": b"\xef\xbb\xbf" + encoded(photo(chance), "JPEG"),
        "utf 16": "no image".encode("utf-16"),
        "zeros": bytes(5000),
        "spaces": b" " * 100,
        "pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07unsafe.\x94.",
    }
    unsupported = {
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(60),
        "JPEG XL": b"\xff\x0a" + bytes(60),
        "PAM": b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n\7",
    }
    for name, data in unsupported.items():
        yield f"{name}.png", data, f"{name} is not supported here"
    extensions = itertools.cycle(EXTENSIONS.values())
    for (name, data), extension in zip(files.items(), extensions, strict=False):
        yield f"{name}.{extension}", data, "not an image: "
    for i, extension in zip(range(10), extensions, strict=False):
        yield f"noise {i}.{extension}", b"\xf0" + chance.bytes(200), "not an image: "
