"""Recognise a file's type by its content, and relate media types to file extensions."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileType:
    """
    A file type that users upload or submit.

    :param name: its name in error messages
    :param media_type: its media type
    :param extension: its usual file extension, with the dot
    :param signature: matches the start of such a file
    """

    name: str
    media_type: str
    extension: str
    signature: re.Pattern[bytes]


def _type(name: str, media_type: str, extension: str, signature: bytes) -> FileType:
    return FileType(name, media_type, extension, re.compile(signature, re.DOTALL | re.IGNORECASE))


# An ISO base media file starts with the size of its first box, "ftyp", the major brand, a version and the compatible
# brands. Some cameras use the generic major brand "mif1", in which case the compatible brands decide.
_MAJOR, _COMPATIBLE = rb".{4}ftyp", rb".{4}ftyp(?:mif1|msf1).{4}(?:.{4}){0,9}?"
# Text may start with a byte order mark and white space; in SVG, a prolog and comments may come before the root element.
_TEXT = rb"(?:\xef\xbb\xbf)?\s*"

# The first match wins, so a type stands before the more general one that it is based on.
FILE_TYPES = (
    _type("JPEG", "image/jpeg", ".jpg", rb"\xff\xd8\xff"),
    _type("PNG", "image/png", ".png", rb"\x89PNG\r\n\x1a\n"),
    _type("WEBP", "image/webp", ".webp", rb"RIFF.{4}WEBP"),
    _type("AVIF", "image/avif", ".avif", _MAJOR + rb"avi[fs]|" + _COMPATIBLE + rb"avi[fs]"),
    _type("HEIC", "image/heic", ".heic", _MAJOR + rb"(?:he(?:i[cxms]|v[cxms])|mif1|msf1)"),
    _type("Canon RAW", "image/x-canon-cr3", ".cr3", _MAJOR + rb"crx "),
    _type("QuickTime video", "video/quicktime", ".mov", _MAJOR + rb"qt  "),
    _type("MP4 video", "video/mp4", ".mp4", _MAJOR),
    _type("GIF", "image/gif", ".gif", rb"GIF8[79]a"),
    _type("BMP", "image/bmp", ".bmp", rb"BM.{4}\0{4}"),
    _type("Canon RAW", "image/x-canon-cr2", ".cr2", rb"II\*\0.{4}CR"),
    _type("TIFF or camera RAW", "image/tiff", ".tiff", rb"II[*+]\0|MM\0[*+]"),
    _type("Fujifilm RAW", "image/x-fuji-raf", ".raf", rb"FUJIFILMCCD-RAW"),
    _type("PSD", "image/vnd.adobe.photoshop", ".psd", rb"8BPS"),
    _type("JPEG XL", "image/jxl", ".jxl", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _type("JPEG 2000", "image/jp2", ".jp2", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    _type("ICO", "image/vnd.microsoft.icon", ".ico", rb"\0\0\x01\0"),
    _type("SVG", "image/svg+xml", ".svg", _TEXT + rb"<(?:svg|(?:\?xml|!--|!DOCTYPE svg).*?<svg)"),
    _type("HTML", "text/html", ".html", _TEXT + rb"<(?:!DOCTYPE )?html"),
    _type("PDF", "application/pdf", ".pdf", rb"%PDF-"),
)

DEFAULT_MEDIA_TYPE = "application/octet-stream"
# Other names under which clients and operating systems declare the same types.
ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/heif": "image/heic",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
    "image/x-icon": "image/vnd.microsoft.icon",
}

# The functions of the module `mimetypes` also read the machine's tables, so use an instance with Python's own table.
_REGISTRY = mimetypes.MimeTypes()
for _file_type in FILE_TYPES:
    _REGISTRY.add_type(_file_type.media_type, _file_type.extension)


def detect(content: bytes) -> FileType | None:
    """
    Recognise a file by its first bytes.

    :param content: the file
    """
    head = content[:1024]
    return next((file_type for file_type in FILE_TYPES if file_type.signature.match(head)), None)


def extension_for(declared: str, content: bytes) -> str:
    """
    Choose the extension under which an upload is stored.

    :param declared: the media type that the client declared; it wins over the content unless it is empty, unknown
        or the generic ``application/octet-stream``
    :param content: the file
    """
    declared = declared.strip().lower()
    media_type = ALIASES.get(declared, declared)
    extension = _REGISTRY.guess_extension(media_type)
    if extension is not None and media_type != DEFAULT_MEDIA_TYPE:
        return extension
    detected = detect(content)
    return ".bin" if detected is None else detected.extension


def media_type_for(name: str) -> str:
    """
    Return the media type with which a stored file is served.

    :param name: the file's name
    """
    return _REGISTRY.guess_type(name)[0] or DEFAULT_MEDIA_TYPE
