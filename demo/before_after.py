"""A picture of the photo before and after."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

HEIGHT = 480
GAP = 12
CAPTION = 26
PAPER, INK = (250, 250, 250), (40, 40, 40)
LIGHT, DARK, SQUARE = (255, 255, 255), (222, 222, 222), 12


def draw(before: bytes, after: bytes, target: Path) -> Path:
    """
    Write a PNG that shows both images side by side.

    :param before: the photo
    :param after: the result. Transparent areas are shown as a chessboard
    :param target: the file to write
    """
    pictures = [_scaled(before), _scaled(after)]
    width = sum(picture.width for picture in pictures) + 3 * GAP
    sheet = Image.new("RGB", (width, HEIGHT + CAPTION + 2 * GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    left = GAP
    for caption, picture in zip(("before", "after"), pictures, strict=True):
        pen.text((left, GAP), caption, fill=INK)
        sheet.paste(picture, (left, GAP + CAPTION))
        left += picture.width + GAP
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
    return target


def _scaled(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGBA")
    picture = picture.resize((max(1, round(picture.width * HEIGHT / picture.height)), HEIGHT), Image.Resampling.LANCZOS)
    board = Image.new("RGB", picture.size, LIGHT)
    pen = ImageDraw.Draw(board)
    for row in range(0, picture.height, SQUARE):
        for column in range((row // SQUARE % 2) * SQUARE, picture.width, 2 * SQUARE):
            pen.rectangle((column, row, column + SQUARE - 1, row + SQUARE - 1), fill=DARK)
    board.paste(picture, mask=picture.getchannel("A"))
    return board
