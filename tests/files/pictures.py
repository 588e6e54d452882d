"""Pictures of every kind, as real encoders write them."""

from __future__ import annotations

import io

from PIL import Image

WIDTH, HEIGHT = 31, 17


def picture(kind: str = "PNG", size: tuple[int, int] = (WIDTH, HEIGHT), **options: object) -> bytes:
    """Return a picture of noise, which no encoder can shorten much."""
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, kind, **options)
    return file.getvalue()


PNG = picture()
