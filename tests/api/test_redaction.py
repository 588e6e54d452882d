"""What is taken out of texts from outside."""

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
        ("id AKIAIOSFODNN7EXAMPLE refused", "id *** refused"),
        (404, "404"),
        (None, "None"),
        (ValueError("x"), "x"),
    ],
)
def test_secrets_are_taken_out_of_a_text(text, expected):
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
def test_a_long_text_is_shortened_to_the_limit(text):
    assert len(redact(text)) <= MAX_TEXT
    assert len(redact(text, limit=20)) <= 20


S3_ERROR = (
    "An error occurred (AccessDenied) when calling the PutObject operation: User: "
    + "arn:aws:sts::123456789012:assumed-role/a-role-with-a-long-name/a-session " * 6
    + "is not authorized: the bucket requires ServerSideEncryption"
)


@pytest.mark.parametrize("filling", ["", "x " * 10_000, "QUJD" * 10_000 + " "])
def test_a_shortened_text_keeps_its_start_and_the_reason_at_its_end(filling):
    said = redact(S3_ERROR.replace("is not", filling + "is not"))
    assert len(said) <= MAX_TEXT
    assert said.startswith("An error occurred (AccessDenied) when calling the PutObject operation")
    assert said.endswith("is not authorized: the bucket requires ServerSideEncryption")


@pytest.mark.parametrize("shift", range(0, 60, 3))
@pytest.mark.parametrize("secret", ["https://a.b/c?X-Amz-Signature=deadbeefdeadbeefdeadbeef", KEY])
def test_a_secret_that_is_torn_when_a_long_text_is_cut_leaves_no_part(secret, shift):
    """The image data around it is replaced by a few letters, so the place of the cut is in what remains."""
    image = "QUJD" * 985
    text = f"{image} {'w' * shift} {secret} " + "middle " * 2000 + f" {secret} {'w' * shift} {image}"
    said = redact(text)
    assert "dead" not in said
    assert "0123" not in said
    assert "cdef" not in said


def test_a_redacted_text_is_valid_unicode():
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
def test_no_text_takes_seconds_to_redact(part):
    """The second, high limit keeps the whole text, so that a pattern with quadratic time would show."""
    began = time.process_time()
    redact(part * (10_000_000 // len(part)))
    redact(part * (1_000_000 // len(part)), limit=100_000)
    assert time.process_time() - began < 20  # CPU seconds; quadratic time would be many minutes


def test_httpx_logs_addresses_without_user_info_and_query(segmind_emulator, caplog):
    caplog.set_level(logging.INFO, "httpx")
    redact_httpx_log()
    redact_httpx_log()
    httpx.get(f"{segmind_emulator.url}/x?X-Amz-Signature=dead".replace("://", "://bob:pw@"), trust_env=False)

    assert f"HTTP Request: GET {segmind_emulator.url}/x " in caplog.text
    assert "bob" not in caplog.text
    assert (
        len([each for each in logging.getLogger("httpx").filters if "redaction" in getattr(each, "__module__", "")])
        == 1
    )


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
def test_an_address_with_a_query_a_fragment_or_user_info_is_not_shareable(url, expected):
    assert shareable_url(url) == expected
