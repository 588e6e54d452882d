"""Each type of image is decoded correctly, or refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from airflow_provider_segmind.emulator.erase import erase_foreground
from airflow_provider_segmind.emulator.input_images import MAX_PIXELS, InvalidInputError, open_image

from .image_samples import (
    ACCEPTED,
    REFUSED,
    STORED,
    oriented,
    png_header,
    red_green_swapped_profile,
    save,
    two_frames,
    webp_header,
)
from .photos import decode, inline, photo, scene, subject_pixels


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ACCEPTED)
def test_the_subject_of_each_accepted_type_is_erased_and_the_background_keeps_its_colour(name):
    content, background = ACCEPTED[name]
    result = decode(erase_foreground(content, preserve_alpha=False)).astype(int)
    assert result.shape == (120, 160, 3)
    assert np.abs(result[20, 20] - background).max() <= 8
    assert np.abs(result[60, 80] - background).max() <= 40


@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_turned_upright_by_each_exif_orientation(orientation):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2) * 40
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = save(Image.fromarray(STORED[orientation](upright)), "PNG", exif=exif.tobytes())
    assert np.array_equal(np.asarray(open_image(content)), upright)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "MPO"])
def test_the_exif_orientation_is_applied_for_each_type(kind):
    assert open_image(oriented(kind, 6)).size == (160, 120)


def test_an_invalid_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert open_image(save(Image.fromarray(scene()), "JPEG", exif=exif.tobytes())).size == (160, 120)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colours_are_converted_from_the_embedded_icc_profile(kind):
    picture = Image.new("RGB", (60, 40), (220, 20, 20))
    content = save(picture, kind, icc_profile=red_green_swapped_profile())
    red, green, _ = np.asarray(open_image(content)).reshape(-1, 3).mean(axis=0)
    assert green > 150 > 60 > red


def test_an_icc_profile_does_not_change_the_transparency():
    picture = Image.new("RGBA", (60, 40), (220, 20, 20, 100))
    content = save(picture, "PNG", icc_profile=red_green_swapped_profile())
    assert set(open_image(content).getchannel("A").tobytes()) == {100}


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "alpha" in name or "transparen" in name])
def test_the_transparency_of_each_type_is_kept(name):
    assert open_image(ACCEPTED[name][0]).mode == "RGBA"


@pytest.mark.parametrize("name", REFUSED)
def test_each_unsupported_type_is_refused_by_its_name(name):
    content, type_name = REFUSED[name]
    with pytest.raises(InvalidInputError) as caught:
        open_image(content)
    assert str(caught.value) == f"Unsupported image type {type_name}; use JPEG, PNG or WEBP"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"just text", "cannot identify the image file", id="text"),
        pytest.param(b"\xff\xd8\xff", "damaged or cut short", id="start of a JPEG"),
        pytest.param(photo("JPEG")[:1200], "damaged or cut short", id="truncated JPEG"),
        pytest.param(photo("PNG")[:200], "damaged or cut short", id="truncated PNG"),
        pytest.param(photo("WEBP")[:100], "damaged or cut short", id="truncated WEBP"),
        pytest.param(two_frames()[:1200], "damaged or cut short", id="truncated MPO"),
        pytest.param(png_header(0, 10), "damaged or cut short", id="no width"),
        pytest.param(png_header(10_000, 10_000), f"more than {MAX_PIXELS} pixels", id="100 megapixels"),
        pytest.param(png_header(100_000, 100_000), f"more than {MAX_PIXELS} pixels", id="decompression bomb"),
        # Older versions of Pillow notice the missing frame before the dimensions.
        pytest.param(webp_header(16_000, 16_000), "more than|damaged or cut short", id="WEBP decompression bomb"),
    ],
)
def test_an_unusable_file_is_refused_with_the_reason(content, text):
    with pytest.raises(InvalidInputError, match=text):
        open_image(content)


def test_a_job_with_a_heic_fails_without_being_billed(client):
    body = client.run(inline(REFUSED["HEIC of an iPhone"][0])).json()
    assert (body["status"], body["error"]) == ("FAILED", "Unsupported image type HEIC; use JPEG, PNG or WEBP")
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}


def test_a_job_erases_a_phone_photo_with_a_second_frame_and_an_orientation(client, image_host):
    image_host.files["/phone.jpg"] = oriented("MPO", 8)
    body = client.run(f"{image_host.url}/phone.jpg").json()
    result = client.get(body["output"]).content
    assert decode(result).shape == (120, 160, 3)
    assert subject_pixels(result) == 0
