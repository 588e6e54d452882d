from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_segmind.emulator.erase import erase_foreground

from .photos import decode, encode, photo, scene, subject_pixels


def test_the_subject_is_gone():
    assert subject_pixels(photo()) > 1000
    assert subject_pixels(erase_foreground(photo(), preserve_alpha=True)) == 0


def test_what_is_far_from_the_subject_stays_as_it_was():
    before, after = scene(), decode(erase_foreground(photo(), preserve_alpha=True))
    assert np.array_equal(before[:15, :20], after[:15, :20])


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (333, 207), (1200, 900)])
def test_the_size_stays(size):
    width, height = size
    result = decode(erase_foreground(photo(width=width, height=height), preserve_alpha=True))
    assert result.shape == (height, width, 3)


def test_a_picture_of_one_colour_is_no_error():
    grey = np.full((50, 60, 3), 128, np.uint8)
    assert np.array_equal(decode(erase_foreground(encode(grey), preserve_alpha=True)), grey)


def test_a_subject_that_fills_the_picture_is_still_erased_in_the_middle():
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    after = decode(erase_foreground(encode(noise), preserve_alpha=True))
    assert np.abs(after[40:50, 40:50].astype(int) - noise[40:50, 40:50]).mean() > 20


def test_transparency_is_kept_on_demand():
    picture = _half_transparent()
    result = decode(erase_foreground(encode(picture), preserve_alpha=True))
    assert np.array_equal(result[:, :, 3], picture[:, :, 3])


def test_without_preserve_alpha_the_result_is_opaque_and_white_where_nothing_was():
    result = decode(erase_foreground(encode(_half_transparent()), preserve_alpha=False))
    assert result.shape == (120, 160, 3)
    assert (result[:30, :15] == 255).all()


def test_the_same_photo_is_erased_only_once():
    content = photo(width=1200, height=900)
    first = erase_foreground(content, preserve_alpha=True)
    assert erase_foreground(content, preserve_alpha=True) is first


def _half_transparent():
    alpha = np.full((120, 160), 255, np.uint8)
    alpha[:40, :40] = 0
    alpha[80:, 80:] = 100
    return np.dstack([scene(), alpha])
