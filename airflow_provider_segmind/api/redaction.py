"""Texts from outside, made fit for logs, events and exceptions."""

from __future__ import annotations

import re

MAX_TEXT = 400
_KEY = re.compile(r"\bSG_[0-9A-Za-z]{8,}")
_QUERY = re.compile(r"(https?://[^\s\"'<>?#]+)[?#][^\s\"'<>]*", re.IGNORECASE)
_USERINFO = re.compile(r"(https?://)[^\s\"'<>/@]+@", re.IGNORECASE)
_BLOB = re.compile(r"(?:data:[\w/+.;=-]*,)?[A-Za-z0-9+/_-]{120,}={0,2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def clean(text: object, secrets: tuple[str, ...] = (), *, limit: int = MAX_TEXT) -> str:
    """
    Shorten a text and take out what must not be told: keys, signed queries, image data, control characters.

    :param secrets: exact strings to take out besides, such as the connection's key
    :param limit: characters kept
    """
    said = str(text)[: 10 * limit]
    for secret in secrets:
        if secret:
            said = said.replace(secret, "***")
    said = _USERINFO.sub(r"\1", said)
    said = _QUERY.sub(r"\1", said)
    said = _BLOB.sub("[data]", said)
    said = _KEY.sub("***", said)
    said = _CONTROL.sub(" ", said).strip()
    return said if len(said) <= limit else said[: limit - 1] + "…"


def public_link(url: str | None) -> str | None:
    """Return an address fit for XCom and events: one with a query or user info may open more, and is withheld."""
    if not url:
        return None
    authority = url.partition("://")[2].partition("/")[0]
    return None if "?" in url or "#" in url or "@" in authority else url
