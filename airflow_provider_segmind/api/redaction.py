"""
Making texts from outside fit for logs, events, XCom and errors: no keys, no signatures, no image data, not too long.

A service may quote any URL or key, so everything that looks like a secret is removed, not only the connection's key.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

MAX_TEXT = 400  # characters of a text from outside in a log or an error
_GAP = " … "
# Segmind's keys and AWS's key ids.
_KEY = re.compile(r"(?i:SG_[0-9A-Z]{8,})|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", re.ASCII)
_USERINFO = re.compile(r"(:(?:\\?/){2})[^\s\"'<>/]*@|(%3A%2F%2F)(?:[^\s\"'<>%]|%(?!2F|40))*%40", re.IGNORECASE)
# The query is optional so that the pattern matches every URL: then no URL is scanned twice.
_QUERY = re.compile(r"(:(?:\\?/){2}[^\s\"'<>?#]+)(?:[?#][^\s\"'<>]*)?")
# A signature is recognised by its parameter's name, because the URL around it may be torn or encoded.
_SIGNATURE = re.compile(
    r"((?:X-(?:Amz|Goog)-[\w-]{1,40}|Signature|sig|AWSAccessKeyId|token)(?:=|%3D|\\u003d))[^&\s\"'<>]+", re.IGNORECASE
)
# Base64: several lines of 60 characters or more and perhaps a shorter last one, or one run of 120 or more. Prose has
# no such words.
_WRAP = r"(?:\s|\\[rn]){1,4}"
_BLOB = re.compile(
    r"(?:data:[\w/+.;=-]*,)?(?<![\w+/-])(?:"
    rf"[\w+/-]{{60,}}+(?:{_WRAP}[\w+/-]{{60,}}+)+(?:={{1,2}}|{_WRAP}(?:[\w+/-]{{20,}}={{0,2}}|[\w+/-]*={{1,2}}(?!\w)))?"
    r"|[\w+/-]{120,}={0,2})",
    re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_FIRST_WORD = re.compile(r"\A[^\s\"'<>]*")


def redact(text: object, secrets: Sequence[str] = (), *, limit: int = MAX_TEXT) -> str:
    """
    Remove secrets and noise (keys, user info, queries, signatures, image data, control characters), and shorten.

    A text longer than ``limit`` loses its middle: an S3 error names the operation at its start, the reason at its end.
    """
    said = str(text)
    for secret in secrets:
        if secret:
            said = said.replace(secret, "***")
    said = _cut_before_cleaning(said, max(5 * limit, 4000))
    said = _USERINFO.sub(r"\1\2", said)
    said = _QUERY.sub(r"\1", said)
    said = _SIGNATURE.sub(r"\1***", said)
    said = _BLOB.sub("[data]", said)
    said = _KEY.sub("***", said)
    said = _CONTROL.sub(" ", said).strip()
    if len(said) <= limit:
        return said
    tail = (limit - len(_GAP)) // 2
    return said[: limit - len(_GAP) - tail] + _GAP + said[len(said) - tail :]


def _cut_before_cleaning(text: str, size: int) -> str:
    """
    Cut the middle out of a text of megabytes, which would take seconds to clean.

    A word that the cut has torn is dropped: half a signature no longer has the name by which it is recognised.
    """
    if len(text) <= 2 * size:
        return text
    head, tail = text[:size], text[-size:]
    return _FIRST_WORD.sub("", head[::-1])[::-1] + _GAP + _FIRST_WORD.sub("", tail)


def shareable_url(url: str | None) -> str | None:
    """Return an address that is fit for XCom and events: no query, fragment or user info that may open more files."""
    if not url:
        return None
    authority = url.partition("://")[2].partition("/")[0]
    return None if "?" in url or "#" in url or "@" in authority else url


def _redact_urls(record: logging.LogRecord) -> bool:
    """Redact the URL objects among a record's arguments; they are known by a method, so httpx is not imported."""
    if isinstance(record.args, tuple):
        record.args = tuple(redact(arg) if hasattr(arg, "copy_with") else arg for arg in record.args)
    return True


def redact_httpx_log() -> None:
    """Keep queries and user info out of the line that httpx logs for each request. Calling it twice does no harm."""
    logging.getLogger("httpx").addFilter(_redact_urls)
