"""Small photos drawn from a seed, each with its own background, and the check of the results that were made of them."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240
SUBJECT = (235, 20, 225)
"""The colour of every subject. No background has it."""

MAX_SUBJECT_SHARE = 0.002
MAX_BACKGROUND_DIFFERENCE = 6.0
"""The average difference of a colour value, of 255, up to which two backgrounds are the same."""

Pixels = NDArray[np.uint8]


def _pixels(seed: int, number: int) -> Pixels:
    """Draw a photo: waves of two colours with grain as its background, and an ellipse as its subject."""
    rng = np.random.default_rng([seed, number])
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    angle, waves, phase = rng.uniform(0, np.pi), rng.uniform(0.5, 2.5), rng.uniform(0, 6.28)
    along = (x * np.cos(angle) + y * np.sin(angle)) / WIDTH
    mix = (0.5 + 0.5 * np.sin(6.28 * waves * along + phase))[:, :, None]
    # Red stays low and green high, so that no background comes near magenta.
    first, second = (rng.uniform((0, 90, 0), (110, 240, 200)) for _ in range(2))
    photo = first * mix + second * (1 - mix) + rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    photo = np.clip(photo, 0, 255).astype(np.uint8)
    centre = (int(rng.uniform(0.42, 0.58) * WIDTH), int(rng.uniform(0.45, 0.55) * HEIGHT))
    axes = (int(rng.uniform(0.12, 0.2) * WIDTH), int(rng.uniform(0.18, 0.28) * HEIGHT))
    cv2.ellipse(photo, centre, axes, float(rng.uniform(0, 180)), 0, 360, SUBJECT, -1)
    return np.asarray(photo, np.uint8)


@cache
def _photo_and_border(seed: int, number: int) -> tuple[bytes, Pixels]:
    """Return photo ``number`` as a JPEG, and what its background is known by. Its pixels would fill the memory."""
    pixels = _pixels(seed, number)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return encoded.tobytes(), _border(pixels)


def photo(seed: int, number: int) -> bytes:
    """Return photo ``number`` as a JPEG."""
    content, _ = _photo_and_border(seed, number)
    return content


def find_fault(result: bytes, seed: int, number: int, count: int) -> str | None:
    """
    Say what is wrong with a result; ``None`` if it is photo ``number`` without its subject.

    :param result: the stored file
    :param seed: the seed of the photos
    :param number: the photo that the result must have been made of
    :param count: the number of photos
    """
    decoded = cv2.imdecode(np.frombuffer(result, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        return f"it is not an image ({len(result)} bytes)"
    pixels = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    if pixels.shape != (HEIGHT, WIDTH, 3):
        return f"it has the wrong size, {pixels.shape[1]} x {pixels.shape[0]} pixels"
    subject_share = _subject_share(pixels)
    if subject_share > MAX_SUBJECT_SHARE:
        return f"the subject still covers {subject_share:.1%} of it"
    differences = np.abs(_borders(seed, count).astype(np.int16) - _border(pixels).astype(np.int16)).mean(axis=(1, 2))
    nearest = int(differences.argmin())
    if nearest != number:
        return f"it has the background of photo {nearest}"
    if differences[number] > MAX_BACKGROUND_DIFFERENCE:
        return f"its background has changed by {differences[number]:.1f} of 255 on average"
    return None


def _subject_share(pixels: Pixels) -> float:
    difference = np.abs(pixels.astype(np.int16) - np.array(SUBJECT)).max(axis=2)
    return float((difference < 60).mean())


def _border(pixels: Pixels) -> Pixels:
    """Return a sample of the pixels along the top and the sides, where the subject never is."""
    small = np.asarray(cv2.blur(pixels, (5, 5)), np.uint8)[2:-2:4, 2:-2:4]
    return np.concatenate([small[:2].reshape(-1, 3), small[:40, :2].reshape(-1, 3), small[:40, -2:].reshape(-1, 3)])


@cache
def _borders(seed: int, count: int) -> Pixels:
    return np.stack([_photo_and_border(seed, number)[1] for number in range(count)])
