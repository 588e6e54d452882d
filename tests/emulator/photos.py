"""Photos whose subject and background are known, so that a result can be checked by its content."""

from __future__ import annotations

import base64

import cv2
import numpy as np

SUBJECT = (220, 20, 20)  # RGB, nowhere near the background's


def scene(width=160, height=120):
    """A red disc before a greenish gradient, RGB."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(7).integers(-5, 6, (height, width, 3))
    background = np.dstack([90 + x * 40 // width, 150 + y * 40 // height, 100 + (x + y) * 30 // (width + height)])
    picture = np.clip(background + noise, 0, 255).astype(np.uint8)
    cv2.circle(picture, (width // 2, height // 2), height // 4, SUBJECT, -1)
    return picture


def encode(picture, suffix=".png"):
    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(suffix, cv2.cvtColor(picture, code))[1].tobytes()


def decode(content):
    """Return a PNG's pixels, RGB or RGBA."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def subject_pixels(picture):
    """Count the pixels that have the subject's colour."""
    distance = np.abs(picture[:, :, :3].astype(int) - SUBJECT).sum(axis=2)
    return int((distance < 120).sum())


def photo(suffix=".png", **size):
    return encode(scene(**size), suffix)


def inline(content):
    return base64.b64encode(content).decode()
