"""What must not be told."""

from __future__ import annotations

import time

import pytest

from airflow_provider_segmind.api.redaction import MAX_TEXT, clean, public_link

KEY = "SG_0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"key {KEY} refused", "key *** refused"),
        (f"x-api-key:{KEY}", "x-api-key:***"),
        ("the team-key is wrong", "the *** is wrong"),
        ("see https://a.b/c?X-Amz-Signature=1&x=2 now", "see https://a.b/c now"),
        ("see HTTPS://a.b/c#token", "see HTTPS://a.b/c"),
        ("at https://user:pw@a.b/c", "at https://a.b/c"),
        ("image " + "QUJD" * 100 + "==", "image [data]"),
        ("image data:image/png;base64," + "QUJD" * 100, "image [data]"),
        ("two\nlines\r\n\x1b[31mred\x00", "two lines [31mred"),
        ("a\u2028b\x85c", "a b c"),
        (404, "404"),
        (None, "None"),
        (ValueError("x"), "x"),
    ],
)
def test_texts_are_cleaned(text, expected):
    assert clean(text, ("team-key", "")) == expected


@pytest.mark.parametrize("text", ["word " * 1000, "é" * 10_000, "\n" * 10_000])
def test_texts_are_shortened(text):
    assert len(clean(text)) <= MAX_TEXT
    assert len(clean(text, limit=20)) <= 20


def test_a_cleaned_text_can_be_written_anywhere():
    clean("\ud800 half a character \udfff").encode("utf-8")


@pytest.mark.parametrize("part", ["http://", "data:", "https://a@", "A", "\x00", "SG_", "https://a?", "data:a/b;"])
def test_no_text_takes_long(part):
    began = time.perf_counter()
    clean(part * (2_000_000 // len(part)))
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.b/c.png", "https://a.b/c.png"),
        ("https://a.b/c@2x.png", "https://a.b/c@2x.png"),
        ("https://a.b/c?sig=1", None),
        ("https://a.b/c#x", None),
        ("https://u:p@a.b/c", None),
        ("", None),
        (None, None),
    ],
)
def test_only_an_address_that_opens_nothing_more_is_public(url, expected):
    assert public_link(url) == expected
