"""File formats: what a file is by its signature, how many pixels it has by its header, and whether it is whole."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from airflow_provider_segmind.api.models import SegmindFile
from airflow_provider_segmind.exceptions import SegmindOutputError

HEAD = 512
"""The first bytes of a file, enough for :func:`sniff` and :func:`describe`."""

_PIECE = 1 << 20  # No check holds more than this in memory, whatever the file says about its own lengths.
_MAX_SEGMENTS = 4096  # A JPEG has a few dozen; a file of nothing but fill bytes must not cost minutes.

# Media type: the extension of a result file, what errors call such a file, and how it begins. The first match counts.
_FORMATS: dict[str, tuple[str, str, tuple[bytes, ...]]] = {
    "application/json": (".json", "JSON", ()),
    "application/pdf": (".pdf", "a PDF document", (b"%PDF",)),
    "application/zip": (".zip", "a ZIP archive", (b"PK\3\4",)),
    "audio/flac": (".flac", "a FLAC sound file", (b"fLaC",)),
    "audio/mp4": (".m4a", "an M4A sound file", ()),
    "audio/mpeg": (".mp3", "an MP3 sound file", (b"ID3",)),
    "audio/wav": (".wav", "a WAV sound file", ()),
    "image/avif": (".avif", "an AVIF image", ()),
    "image/bmp": (".bmp", "a BMP image", ()),
    "image/gif": (".gif", "a GIF image", (b"GIF87a", b"GIF89a")),
    "image/heic": (".heic", "a HEIC photo (as iPhones take)", ()),
    "image/heif": (".heif", "a HEIF image", ()),
    "image/jp2": (".jp2", "a JPEG 2000 image", (b"\0\0\0\x0cjP  \r\n\x87\n",)),
    "image/jpeg": (".jpg", "a JPEG image", (b"\xff\xd8\xff",)),
    "image/jxl": (".jxl", "a JPEG XL image", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    "image/png": (".png", "a PNG image", (b"\x89PNG\r\n\x1a\n",)),
    "image/svg+xml": (".svg", "an SVG drawing", ()),
    # CR2, ORF, RW2 and RAF; CR2 is built like a TIFF, so it has to come before that
    "image/x-camera-raw": (
        ".raw",
        "a camera's raw photo",
        (b"II*\0\x10\0\0\0CR", b"IIRO", b"IIU\0", b"FUJIFILMCCD-RAW"),
    ),
    "image/tiff": (
        ".tif",
        "a TIFF image, or a raw photo built like one (DNG, NEF, ARW)",
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ),
    "image/vnd.adobe.photoshop": (".psd", "a Photoshop document (PSD)", (b"8BPS",)),
    "image/webp": (".webp", "a WEBP image", ()),
    "image/x-icon": (".ico", "an icon (ICO)", (b"\0\0\1\0",)),
    "model/gltf-binary": (".glb", "a glTF model (GLB)", (b"glTF",)),
    "text/html": (".html", "an HTML page", ()),
    "text/plain": (".txt", "text", ()),
    "video/mp4": (".mp4", "an MP4 video", ()),
    "video/quicktime": (".mov", "a QuickTime video", ()),
    "video/webm": (".webm", "a WEBM or Matroska video", (b"\x1a\x45\xdf\xa3",)),
}
_BRANDS = {  # the kinds of ISO base media files (ISO/IEC 14496-12); any other is a video
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"crx ": "image/x-camera-raw",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"M4A ": "audio/mp4",
    b"qt  ": "video/quicktime",
}
_ALIASES = {"audio/x-wav": "audio/wav", "image/jpg": "image/jpeg", "image/x-ms-bmp": "image/bmp"}
# Their files always begin with a signature, so a file that is declared as one and has none is something else.
_SIGNED = {*(kind for kind in _FORMATS if kind.startswith("image/")), "application/pdf", "video/mp4"} - {
    "image/svg+xml"
}
# A whole file of these always tells its size; where none can be read, its header is broken.
_SIZED = frozenset({"image/avif", "image/bmp", "image/gif", "image/heic", "image/jpeg", "image/png", "image/webp"})


def sniff(head: bytes) -> str | None:
    """Return the media type that a file's first bytes prove, ``None`` where they prove none."""
    for kind, (_, _, signatures) in _FORMATS.items():
        if head.startswith(signatures):
            return kind
    if head.startswith(b"RIFF"):
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), HEAD), 4))]
        if brands[0] in (b"mif1", b"msf1"):  # these name the container only; another one says what is in it
            brands = [brand for brand in brands if brand in (b"avif", b"avis", b"heic", b"heix")] or brands
        return _BRANDS.get(brands[0], "video/mp4")
    # Two letters are a short signature, so the reserved fields of a BMP have to be zero as well.
    return "image/bmp" if head.startswith(b"BM") and head[6:10] == bytes(4) else None


