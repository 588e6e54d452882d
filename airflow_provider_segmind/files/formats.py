"""What a file is: by its signature, and for an image by its own header."""

from __future__ import annotations

import os
import warnings
import zlib
from dataclasses import dataclass
from typing import BinaryIO

HEAD = 32
"""Bytes that are enough to know a file by."""

_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/avif": ".avif",
    "image/tiff": ".tif",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
_SIGNED = frozenset(
    (
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/gif",
        "image/avif",
        "image/tiff",
        "application/pdf",
        "video/mp4",
    )
)
_READ_WHOLE = ("webp", "avif")  # Pillow reads these into memory to know their size, and may be built without them
_MAX_READ_WHOLE = 64 << 20


def extension_of(content_type: str) -> str:
    """Return a file name's extension for a media type, ``.bin`` for one unknown."""
    return _EXTENSIONS.get(content_type, ".bin")


def normalise(content_type: str | None) -> str | None:
    """Return a declared media type in lower case, without parameters; ``None`` where none of use is declared."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    kind = {"image/jpg": "image/jpeg", "audio/x-wav": "audio/wav"}.get(kind, kind)
    return None if kind in ("", "application/octet-stream", "binary/octet-stream") else kind


def sniff(head: bytes) -> str | None:
    """Return the media type that a file's first bytes prove, ``None`` where they prove none."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "image/tiff"
    if head[4:8] == b"ftyp":
        return "image/avif" if head[8:12] in (b"avif", b"avis") else "video/mp4"
    return "application/pdf" if head.startswith(b"%PDF-") else None


def is_html(head: bytes) -> bool:
    """Return whether a file's first bytes are a web page's."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


@dataclass(frozen=True, slots=True)
class Media:
    """A file's media type, and its size in pixels where it is an image that Pillow reads."""

    content_type: str
    width: int | None = None
    height: int | None = None


def inspect(file: BinaryIO, declared: str | None, *, image: bool) -> Media:
    """
    Look at a whole file.

    :param declared: the media type that the service named
    :param image: whether it must be an image whatever was declared
    :raises ValueError: it is not what it has to be, or not whole; the text says what it looks like
    """
    file.seek(0)
    head = file.read(HEAD)
    proven, declared = sniff(head), normalise(declared)
    if proven is None and is_html(head):
        raise ValueError("it is a web page, with which its host has answered in its place")
    if proven is None and (image or declared in _SIGNED):
        raise ValueError(f"it is not {'an image' if image else declared}, it begins with {head[:16]!r}")
    if proven is None:
        return Media(declared or "application/octet-stream")
    if image and not proven.startswith("image/"):
        raise ValueError(f"it is not an image but {proven}")
    check_whole(file, proven)
    return _image(file, proven) if proven.startswith("image/") else Media(proven)


def _image(file: BinaryIO, content_type: str) -> Media:
    from PIL import Image, features

    size, kind = file.seek(0, os.SEEK_END), content_type.removeprefix("image/")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large image is no bomb here: only its header is read
        if kind in _READ_WHOLE and (size > _MAX_READ_WHOLE or not features.check(kind)):
            return Media(content_type)
        try:
            with Image.open(file, formats=[kind]) as picture:
                return Media(content_type, *picture.size)
        except Image.DecompressionBombError:
            return Media(content_type)
        except Exception as broken:  # Pillow's plugins raise what they like on damaged files
            raise ValueError(f"its {content_type} header is broken ({type(broken).__name__})") from broken


_PIECE = 1 << 20


def check_whole(file: BinaryIO, content_type: str) -> None:
    """
    Check that a file has its end; a media type whose files do not tell passes.

    :param content_type: what its first bytes prove
    :raises ValueError: it is cut short or damaged
    """
    check = _CHECKS.get(content_type)
    if check is not None and not check(file, file.seek(0, os.SEEK_END)):
        raise ValueError(f"its {content_type} data is cut short or damaged")


def _png(file: BinaryIO, _: int) -> bool:
    """Walk the chunks, each with its checksum, to the one that ends a PNG."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        left, checksum = int.from_bytes(head[:4], "big"), zlib.crc32(head[4:])
        while left and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            checksum = zlib.crc32(piece, checksum)
        if file.read(4) != checksum.to_bytes(4, "big"):
            return False
        if head[4:] == b"IEND":
            return True
    return False


def _jpeg(file: BinaryIO, size: int) -> bool:
    """Look for the end marker; cameras append a little to it."""
    file.seek(max(size - 4096, 0))
    return b"\xff\xd9" in file.read()


def _webp(file: BinaryIO, size: int) -> bool:
    """Compare with the length that RIFF states; readers pass over what comes after it."""
    file.seek(4)
    return 8 + int.from_bytes(file.read(4), "little") <= size


def _gif(file: BinaryIO, size: int) -> bool:
    """Look for the empty block that ends the last image, and the trailer."""
    file.seek(max(size - 2, 0))
    return file.read() == b"\0;"


def _tiff(file: BinaryIO, size: int) -> bool:
    """Compare with where the strips or tiles of the first page lie."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file.seek(0)
    try:
        tags = ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a directory that is cut short: what lacks then is seen below
            tags.load(file)
        offsets, lengths = (tags.get(strips) or tags.get(tiles) or () for strips, tiles in ((273, 324), (279, 325)))
    except Exception:  # noqa: BLE001 - Pillow raises what it likes on damaged files
        return False
    return all(at + length <= size for at, length in zip(offsets, lengths, strict=False))


def _boxes(file: BinaryIO, size: int) -> bool:
    """Add up the lengths of the boxes that an ISO base media file (MP4, AVIF) consists of."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # it comes after the box's name
            length = int.from_bytes(head[8:], "big")
        if length == 0 and len(head) >= 8:  # the last box, up to the file's end
            return True
        if length < 8:
            return False
        at += length
    return at == size


_CHECKS = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "image/gif": _gif,
    "image/tiff": _tiff,
    "image/avif": _boxes,
    "video/mp4": _boxes,
}
