"""What a file is: by its signature, and for an image by its own header."""

from __future__ import annotations

import warnings
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
    :raises ValueError: it is not what it has to be; the text says what it looks like
    """
    file.seek(0)
    head = file.read(HEAD)
    proven, declared = sniff(head), normalise(declared)
    if proven is None and (image or declared in _SIGNED):
        raise ValueError(f"it is not {'an image' if image else declared}, it begins with {head[:16]!r}")
    if image and proven is not None and not proven.startswith("image/"):
        raise ValueError(f"it is not an image but {proven}")
    if proven is None or not proven.startswith("image/"):
        return Media(proven or declared or "application/octet-stream")
    return _image(file, proven)


def _image(file: BinaryIO, content_type: str) -> Media:
    from PIL import Image, UnidentifiedImageError

    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is no bomb here: only its header and checksums are read
            with Image.open(file) as picture:
                width, height = picture.size
                picture.verify()  # a PNG's chunks to its end
    except UnidentifiedImageError:
        if content_type == "image/avif":
            return Media(content_type)  # this Pillow was built without it
        raise ValueError(f"its {content_type} header is broken") from None
    except Image.DecompressionBombError:
        return Media(content_type)
    except Exception as broken:  # Pillow's plugins raise what they like on damaged files
        raise ValueError(f"its {content_type} data is damaged ({type(broken).__name__})") from broken
    if content_type == "image/jpeg" and not _ends_like_jpeg(file):
        raise ValueError("its JPEG data has no end")
    return Media(content_type, width, height)


def _ends_like_jpeg(file: BinaryIO) -> bool:
    file.seek(0, 2)
    file.seek(max(file.tell() - 4096, 0))
    return b"\xff\xd9" in file.read()