def extension_of(content_type: str) -> str:
    """Return the file name extension for a media type, with its dot; ``.bin`` for an unknown one."""
    return _FORMATS[content_type][0] if content_type in _FORMATS else ".bin"


def normalise(content_type: str | None) -> str | None:
    """Return a declared media type in lower case and without parameters, ``None`` where it says nothing."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    kind = _ALIASES.get(kind, kind)
    return None if kind in ("", "application/octet-stream", "binary/octet-stream") else kind


def is_html(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a web page."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def describe(head: bytes) -> str:
    """Say what a file looks like by its first bytes, as a noun phrase: ``"a GIF image"``."""
    kind = sniff(head)
    if kind is not None:
        return _FORMATS[kind][1]
    if is_html(head):
        return "an HTML page"
    if head.startswith(b"\0\5\x16\7"):
        return "a Mac's AppleDouble file (the ._ file beside a photo)"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<svg", b"<?xml")):
        return "an SVG drawing" if b"<svg" in head.lower() else "an XML document"
    printable = all(byte >= 32 or byte in b"\t\r\n" for byte in head)
    return "text" if head and printable else f"data of an unknown format (it begins with {head[:8].hex(' ')})"


def image_size(file: BinaryIO) -> tuple[int, int] | None:
    """
    Return the width and height of an image in pixels as it is stored, before any rotation that its EXIF data asks for.

    It is ``None`` where the format does not tell, or the header lies beyond the bytes that are there. Only headers are
    read, each of a few bytes, so a large chunk in the file costs no memory.
    """
    file.seek(0)
    head = file.read(64)
    kind = sniff(head)
    try:
        size = _read_size(file, head, kind) if kind else None
    except struct.error:  # the header is cut short
        return None
    return size if size and min(size) > 0 else None


def _read_size(file: BinaryIO, head: bytes, kind: str) -> tuple[int, int] | None:
    if kind == "image/jpeg":
        return _jpeg_size(file)
    if kind == "image/webp":
        return _webp_size(head)
    if kind in ("image/avif", "image/heic", "image/heif"):
        return _heif_size(file)
    width = height = 0
    if kind == "image/png":
        width, height = struct.unpack_from(">II", head, 16)
    elif kind == "image/gif":
        width, height = struct.unpack_from("<HH", head, 6)
    elif kind == "image/bmp":
        old = head[14:18] == b"\x0c\0\0\0"
        width, height = struct.unpack_from("<HH" if old else "<ii", head, 18)
    return width, abs(height)  # a BMP that is stored from top to bottom has a negative height


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk the segments to the frame header, which may come after hundreds of kilobytes of EXIF and colour profile."""
    file.seek(2)
    for _ in range(_MAX_SEGMENTS):
        mark, marker = struct.unpack("BB", file.read(2))
        if mark != 0xFF:
            return None
        if marker == 0xFF:  # a fill byte
            file.seek(-1, os.SEEK_CUR)
        elif marker in (0xD9, 0xDA):  # the end, or pixels without a frame
            return None
        elif marker != 0x01 and not 0xD0 <= marker <= 0xD8:  # these have no content
            (length,) = struct.unpack(">H", file.read(2))
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                _, height, width = struct.unpack(">BHH", file.read(5))
                return width, height
            file.seek(length - 2, os.SEEK_CUR)
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8X" and len(head) >= 30:
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L" and head[20:21] == b"/":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _heif_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return the largest of the sizes in the `ispe` boxes near the start: the others are of tiles and thumbnails."""
    file.seek(0)
    head = file.read(_PIECE)
    return max((struct.unpack_from(">II", head, box.end()) for box in re.finditer(rb"ispe\0{4}", head)), default=None)


