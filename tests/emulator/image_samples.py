"""Sample files of the types that cameras, editors and shops produce."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, ImageCms

from .photos import photo, scene

BACKGROUND, GREY_BACKGROUND = (90, 160, 120), (135, 135, 135)
ORIENTATION = 0x0112
SECOND_FRAME = {"save_all": True, "append_images": [Image.new("RGB", (20, 10))]}

# How an upright image is stored for each EXIF orientation.
STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def save(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def oriented(kind, orientation, **options):
    """The scene as a camera stores it when held in another orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if kind == "MPO":
        options |= SECOND_FRAME
    return save(Image.fromarray(STORED[orientation](scene())), kind, exif=exif.tobytes(), **options)


def two_frames():
    """A JPEG with a second frame (MPO), as phones write it."""
    return save(Image.fromarray(scene()), "MPO", **SECOND_FRAME)


def red_green_swapped_profile():
    """An ICC profile whose first channel is green and whose second is red."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _with_chunk(png, name, data):
    start = png.index(b"IDAT") - 4
    return png[:start] + _chunk(name, data) + png[start:]


def png_header(width, height):
    """A PNG with any dimensions but without pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")


def webp_header(width, height):
    """An extended WEBP with any dimensions but without pixels."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"WEBPVP8X\x0a\0\0\0\2\0\0\0" + canvas + b"ANIM\6\0\0\0" + bytes(6)
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _deep(picture):
    return cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes()


def _transparent_corner(mode):
    picture = Image.fromarray(scene()).convert(mode)
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 10, 10))
    picture.putalpha(alpha)
    return picture


def _palette(**options):
    return save(Image.fromarray(scene()).quantize(16), "PNG", **options)


def _black_on_white():
    picture = Image.new("1", (160, 120), 1)
    picture.paste(0, (60, 40, 100, 80))
    return save(picture, "PNG")


def _samples():
    rgb = Image.fromarray(scene())
    frames = {"save_all": True, "append_images": [Image.new("RGB", rgb.size, "blue")]}
    jpeg, grey, two = photo("JPEG"), rgb.convert("L"), two_frames()
    return {
        "baseline JPEG": (jpeg, BACKGROUND),
        "progressive JPEG": (save(rgb, "JPEG", progressive=True), BACKGROUND),
        "CMYK JPEG with Adobe's inverted colours": (save(rgb.convert("CMYK"), "JPEG"), BACKGROUND),
        "greyscale JPEG": (save(grey, "JPEG"), GREY_BACKGROUND),
        "motion photo, a JPEG followed by a video": (jpeg + b"\0\0\0\x18ftypmp42" + bytes(500), BACKGROUND),
        "JPEG with damaged EXIF": (save(rgb, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"), BACKGROUND),
        "JPEG with a damaged ICC profile": (save(rgb, "JPEG", icc_profile=b"no profile"), BACKGROUND),
        "MPO": (two, BACKGROUND),
        "MPO with a damaged index": (two.replace(b"MPF\0", b"MPF\0XXXX", 1), BACKGROUND),
        "MPO without its second frame": (two[: two.index(b"\xff\xd9") + 2], BACKGROUND),
        "PNG": (photo(), BACKGROUND),
        "PNG of 16 bits a channel": (_deep(scene()[:, :, ::-1]), BACKGROUND),
        "greyscale PNG of 16 bits": (_deep(np.asarray(grey)), GREY_BACKGROUND),
        "greyscale PNG of 16 bits with a transparent shade": (
            _with_chunk(_deep(np.asarray(grey)), b"tRNS", b"\1\1"),
            GREY_BACKGROUND,
        ),
        "palette PNG": (_palette(), BACKGROUND),
        "palette PNG with transparency": (_palette(transparency=15), BACKGROUND),
        "greyscale PNG with alpha": (save(_transparent_corner("L"), "PNG"), GREY_BACKGROUND),
        "1-bit PNG": (_black_on_white(), (255, 255, 255)),
        "animated PNG": (save(rgb, "PNG", **frames), BACKGROUND),
        "PNG with trailing bytes": (photo() + b"\0" * 100, BACKGROUND),
        "WEBP": (photo("WEBP"), BACKGROUND),
        "lossless WEBP with alpha": (save(_transparent_corner("RGB"), "WEBP", lossless=True), BACKGROUND),
        "animated WEBP": (save(rgb, "WEBP", **frames), BACKGROUND),
        "extended WEBP": (oriented("WEBP", 1, xmp=b"<x/>"), BACKGROUND),
    }


def _boxes(brand, *compatible):
    brands = brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(40)


ACCEPTED = _samples()  # by type: a file and its background colour
# By type: a file and the name with which it is refused.
REFUSED = {
    "HEIC of an iPhone": (_boxes(b"heic", b"mif1", b"heic"), "HEIC"),
    "HEIC of a Canon": (_boxes(b"heix", b"mif1"), "HEIC"),
    "HEIC under the common brand": (_boxes(b"mif1", b"miaf", b"heic"), "HEIC"),
    "HEIC burst": (_boxes(b"hevc", b"msf1"), "HEIC"),
    "AVIF": (_boxes(b"avif", b"mif1"), "AVIF"),
    "AVIF under the common brand": (_boxes(b"mif1", b"avif"), "AVIF"),
    "BMP": (photo("BMP"), "BMP"),
    "TIFF": (photo("TIFF"), "TIFF or camera RAW"),
    "big-endian TIFF": (b"MM\0*" + bytes(40), "TIFF or camera RAW"),
    "NEF or DNG": (b"II*\0\x08\0\0\0" + bytes(40), "TIFF or camera RAW"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "Canon RAW"),
    "CR3": (_boxes(b"crx ", b"isom"), "Canon RAW"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(40), "Fujifilm RAW"),
    "GIF": (photo("GIF"), "GIF"),
    "PSD": (b"8BPS\0\1" + bytes(40), "PSD"),
    "JPEG XL": (b"\xff\x0a" + bytes(40), "JPEG XL"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
    "JPEG 2000": (photo("JPEG2000"), "JPEG 2000"),
    "JPEG 2000 codestream": (b"\xff\x4f\xff\x51" + bytes(40), "JPEG 2000"),
    "ICO": (photo("ICO"), "ICO"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "SVG with a prolog": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- Inkscape -->\n<svg/>', "SVG"),
    "web page": (b"\n<!DOCTYPE html><html><svg></svg></html>", "HTML"),
    "PDF": (b"%PDF-1.7\n" + bytes(40), "PDF"),
    "video of a live photo": (_boxes(b"qt  "), "QuickTime video"),
    "MP4": (_boxes(b"isom", b"mp41"), "MP4 video"),
}
