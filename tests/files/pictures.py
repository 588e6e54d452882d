"""Pictures of every kind, as encoders and cameras write them."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

WIDTH, HEIGHT = 31, 17


def picture(kind: str = "PNG", size: tuple[int, int] = (WIDTH, HEIGHT), **options: object) -> bytes:
    """Return a picture of noise, which no encoder can shorten much."""
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def two_pictures(kind: str) -> bytes:
    """Return an MPO, as phones write it with a depth map, or an animation."""
    file = io.BytesIO()
    first, second = (Image.effect_noise((WIDTH, HEIGHT), 50).convert("RGB") for _ in range(2))
    first.save(file, kind, save_all=True, append_images=[second])
    return file.getvalue()


def box(name: bytes, content: bytes = b"", length: int | None = None) -> bytes:
    """Return a box of an ISO base media file, with its true length or another one."""
    return struct.pack(">I", 8 + len(content) if length is None else length) + name + content


def heif(brand: bytes, *brands: bytes, sizes: tuple[tuple[int, int], ...] = ((WIDTH, HEIGHT),)) -> bytes:
    """Return the boxes of a HEIC or AVIF file, without a picture in it."""
    properties = b"".join(box(b"ispe", struct.pack(">III", 0, *size)) for size in sizes)
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", properties)))
    return box(b"ftyp", brand + bytes(4) + b"".join(brands)) + meta + box(b"mdat", bytes(100))


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def jpeg_with(*segments: bytes) -> bytes:
    """Return a JPEG with application segments before its frame header, as EXIF data and colour profiles are."""
    data = picture("JPEG")
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(s)) + s for s in segments) + data[2:]


def tiff(*tags: tuple[int, int, int, int], after: bytes = b"") -> bytes:
    """Return the first page's tags of a little-endian TIFF: each one's number, type, count and value."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + after


FILM = box(b"ftyp", b"isom" + bytes(12)) + box(b"moov", bytes(100)) + box(b"mdat", bytes(900))
PNG = picture()

OTHER_FILES = {
    "HEIC": (heif(b"heic", b"mif1", b"heic"), "image/heic", ".heic", "a HEIC photo (as iPhones take)"),
    "HEIC in a generic container": (heif(b"mif1", b"mif1", b"heic"), "image/heic", ".heic", "a HEIC photo"),
    "HEIF": (heif(b"mif1", b"mif1", b"miaf"), "image/heif", ".heif", "a HEIF image"),
    "AVIF": (heif(b"avif", b"mif1"), "image/avif", ".avif", "an AVIF image"),
    "AVIF in a generic container": (heif(b"mif1", b"avif"), "image/avif", ".avif", "an AVIF image"),
    "BMP": (picture("BMP"), "image/bmp", ".bmp", "a BMP image"),
    "TIFF": (picture("TIFF"), "image/tiff", ".tif", "a TIFF image"),
    "big-endian TIFF": (b"MM\0*\0\0\0\x08\0\0", "image/tiff", ".tif", "a TIFF image"),
    "BigTIFF": (b"II+\0\x08\0\0\0" + bytes(8), "image/tiff", ".tif", "a TIFF image"),
    "DNG, NEF or ARW": (tiff((0xC612, 1, 4, 1)), "image/tiff", ".tif", "a raw photo (DNG, NEF, ARW)"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(20), "image/x-camera-raw", ".raw", "a camera's raw photo"),
    "CR3": (box(b"ftyp", b"crx " + bytes(8)), "image/x-camera-raw", ".raw", "a camera's raw photo"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(8), "image/x-camera-raw", ".raw", "a camera's raw photo"),
    "RW2": (b"IIU\0\x18\0\0\0" + bytes(8), "image/x-camera-raw", ".raw", "a camera's raw photo"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(8), "image/x-camera-raw", ".raw", "a camera's raw photo"),
    "GIF": (picture("GIF"), "image/gif", ".gif", "a GIF image"),
    "animated GIF": (two_pictures("GIF"), "image/gif", ".gif", "a GIF image"),
    "PSD": (b"8BPS\0\1" + bytes(30), "image/vnd.adobe.photoshop", ".psd", "a Photoshop document"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl", ".jxl", "a JPEG XL image"),
    "JPEG XL codestream": (b"\xff\x0a" + bytes(20), "image/jxl", ".jxl", "a JPEG XL image"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2", ".jp2", "a JPEG 2000 image"),
    "ICO": (b"\0\0\1\0\1\0" + bytes(20), "image/x-icon", ".ico", "an icon"),
    "PDF": (b"%PDF-1.7\n", "application/pdf", ".pdf", "a PDF document"),
    "ZIP": (b"PK\3\4" + bytes(20), "application/zip", ".zip", "a ZIP archive"),
    "MP4": (FILM, "video/mp4", ".mp4", "an MP4 video"),
    "live photo": (box(b"ftyp", b"qt  " + bytes(4)), "video/quicktime", ".mov", "a QuickTime video"),
    "WEBM": (b"\x1a\x45\xdf\xa3" + bytes(20), "video/webm", ".webm", "a WEBM or Matroska video"),
    "WAV": (b"RIFF\4\0\0\0WAVE", "audio/wav", ".wav", "a WAV sound file"),
    "MP3": (b"ID3\4" + bytes(20), "audio/mpeg", ".mp3", "an MP3 sound file"),
    "GLB": (b"glTF\2\0\0\0" + bytes(4), "model/gltf-binary", ".glb", "a glTF model"),
}
"""Files that are no source image: their bytes, media type, extension, and how an error describes them."""

NAMELESS_FILES = {
    "HTML": (b"<!DOCTYPE html><p>Sign in", "an HTML page"),
    "HTML after a byte order mark": (b"\xef\xbb\xbf\r\n <HTML lang='en'>", "an HTML page"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
    "SVG with a prolog": (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
    "XML": (b"<?xml version='1.0'?><Error/>", "an XML document"),
    "text": ("größer\n".encode(), "text"),
    "AppleDouble": (b"\0\5\x16\7\0\2\0\0Mac OS X", "a Mac's AppleDouble file"),
    "unknown": (b"\1\2\3", "data of an unknown format (it begins with 01 02 03)"),
}
"""Files whose first bytes prove no media type, and how an error describes them."""