def file_digest(file: BinaryIO) -> str:
    """Return the SHA-256 of a whole file, hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def check_whole(file: BinaryIO, content_type: str) -> None:
    """Raise ``ValueError`` unless a file of this proven type has its end. Files of a type that does not tell pass."""
    size, whole = file.seek(0, os.SEEK_END), True
    if content_type == "image/png":
        whole = _png_is_whole(file)
    elif content_type == "image/jpeg":  # its end marker; cameras append a little to it
        file.seek(max(size - 4096, 0))
        whole = b"\xff\xd9" in file.read()
    elif content_type == "image/gif":  # the empty block that ends the last image, and the trailer
        file.seek(max(size - 2, 0))
        whole = file.read() == b"\0;"
    elif content_type in ("image/webp", "audio/wav"):  # the length that RIFF states; readers ignore what follows it
        file.seek(4)
        whole = 8 + int.from_bytes(file.read(4), "little") <= size
    elif content_type == "image/bmp":
        file.seek(2)
        whole = int.from_bytes(file.read(4), "little") <= size
    else:
        file.seek(4)
        if file.read(4) in (b"ftyp", b"JXL ", b"jP  "):
            whole = _boxes_are_whole(file, size)
    if not whole:
        raise ValueError(f"its {content_type} data is cut short or damaged")


def _png_is_whole(file: BinaryIO) -> bool:
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


def _boxes_are_whole(file: BinaryIO, size: int) -> bool:
    """Add up the lengths of the boxes that an ISO base media file (MP4, HEIC, AVIF) consists of."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # the length comes after the name
            length = int.from_bytes(head[8:], "big")
        elif length == 0 and len(head) >= 8:  # the last box, up to the end
            return True
        if length < 8:
            return False
        at += length
    return at == size


class ResultFile:
    """
    Takes a result's body into a file and checks it: a :class:`~airflow_provider_segmind.api.download.ResultSink`.

    :param file: open for reading and writing, seekable; emptied whenever a body begins
    :param image: whether it must be an image, whatever the service declares
    """

    def __init__(self, file: BinaryIO, *, max_bytes: int, image: bool) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._image = image
        self.begin({})

    def begin(self, headers: Mapping[str, str]) -> None:
        """Start over with a new body, unless its headers announce too much."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self._digest = hashlib.sha256()
        length = headers.get("content-length", "")
        encoded = headers.get("content-encoding", "identity") != "identity"
        self.expected = int(length) if length.isdecimal() and len(length) < 20 and not encoded else None
        self._check_size(self.expected or 0)

    def write(self, chunk: bytes) -> None:
        """Append a piece of the body, unless it is too large by now."""
        self.size += len(chunk)
        self._check_size(self.size)
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self, declared: str | None) -> SegmindFile:
        """Check the whole file and describe it; a ``ValueError`` says what is wrong with it."""
        self._file.seek(0)
        head = self._file.read(HEAD)
        proven, declared = sniff(head), normalise(declared)
        if proven is None and is_html(head):
            raise ValueError("it is a web page that its host served in its place")
        if self._image and not (proven or "").startswith("image/"):
            raise ValueError(f"it is not an image but {describe(head)}")
        if proven is None and declared in _SIGNED:
            raise ValueError(f"it is not {declared} but {describe(head)}")
        size = None
        if proven is not None:
            check_whole(self._file, proven)
            size = image_size(self._file)
            if size is None and proven in _SIZED:
                raise ValueError(f"its {proven} header is broken")
        # An office document is a ZIP archive: there the declaration says more than the signature.
        specific = declared if proven == "application/zip" and (declared or "").startswith("application/") else None
        content_type = specific or proven or declared or "application/octet-stream"
        return SegmindFile(self.size, self._digest.hexdigest(), content_type, *(size or (None, None)))

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise SegmindOutputError(
                f"The result file is larger than {self._max_bytes / 1024**2:g} MiB. If that is intended, raise "
                "'max_result_mb' in the connection's extra."
            )
