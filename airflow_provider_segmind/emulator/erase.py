"""
Erase the subject of a photo and continue the background where it was.

There is no neural network: GrabCut finds what differs from the photo's border, and inpainting fills the hole. That is
enough to see that the subject is gone.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from airflow_provider_segmind.emulator.input_images import open_image

Pixels = NDArray[np.uint8]

WORKING_SIZE = 192  # longest side in pixels; GrabCut's time grows with the area, and a mask needs no more detail
CACHE_BYTES = 64_000_000
BAND_ROWS = 256  # floating-point copies of a whole 48-megapixel photo would take gigabytes


class _ResultCache:
    """The most recent results by their input, so that erasing the same photo many times is cheap."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._results: OrderedDict[tuple[bytes, bool], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[bytes, bool]) -> bytes | None:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, key: tuple[bytes, bool], result: bytes) -> None:
        with self._lock:
            self._results[key] = result
            while sum(map(len, self._results.values())) > self._max_bytes and len(self._results) > 1:
                self._results.popitem(last=False)


_cache = _ResultCache(CACHE_BYTES)


def erase_foreground(content: bytes, preserve_alpha: bool) -> bytes:
    """
    Erase a photo's subject.

    :param content: a JPEG, PNG or WEBP file
    :param preserve_alpha: keep the input's transparency; otherwise the result is opaque, on white
    :return: an upright PNG of the photo's dimensions
    :raises InvalidInputError: the file is not usable as an image
    """
    key = (hashlib.sha256(content).digest(), preserve_alpha)
    if (cached := _cache.get(key)) is not None:
        return cached
    image = open_image(content)
    pixels: Pixels = np.asarray(image)
    alpha = pixels[:, :, 3] if image.mode == "RGBA" else None
    colours: Pixels = np.ascontiguousarray(pixels[:, :, :3])
    if alpha is not None and not preserve_alpha:
        colours = _on_white(colours, alpha)
    colours = fill(colours, find_subject(colours))
    if alpha is not None and preserve_alpha:
        colours = np.dstack([colours, alpha])
    result = encode_png(colours)
    _cache.put(key, result)
    return result


def find_subject(colours: Pixels) -> Pixels:
    """
    Find a photo's subject.

    :param colours: the photo, RGB
    :return: a mask at the working size, 255 where the subject is
    """
    height, width = colours.shape[:2]
    scale = min(1.0, WORKING_SIZE / max(height, width))
    small_width, small_height = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(colours, (small_width, small_height), interpolation=cv2.INTER_AREA)
    middle = np.zeros((small_height, small_width), np.uint8)
    cv2.ellipse(
        middle, (small_width // 2, small_height // 2), (small_width // 4, small_height // 3), 0, 0, 360, 255, -1
    )
    if min(small_width, small_height) < 16:
        return middle
    left, top = round(small_width * 0.06), round(small_height * 0.03)
    # The rectangle extends to the lower edge, which subjects reach more often than the others.
    rectangle = (left, top, small_width - 2 * left, small_height - top - 1)
    labels = np.zeros((small_height, small_width), np.uint8)
    cv2.setRNGSeed(0)  # the same photo gives the same result
    try:
        cv2.grabCut(small, labels, rectangle, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_RECT)
    except cv2.error:
        return middle  # an image of a single colour cannot be clustered
    mask = _whole_subjects(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255)
    if not 0.005 < mask.mean() / 255 < 0.9:
        return middle
    return mask


def _whole_subjects(mask: Pixels) -> Pixels:
    """Remove small specks from a mask, close its gaps and extend it over the subject's edge."""
    size = max(mask.shape)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    filled = np.zeros_like(mask)
    kept = [outline for outline, area in zip(outlines, areas, strict=True) if area >= 0.2 * max(areas)]
    if kept:
        # What lies between parts of a subject mostly belongs to it: a dark collar, the saucer of a cup.
        cv2.fillConvexPoly(filled, cv2.convexHull(np.vstack(kept)), 255)
    reach = max(3, size // 20) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.asarray(cv2.dilate(filled, kernel), np.uint8)


def fill(colours: Pixels, mask: Pixels) -> Pixels:
    """
    Continue the background into the hole.

    The hole is filled on a small copy, which is then enlarged and blended in. The background is smooth enough for
    that, and the time of the inpainting does not depend on the photo's size.

    :param colours: the photo, RGB
    :param mask: a mask at the working size, 255 where the hole is
    """
    height, width = colours.shape[:2]
    small = cv2.resize(colours, mask.shape[::-1], interpolation=cv2.INTER_AREA)
    filled = cv2.inpaint(small, mask, 3, cv2.INPAINT_TELEA)
    # Inpainting leaves streaks towards the middle of a large hole, so blur more the deeper inside it is.
    depth = cv2.GaussianBlur(mask, (0, 0), 6)[:, :, None].astype(np.float32) / 255
    filled = np.where(mask[:, :, None] > 0, filled * (1 - depth) + cv2.GaussianBlur(filled, (0, 0), 8) * depth, filled)
    large = cv2.resize(np.clip(filled + 0.5, 0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    # The edge fades outwards only, so that no rim of the subject shines through.
    faded = cv2.GaussianBlur(cv2.dilate(mask, np.ones((5, 5), np.uint8)), (0, 0), 1.5)
    weight = cv2.resize(np.maximum(faded, mask), (width, height), interpolation=cv2.INTER_LINEAR)
    blended = np.empty_like(colours)
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        share = weight[rows, :, None].astype(np.float32) / 255
        blended[rows] = colours[rows] * (1 - share) + large[rows] * share + 0.5
    return blended


def _on_white(colours: Pixels, alpha: Pixels) -> Pixels:
    share = alpha[:, :, None].astype(np.float32) / 255
    return np.clip(colours * share + 255 * (1 - share) + 0.5, 0, 255).astype(np.uint8)


def encode_png(colours: Pixels) -> bytes:
    """
    Encode an image as PNG.

    :param colours: RGB or RGBA
    """
    code = cv2.COLOR_RGBA2BGRA if colours.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, encoded = cv2.imencode(".png", cv2.cvtColor(colours, code))
    return encoded.tobytes()
