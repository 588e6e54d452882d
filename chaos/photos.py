"""Small photos that a seed draws, each with a background of its own, and the check of what was made of them."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240
SUBJECT = (235, 20, 225)
"""A colour that no background has."""

Pixels = NDArray[np.uint8]


@cache
def _pixels(seed: int, number: int) -> Pixels:
    """Draw photo ``number``: waves of two colours and grain behind, a blob of the subject's colour before them."""
    draw = np.random.default_rng([seed, number])
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    angle, waves, phase = draw.uniform(0, np.pi), draw.uniform(0.5, 2.5), draw.uniform(0, 6.28)
    along = (x * np.cos(angle) + y * np.sin(angle)) / WIDTH
    mix = (0.5 + 0.5 * np.sin(6.28 * waves * along + phase))[:, :, None]
    # Red stays low and green high, so that magenta is nowhere near.
    first, second = (draw.uniform((0, 90, 0), (110, 240, 200)) for _ in range(2))
    photo = first * mix + second * (1 - mix) + draw.normal(0, 3, (HEIGHT, WIDTH, 1))
    photo = np.clip(photo, 0, 255).astype(np.uint8)
    centre = (int(draw.uniform(0.42, 0.58) * WIDTH), int(draw.uniform(0.45, 0.55) * HEIGHT))
    axes = (int(draw.uniform(0.12, 0.2) * WIDTH), int(draw.uniform(0.18, 0.28) * HEIGHT))
    cv2.ellipse(photo, centre, axes, float(draw.uniform(0, 180)), 0, 360, SUBJECT, -1)
    return np.asarray(photo, np.uint8)


def photo(seed: int, number: int) -> bytes:
    """Return photo ``number`` as a JPEG."""
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(_pixels(seed, number), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92]
    )
    return encoded.tobytes()


def fault_of(result: bytes, seed: int, number: int, count: int) -> str | None:
    """
    Say what is wrong with a result; ``None``: it is photo ``number`` without its subject.

    :param result: the stored file
    :param seed: the photos' seed
    :param number: the photo that it should come from
    :param count: how many photos there are
    """
    decoded = cv2.imdecode(np.frombuffer(result, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        return f"no image, {len(result)} bytes"
    pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    if pixels.shape != (HEIGHT, WIDTH, 3):
        return f"of another size: {pixels.shape}"
    left = _subject_share(pixels)
    if left > 0.002:
        return f"its subject is still there: {left:.1%} of the picture"
    distance = np.abs(_borders(seed, count).astype(np.int16) - _border(pixels).astype(np.int16)).mean(axis=(1, 2))
    nearest = int(distance.argmin())
    if nearest != number:
        return f"it has the background of photo {nearest}"
    if distance[number] > 6:
        return f"its background has changed, by {distance[number]:.1f} of 255 on average"
    return None


def _subject_share(pixels: Pixels) -> float:
    far = np.abs(pixels.astype(np.int16) - np.array(SUBJECT)).max(axis=2)
    return float((far < 60).mean())


def _border(pixels: Pixels) -> Pixels:
    """Return the top and side edges, where no subject is, thinned out."""
    small = np.asarray(cv2.blur(pixels, (5, 5)), np.uint8)[2:-2:4, 2:-2:4]
    return np.concatenate([small[:2].reshape(-1, 3), small[:40, :2].reshape(-1, 3), small[:40, -2:].reshape(-1, 3)])


@cache
def _borders(seed: int, count: int) -> Pixels:
    return np.stack([_border(_pixels(seed, number)) for number in range(count)])
