"""The photo of the tests as pixels, as a file and as a request parameter."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from tests import photos
from tests.photos import subject_pixels

__all__ = ["decode", "encode", "inline", "photo", "scene", "subject_pixels"]


def photo(kind="PNG", width=160, height=120):
    return photos.photo(size=(width, height), kind=kind)


def scene(width=160, height=120):
    return decode(photo(width=width, height=height))


def encode(picture):
    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".png", cv2.cvtColor(picture, code))[1].tobytes()


def decode(content):
    """Return a PNG's pixels, RGB or RGBA."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def inline(content):
    return base64.b64encode(content).decode()
