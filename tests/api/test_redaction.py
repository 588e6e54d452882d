"""What must not be told."""

from __future__ import annotations

import logging
import time

import httpx
import pytest

from airflow_provider_segmind.api.redaction import MAX_TEXT, redact, redact_httpx_log, shareable_url

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
        ("sg_0123456789abcdef and apikeySG_0123456789abcdef", "*** and apikey***"),
        (r"at https:\/\/b\/k.png?X-Amz-Signature=dead now", r"at https:\/\/b\/k.png now"),
        (
            "at https://b/my photo.png?X-Amz-Signature=dead&a=1 now",
            "at https://b/my photo.png?X-Amz-Signature=***&a=1 now",
        ),
        ("at b.s3.amazonaws.com/k?X-Amz-Signature=dead", "at b.s3.amazonaws.com/k?X-Amz-Signature=***"),
        ("at s3://b/k?X-Amz-Signature=dead", "at s3://b/k"),
        ("at b%2Fk%3FX-Amz-Signature%3Ddead%26x%3D1", "at b%2Fk%3FX-Amz-Signature%3D***"),
        ("at https://b/k?name='it'&X-Goog-Signature=dead", "at https://b/k'it'&X-Goog-Signature=***"),
        (r"at b/k?a=1\u0026sig\u003ddead", r"at b/k?a=1\u0026sig\u003d***"),
        ("at ftp://bob:pw@h/f", "at ftp://h/f"),
        (r"at redis:\/\/:p@w?x@h\/0", r"at redis:\/\/h\/0"),
        ("at ftp%3A%2F%2Fbob%3Apw%40h", "at ftp%3A%2F%2Fh"),
        ("image " + "\n".join(["QUJD" * 19] * 9) + "\nQUJD= it is", "image [data] it is"),
        (repr("\r\n".join(["QUJD" * 19] * 9)), "'[data]'"),
        ("two\nlines\r\n\x1b[31mred\x00", "two lines [31mred"),
        ("a\u2028b\x85c", "a b c"),
        (404, "404"),
        (None, "None"),
        (ValueError("x"), "x"),
    ],
)
def test_texts_are_cleaned(text, expected):
    assert redact(text, ("team-key", "")) == expected


@pytest.mark.parametrize(
    "text",
    [
        "the model bria-erase-foreground said: is it an image? no; see /opt/airflow/logs/dag_id=x/run_id=y",
        "token expired, signature wrong, 3 of 50 requests left",
        "request 0123456789abcdef0123456789abcdef in " + "two paragraphs of the usual prose " * 8,
    ],
)
def test_ordinary_texts_stay_as_they_are(text):
    assert redact(text) == text.strip()


@pytest.mark.parametrize("text", ["word " * 1000, "é" * 10_000, "\n" * 10_000])
def test_texts_are_shortened(text):
    assert len(redact(text)) <= MAX_TEXT
    assert len(redact(text, limit=20)) <= 20


def test_a_cleaned_text_can_be_written_anywhere():
    redact("\ud800 half a character \udfff").encode("utf-8")


@pytest.mark.parametrize(
    "part",
    [
        "http://",
        "data:",
        "https://a@",
        "A",
        "\x00",
        "SG_",
        "https://a?",
        "data:a/b;",
        "%3A%2F%2F",
        "://a%2",
        "X-Amz-",
        "sig=",
        "A" * 59 + " ",
        "A" * 119 + "\n" * 5,
    ],
)
def test_no_text_takes_long(part):
    """Whatever is asked for: a limit that cuts nothing shows a pattern whose time grows with the square."""
    began = time.perf_counter()
    redact(part * (10_000_000 // len(part)))
    redact(part * (1_000_000 // len(part)), limit=100_000)
    assert time.perf_counter() - began < 2


def test_httpx_logs_addresses_without_what_opens_them(segmind_emulator, caplog):
    caplog.set_level(logging.INFO, "httpx")
    redact_httpx_log()
    redact_httpx_log()
    httpx.get(f"{segmind_emulator.url}/x?X-Amz-Signature=dead".replace("://", "://bob:pw@"), trust_env=False)

    assert f"HTTP Request: GET {segmind_emulator.url}/x " in caplog.text
    assert "bob" not in caplog.text
    assert len([each for each in logging.getLogger("httpx").filters if "redaction" in type(each).__module__]) == 1


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
    assert shareable_url(url) == expected
