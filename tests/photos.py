"""A photo whose subject is known by its colour."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

SUBJECT = (220, 20, 20)


def photo(shade: int = 0, size: tuple[int, int] = (120, 90), kind: str = "PNG") -> bytes:
    """Draw a red disc before grey-green; another ``shade`` is another photo."""
    picture = Image.new("RGB", size, (90 + shade % 100, 160, 120))
    centre, radius = (size[0] // 2, size[1] // 2), min(size) // 4
    ImageDraw.Draw(picture).ellipse(
        (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius), fill=SUBJECT
    )
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def subject_pixels(content: bytes) -> int:
    """Count the pixels that still have the subject's colour."""
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
        colours = picture.getcolors(picture.width * picture.height)
    return sum(
        count for count, colour in colours if sum(abs(a - b) for a, b in zip(colour, SUBJECT, strict=True)) < 100
    )
