"""Texts from outside, made fit for logs, events and exceptions."""

from __future__ import annotations

import logging
import re

MAX_TEXT = 400
_KEY = re.compile(r"SG_[0-9A-Z]{8,}", re.IGNORECASE)
_USERINFO = re.compile(r"(:(?:\\?/){2})[^\s\"'<>/]*@|(%3A%2F%2F)(?:[^\s\"'<>%]|%(?!2F|40))*%40", re.IGNORECASE)
_QUERY = re.compile(r"(:(?:\\?/){2}[^\s\"'<>?#]+)(?:[?#][^\s\"'<>]*)?")  # always matches: none is scanned twice
_SIGNATURE = re.compile(
    r"((?:X-(?:Amz|Goog)-[\w-]{1,40}|Signature|sig|AWSAccessKeyId|token)(?:=|%3D|\\u003d))[^&\s\"'<>]+", re.IGNORECASE
)
"""A signature is known by its parameter's name, whatever is left of the URL around it."""
_WRAP = r"(?:\s|\\[rn]){1,4}"
_BLOB = re.compile(
    # Lines of a run that was wrapped, the last of them shorter, or one long run: no prose has such words.
    r"(?:data:[\w/+.;=-]*,)?(?<![\w+/-])(?:"
    rf"[\w+/-]{{60,}}+(?:{_WRAP}[\w+/-]{{60,}}+)+(?:={{1,2}}|{_WRAP}(?:[\w+/-]{{20,}}={{0,2}}|[\w+/-]*={{1,2}}(?!\w)))?"
    r"|[\w+/-]{120,}={0,2})",
    re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def redact(text: object, secrets: tuple[str, ...] = (), *, limit: int = MAX_TEXT) -> str:
    """
    Shorten a text and take out what must not be told: keys, signed queries, image data, control characters.

    :param secrets: exact strings to take out besides, such as the connection's key
    :param limit: characters kept
    """
    said = str(text)[: 10 * limit]
    for secret in secrets:
        if secret:
            said = said.replace(secret, "***")
    said = _USERINFO.sub(r"\1\2", said)
    said = _QUERY.sub(r"\1", said)
    said = _SIGNATURE.sub(r"\1***", said)
    said = _BLOB.sub("[data]", said)
    said = _KEY.sub("***", said)
    said = _CONTROL.sub(" ", said).strip()
    return said if len(said) <= limit else said[: limit - 1] + "…"


def shareable_url(url: str | None) -> str | None:
    """Return an address fit for XCom and events: one with a query or user info may open more, and is withheld."""
    if not url:
        return None
    authority = url.partition("://")[2].partition("/")[0]
    return None if "?" in url or "#" in url or "@" in authority else url


class _CleanAddresses(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):  # its URL objects are known by what they can do: no httpx in here
            record.args = tuple(redact(arg) if hasattr(arg, "copy_with") else arg for arg in record.args)
        return True


_clean_addresses = _CleanAddresses()


def redact_httpx_log() -> None:
    """Keep signed queries and user info out of the line that httpx logs for each request; once is enough."""
    logging.getLogger("httpx").addFilter(_clean_addresses)
