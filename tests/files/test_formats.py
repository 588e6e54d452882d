"""What a file is."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import pytest
from PIL import Image, features

from airflow_provider_segmind.files.formats import Media, extension_of, inspect, normalise
from tests.files.pictures import picture

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
KINDS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", pytest.param("AVIF", marks=needs_avif)]


def look(data, declared=None, *, image=True):
    return inspect(io.BytesIO(data), declared, image=image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("declared", [None, "application/octet-stream", "image/png", "text/html"])
def test_the_signature_counts_not_the_declaration(kind, declared):
    assert look(picture(kind), declared) == Media(f"image/{kind.lower()}", 31, 17)


def box(name, content=b"", length=None):
    return (8 + len(content) if length is None else length).to_bytes(4, "big") + name + content


FILM = box(b"ftyp", b"isom" + bytes(12)) + box(b"moov", bytes(100)) + box(b"mdat", bytes(900))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [8, 12, 20, 40, 200, 0.5, 0.99, -1])
def test_a_truncated_image_is_none(kind, keep):
    data = picture(kind)
    with pytest.raises(ValueError, match=r"broken|cut short|not an image"):
        look(data[: keep if isinstance(keep, int) else int(len(data) * keep)])


@pytest.mark.parametrize("keep", [20, 27, 31, 40, 130, 135, -1])
def test_a_truncated_film_is_none(keep):
    with pytest.raises(ValueError, match="cut short"):
        look(FILM[:keep], "video/mp4", image=False)


@pytest.mark.parametrize(
    "last",
    [b"", box(b"mdat", bytes(50), length=0), box(b"mdat", (66).to_bytes(8, "big") + bytes(50), length=1)],
    ids=["as it is", "up to the end", "with a long length"],
)
def test_a_whole_film_passes(last):
    assert look(FILM + last, None, image=False) == Media("video/mp4")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_readers_pass_over_after_the_end_does_no_harm(kind):
    assert look(picture(kind) + bytes(9)).width == 31


def huge_png(end=b"IEND"):
    """Return a PNG whose header names more pixels than Pillow opens."""
    data = picture()
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33 : data.index(end)]


def test_an_image_too_large_for_pillow_passes_without_its_size_if_it_is_whole():
    assert look(huge_png() + picture()[-8:]) == Media("image/png")
    with pytest.raises(ValueError, match="cut short"):
        look(huge_png())


@needs_avif
def test_an_avif_whose_header_is_broken_is_none():
    with pytest.raises(ValueError, match="header is broken"):
        look(picture("AVIF").replace(b"meta", b"free"))


@pytest.mark.parametrize("kind", ["WEBP", pytest.param("AVIF", marks=needs_avif)])
def test_an_image_that_pillow_would_read_whole_is_not_opened_above_a_limit(kind, monkeypatch):
    data = picture(kind)
    monkeypatch.setattr(media, "_MAX_READ_WHOLE", len(data))
    assert look(data).width == 31
    monkeypatch.setattr(media, "_MAX_READ_WHOLE", len(data) - 1)
    assert look(data) == Media(f"image/{kind.lower()}")
    with pytest.raises(ValueError, match="cut short"):
        look(data[:-1])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF"])
def test_a_large_image_is_never_whole_in_memory(kind, tmp_path):
    path = tmp_path / "large"
    if kind == "PNG":  # as some encoders write it: all in one chunk
        pixels = b"IDAT" + bytes(9 << 20)
        chunk = (len(pixels) - 4).to_bytes(4, "big") + pixels + zlib.crc32(pixels).to_bytes(4, "big")
        path.write_bytes(picture()[:33] + chunk + picture()[-12:])
    else:
        Image.effect_noise((3000, 3000), 50).save(path, kind)
    with path.open("rb") as file:
        look(picture(kind))  # what is imported for it is no file's
        tracemalloc.start()
        try:
            inspect(file, None, image=True)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20 < path.stat().st_size
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Sign in", b"\xef\xbb\xbf\r\n <HTML lang='en'>"])
@pytest.mark.parametrize("declared", [None, "text/html", "text/plain", "image/png"])
@pytest.mark.parametrize("image", [True, False])
def test_a_web_page_is_no_result(page, declared, image):
    with pytest.raises(ValueError, match="web page"):
        look(page, declared, image=image)


def test_a_png_with_a_flipped_bit_is_damaged():
    data = bytearray(picture("PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        look(bytes(data))


@pytest.mark.parametrize("data", [b"", b"x", b'{"error": "x"}', bytes(500), b"%PDF-1.7", b"RIFF1234WAVE"])
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
