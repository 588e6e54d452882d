"""Formats: what a file is by its first bytes, its size in pixels, and whether it is whole."""

from __future__ import annotations

import io
import tracemalloc
from typing import BinaryIO

import pytest
from PIL import features

from airflow_provider_segmind.exceptions import SegmindOutputError
from airflow_provider_segmind.files.formats import (
    ResultFile,
    describe,
    extension_of,
    image_size,
    normalise,
    sniff,
)

from .pictures import (
    FILM,
    HEIGHT,
    NAMELESS_FILES,
    OTHER_FILES,
    PNG,
    WIDTH,
    box,
    heif,
    jpeg_with,
    picture,
    png_chunk,
    two_pictures,
)

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
KINDS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", pytest.param("AVIF", marks=needs_avif)]


def finish(data: bytes, declared: str | None = None, *, image: bool = True, file: BinaryIO | None = None):
    result = ResultFile(file or io.BytesIO(), max_bytes=1 << 30, image=image)
    result.write(data)
    return result.finish(declared)


# ------------------------------------------------------------------ signatures


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_has_the_media_type_and_the_extension_of_its_kind(kind: str) -> None:
    data, content_type, extension, _ = OTHER_FILES[kind]
    assert (sniff(data[:512]), extension_of(content_type)) == (content_type, extension)


@pytest.mark.parametrize("kind", [*OTHER_FILES, *NAMELESS_FILES])
def test_a_file_is_described_by_its_kind(kind: str) -> None:
    data, *_, words = (OTHER_FILES | NAMELESS_FILES)[kind]
    assert words in describe(data[:512])


@pytest.mark.parametrize("kind", NAMELESS_FILES)
def test_a_file_without_a_signature_has_no_media_type(kind: str) -> None:
    assert sniff(NAMELESS_FILES[kind][0]) is None


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (jpeg_with(b"Exif\0\0" + bytes(60_000)), "image/jpeg"),
        (two_pictures("MPO"), "image/jpeg"),
        (picture("JPEG", progressive=True), "image/jpeg"),
        (two_pictures("PNG"), "image/png"),
        (picture("WEBP", lossless=True), "image/webp"),
        (two_pictures("WEBP"), "image/webp"),
    ],
    ids=["EXIF", "MPO", "progressive", "APNG", "lossless WEBP", "animated WEBP"],
)
def test_what_cameras_and_editors_write_is_recognised_with_its_size(data: bytes, content_type: str) -> None:
    assert (sniff(data[:512]), image_size(io.BytesIO(data))) == (content_type, (WIDTH, HEIGHT))


def test_text_that_begins_with_the_letters_of_a_bmp_is_text() -> None:
    assert describe(b"BMW builds cars, and this is a text about them") == "text"


@pytest.mark.parametrize(
    ("declared", "expected"), [("image/JPG", "image/jpeg"), ("", None), (None, None), (" image/png ;q", "image/png")]
)
def test_a_declared_media_type_is_normalised(declared: str | None, expected: str | None) -> None:
    assert normalise(declared) == expected


def test_a_media_type_that_is_not_known_gets_the_extension_bin() -> None:
    assert extension_of("x/y") == ".bin"


# ------------------------------------------------------------------ size in pixels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (31, 17), (300, 5)])
def test_the_size_of_an_image_is_read_from_its_header(kind: str, size: tuple[int, int]) -> None:
    assert image_size(io.BytesIO(picture(kind, size))) == size


def test_the_size_of_a_heic_photo_is_the_largest_and_not_that_of_its_tiles_and_thumbnail() -> None:
    data = heif(b"heic", b"mif1", sizes=((512, 512), (4032, 3024), (320, 240)))
    assert image_size(io.BytesIO(data)) == (4032, 3024)


def test_the_size_of_a_jpeg_is_found_behind_a_large_colour_profile() -> None:
    data = jpeg_with(*[bytes(65_000)] * 10)
    assert image_size(io.BytesIO(data)) == (WIDTH, HEIGHT)
    assert image_size(io.BytesIO(data[:65_536])) is None


def test_the_thumbnail_in_the_exif_data_of_a_jpeg_is_not_taken_for_the_photo() -> None:
    data = jpeg_with(b"Exif\0\0" + picture("JPEG", (160, 120)))
    assert image_size(io.BytesIO(data)) == (WIDTH, HEIGHT)


def test_a_jpeg_of_nothing_but_fill_bytes_has_no_size() -> None:
    assert image_size(io.BytesIO(b"\xff\xd8" + b"\xff" * 100_000)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_is_cut_short_has_no_size(kind: str) -> None:
    data = picture(kind)
    sizes = {image_size(io.BytesIO(data[:length])) for length in range(len(data))}
    assert sizes <= {None, (WIDTH, HEIGHT)}
    assert image_size(io.BytesIO(data[:9])) is None


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "BMP"])
def test_checking_a_file_with_one_huge_chunk_takes_the_memory_of_a_small_piece(kind: str, tmp_path) -> None:
    huge = bytes(24 << 20)
    path = tmp_path / "huge"
    content = {
        "PNG": PNG[:33] + png_chunk(b"zTXt", huge) + PNG[33:],
        "JPEG": picture("JPEG")[:-2] + huge + b"\xff\xd9",
        "WEBP": picture("WEBP") + huge,
        "AVIF": heif(b"avif", b"mif1") + box(b"mdat", huge),
        "BMP": picture("BMP") + huge,
    }
    with path.open("w+b") as file:
        result = ResultFile(file, max_bytes=1 << 30, image=True)
        result.write(content[kind])
        tracemalloc.start()
        try:
            found = result.finish(None)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
    assert (found.width, found.height) == (WIDTH, HEIGHT)


