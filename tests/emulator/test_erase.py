from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground

from .photos import decode, encode, photo, scene, subject_pixels


def test_the_subject_is_gone():
    assert subject_pixels(photo()) > 1000
    assert subject_pixels(erase_foreground(photo(), preserve_alpha=True)) == 0


def test_pixels_far_from_the_subject_are_unchanged():
    before, after = scene(), decode(erase_foreground(photo(), preserve_alpha=True))
    assert np.array_equal(before[:15, :20], after[:15, :20])


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (333, 207), (1200, 900)])
def test_the_result_has_the_dimensions_of_the_photo(size):
    width, height = size
    result = decode(erase_foreground(photo(width=width, height=height), preserve_alpha=True))
    assert result.shape == (height, width, 3)


def test_an_image_of_a_single_colour_is_returned_unchanged():
    grey = np.full((50, 60, 3), 128, np.uint8)
    assert np.array_equal(decode(erase_foreground(encode(grey), preserve_alpha=True)), grey)


def test_the_middle_is_erased_if_no_subject_can_be_found():
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    after = decode(erase_foreground(encode(noise), preserve_alpha=True))
    assert np.abs(after[40:50, 40:50].astype(int) - noise[40:50, 40:50]).mean() > 20


def test_preserve_alpha_keeps_the_transparency():
    picture = _half_transparent()
    result = decode(erase_foreground(encode(picture), preserve_alpha=True))
    assert np.array_equal(result[:, :, 3], picture[:, :, 3])


def test_without_preserve_alpha_the_result_is_opaque_on_white():
    result = decode(erase_foreground(encode(_half_transparent()), preserve_alpha=False))
    assert result.shape == (120, 160, 3)
    assert (result[:30, :15] == 255).all()


def test_the_result_of_the_same_photo_is_cached():
    content = photo(width=1200, height=900)
    first = erase_foreground(content, preserve_alpha=True)
    assert erase_foreground(content, preserve_alpha=True) is first


def _half_transparent():
    alpha = np.full((120, 160), 255, np.uint8)
    alpha[:40, :40] = 0
    alpha[80:, 80:] = 100
    return np.dstack([scene(), alpha])
