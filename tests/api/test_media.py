"""What a file is."""

from __future__ import annotations

import io

import pytest

from airflow_provider_segmind.api.media import extension_of, inspect, normalise

from .test_download import picture


def look(data, declared=None, *, image=True):
    return inspect(io.BytesIO(data), declared, image=image)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("declared", [None, "application/octet-stream", "image/png", "text/html"])
def test_the_signature_counts_not_the_declaration(kind, declared):
    media = look(picture(kind), declared)
    assert (media.content_type, media.width, media.height) == (f"image/{kind.lower()}", 31, 17)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("keep", [8, 12, 20, 40, 200, 0.5, 0.99])
def test_a_truncated_image_is_none(kind, keep):
    data = picture(kind)
    with pytest.raises(ValueError, match=r"broken|damaged|no end|not an image"):
        look(data[: keep if isinstance(keep, int) else int(len(data) * keep)])


def test_a_png_with_a_flipped_bit_is_damaged():
    data = bytearray(picture("PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        look(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"x", b"<html></html>", b'{"error": "x"}', bytes(500), b"%PDF-1.7", b"RIFF1234WAVE"]
)
def test_what_is_no_image_is_told(data):
    with pytest.raises(ValueError, match="not an image"):
        look(data)


def test_an_operator_that_takes_anything_takes_anything():
    assert look(b"hello", "text/plain; charset=utf-8", image=False).content_type == "text/plain"
    assert look(b"hello", None, image=False).content_type == "application/octet-stream"


def test_but_not_what_is_declared_to_be_an_image():
    with pytest.raises(ValueError, match="not image/png"):
        look(b"hello", "image/png", image=False)


@pytest.mark.parametrize(
    ("kind", "expected"), [("image/JPG", "image/jpeg"), ("", None), (None, None), (" image/png ;q", "image/png")]
)
def test_media_types_are_normalised(kind, expected):
    assert normalise(kind) == expected


def test_an_unknown_type_has_an_extension_too():
    assert (extension_of("image/jpeg"), extension_of("x/y")) == (".jpg", ".bin")