# ------------------------------------------------------------------ result files


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("declared", [None, "application/octet-stream", "image/png", "text/html"])
def test_the_signature_of_a_result_counts_more_than_what_is_declared(kind: str, declared: str | None) -> None:
    found = finish(picture(kind), declared)
    assert (found.content_type, found.width, found.height) == (f"image/{kind.lower()}", WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [8, 12, 20, 40, 200, 0.5, 0.99, -1])
def test_an_image_that_is_cut_short_is_refused(kind: str, keep: float) -> None:
    data = picture(kind)
    with pytest.raises(ValueError, match=r"broken|cut short|not an image"):
        finish(data[: keep if isinstance(keep, int) else int(len(data) * keep)])


@pytest.mark.parametrize("keep", [20, 27, 31, 40, 130, 135, -1])
def test_a_video_that_is_cut_short_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match="cut short"):
        finish(FILM[:keep], "video/mp4", image=False)


@pytest.mark.parametrize(
    "last",
    [b"", box(b"mdat", bytes(50), length=0), box(b"mdat", (66).to_bytes(8, "big") + bytes(50), length=1)],
    ids=["as it is", "up to the end", "with a long length"],
)
def test_a_whole_video_is_accepted(last: bytes) -> None:
    found = finish(FILM + last, None, image=False)
    assert (found.content_type, found.width) == ("video/mp4", None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bytes_after_the_end_of_an_image_that_readers_ignore_are_accepted(kind: str) -> None:
    assert finish(picture(kind) + bytes(9)).width == WIDTH


def test_an_image_of_billions_of_pixels_is_accepted_with_its_size() -> None:
    header = (60_000).to_bytes(4, "big") * 2 + PNG[24:29]
    found = finish(PNG[:8] + png_chunk(b"IHDR", header) + PNG[33:])
    assert (found.width, found.height) == (60_000, 60_000)


@pytest.mark.parametrize("kind", ["HEIC", "BMP", "GIF", "animated GIF", "TIFF"])
def test_a_result_of_another_image_format_is_accepted_with_its_own_media_type(kind: str) -> None:
    data, content_type, *_ = OTHER_FILES[kind]
    assert finish(data, "image/png").content_type == content_type


def test_an_avif_whose_size_is_missing_has_a_broken_header() -> None:
    with pytest.raises(ValueError, match="header is broken"):
        finish(heif(b"avif", b"mif1", sizes=()))


def test_a_png_with_a_flipped_bit_is_damaged() -> None:
    data = bytearray(PNG)
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        finish(bytes(data))


@pytest.mark.parametrize("kind", ["HTML", "HTML after a byte order mark"])
@pytest.mark.parametrize("declared", [None, "text/html", "text/plain", "image/png"])
@pytest.mark.parametrize("image", [True, False])
def test_a_web_page_is_never_a_result(kind: str, declared: str | None, image: bool) -> None:
    with pytest.raises(ValueError, match="web page"):
        finish(NAMELESS_FILES[kind][0], declared, image=image)


@pytest.mark.parametrize("data", [b"", b"x", b'{"error": "x"}', bytes(500), b"%PDF-1.7", b"RIFF1234WAVE"])
def test_a_result_that_must_be_an_image_and_is_not_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an image but"):
        finish(data)


def test_a_result_of_any_kind_keeps_its_declared_media_type() -> None:
    assert finish(b"hello", "text/plain; charset=utf-8", image=False).content_type == "text/plain"
    assert finish(b"hello", None, image=False).content_type == "application/octet-stream"


def test_an_office_document_keeps_its_declared_media_type_though_it_is_a_zip_archive() -> None:
    declared = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert finish(b"PK\3\4" + bytes(20), declared, image=False).content_type == declared


def test_a_result_that_is_declared_as_an_image_and_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="not image/png but text"):
        finish(b"hello", "image/png", image=False)


def test_a_result_file_forgets_an_earlier_body_when_the_next_one_begins() -> None:
    file = io.BytesIO()
    result = ResultFile(file, max_bytes=1 << 20, image=True)
    result.write(b"half of an earlier try")
    result.begin({"content-length": str(len(PNG))})
    result.write(PNG)
    assert (result.size, result.expected, file.getvalue()) == (len(PNG), len(PNG), PNG)
    assert result.finish("image/png").size == len(PNG)


@pytest.mark.parametrize(
    "headers", [{}, {"content-length": "12x"}, {"content-length": "9", "content-encoding": "gzip"}]
)
def test_a_length_that_says_nothing_about_the_body_is_not_expected(headers: dict[str, str]) -> None:
    result = ResultFile(io.BytesIO(), max_bytes=100, image=True)
    result.begin(headers)
    assert result.expected is None


def test_a_result_that_is_too_large_is_refused_as_it_is_announced_or_as_it_arrives() -> None:
    result = ResultFile(io.BytesIO(), max_bytes=1 << 20, image=True)
    with pytest.raises(SegmindOutputError, match=r"larger than 1 MiB.*'max_result_mb'"):
        result.begin({"content-length": str((1 << 20) + 1)})
    result.begin({})
    result.write(bytes(1 << 20))
    with pytest.raises(SegmindOutputError, match="larger than 1 MiB"):
        result.write(b"x")
