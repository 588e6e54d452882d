"""Whether an image or a film is whole, by the file's own structure; read piece by piece, whatever its size."""

from __future__ import annotations

import os
import warnings
import zlib
from typing import BinaryIO

_PIECE = 1 << 20


def refuse_unless_whole(file: BinaryIO, content_type: str) -> None:
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
