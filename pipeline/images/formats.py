"""Formats of image files, told by their first bytes."""

from __future__ import annotations

from typing import Final

from PIL import Image

from pipeline.images.bad import BadImage

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51\0", "JPEG2000"),
    (b"qoif", "QOI"),
    (b"8BPS\0", "PSD"),
    (b"DDS ", "DDS"),
    (b"\0\0\1\0", "ICO"),
    (b"icns", "ICNS"),
    (b"\x01\xda\0\1", "SGI"),
    (b"\x01\xda\1\1", "SGI"),
    (b"\x01\xda\0\2", "SGI"),
    (b"\x01\xda\1\2", "SGI"),
    (b"\x59\xa6\x6a\x95", "SUN"),
)
# Forms that people have and Pillow cannot decode, by the name that people know.
_UNSUPPORTED: Final = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"PF\n", "PFM in colour"),
    (b"P7\n", "PAM"),
    (b"<svg", "SVG"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"FUJIFILMCCD-RAW", "RAF"),
    (b"II\xbc", "JPEG XR"),
)
# Brands of ISO files, which begin with the length of a box.
_AVIF: Final = (b"avif", b"avis")
_HEIF: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_BLANKS: Final = b" \t\r\n#"


def format_of(data: bytes | memoryview | None) -> str:
    """Return the format that a file's first bytes tell, by Pillow's name.

    Raises:
        BadImage: there are no bytes, those of no image, or those of a format that is not supported.
    """
    if not data:
        raise BadImage("no bytes")
    head = bytes(data[:64])
    kind = _known(head)
    if kind is not None:
        if kind not in Image.OPEN:
            Image.init()
        if kind not in Image.OPEN:
            raise not_supported(kind)
        return kind
    start = head.lstrip()
    for magic, name in _UNSUPPORTED:
        if head.startswith(magic) or (magic[:1] == b"<" and start.startswith(magic)):
            raise not_supported(name)
    if head[4:8] == b"ftyp" and _brands(head).intersection(_HEIF):
        raise not_supported("HEIC")
    raise BadImage(f"not an image: starts with {head[:8].hex(' ')}")


def not_supported(form: str, more: str = "") -> BadImage:
    """Make the reason of a whole file whose form is not decoded."""
    return BadImage(f"{form} is not supported here" + (f": {more}" if more else ""))


def _known(head: bytes) -> str | None:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3] in _BLANKS and len(head) > 2:
        return "PPM"
    if head[4:8] == b"ftyp" and _brands(head).intersection(_AVIF):
        return "AVIF"
    return None


def _brands(head: bytes) -> set[bytes]:
    """Return the major and compatible brands of an ISO file's first box."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
