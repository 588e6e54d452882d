"""Where images come from: what a user gave is recognised, checked, and put into the form that reaches Segmind."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from airflow_provider_segmind.api.local_files import MAX_UPLOAD_BYTES, without_query
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.storage import reading
from airflow_provider_segmind.storage.locations import (
    S3_SCHEMES,
    URL_SCHEMES,
    is_object_store,
    is_too_long,
    local_path,
    public,
    scheme_of,
    shown,
    split_s3,
    text_of,
)
from airflow_provider_segmind.storage.s3 import presign

__all__ = ["ImageDelivery", "ImageSource", "deliver_image", "parse_image", "presign"]

ImageDelivery = Literal["auto", "inline", "upload"]

# The request history repeats a request's body, and 10 MiB of an answer are read: of a larger image, a third more as
# Base64, nobody could find out whether it has been paid for.
MAX_INLINE_BYTES = 7 << 20

_ACCEPTED = (
    "give an http(s):// or s3:// URL, a local path (./name for a bare one), file://, the URI of another object "
    "store, a data URI or Base64 of a JPEG, PNG or WEBP"
)
_BASE64_TEXT = re.compile(r"[A-Za-z0-9+/=\s]{64,}")
_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
# Of S3, CloudFront and Google (V2 and V4) and Azure: the name of the parameter that holds the signature.
_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
# What of a signed query tells one object from another.
_VERSIONS = frozenset({"versionid", "generation", "snapshot"})


@dataclass(frozen=True, slots=True)
class ImageSource:
    """
    An image as a user gave it, not opened yet.

    :param kind: how it is read
    :param label: its name in XCom, logs and metadata: no query, no user part, no Base64
    :param stem: the name of a result at a prefix, without extension; ``None`` where the source has no name
    :param identity: what tells this image from another; a URL presigned anew keeps it
    """

    kind: Literal["url", "s3", "file", "object", "inline"]
    label: str
    stem: str | None
    identity: str = field(repr=False)
    value: str = field(repr=False)


def parse_image(image: object) -> ImageSource:
    """
    Recognise what ``image`` is, without opening it.

    :param image: a URL, ``s3://bucket/key``, local path, ``file://``, object store URI, ObjectStoragePath, data URI
        or Base64
    :raises SegmindInputError: it is none of these, empty, has an unknown scheme, no key, or bad Base64
    """
    text = text_of("image", image)
    if text[:5].lower() == "data:":
        return _inline(_data_of(text))
    scheme = scheme_of("image", text)
    if scheme in URL_SCHEMES:
        return _url(text)
    if scheme in S3_SCHEMES:
        location = split_s3("image", text)
        if not location.key or location.key.endswith("/"):
            raise SegmindInputError(f"image is {public(text)!r}, which names no object: write s3://bucket/key")
        uri = "s3" + text[len(scheme) :]
        return ImageSource("s3", public(uri), _stem(location.key), uri, uri)
    if scheme and scheme != "file":
        if not is_object_store(scheme):
            raise SegmindInputError(f"image is {shown(text)}, whose scheme {scheme}:// is unknown: {_ACCEPTED}")
        if text.endswith("/"):
            raise SegmindInputError(f"image is {shown(text)}, a folder: name an object in it")
        return ImageSource("object", public(text), _stem(text), text, text)
    # Before paths: Base64 of a JPEG begins like an absolute path, "/9j/".
    if not scheme and not isinstance(image, os.PathLike) and _is_base64(text):
        return _inline(text)
    if not scheme and not isinstance(image, os.PathLike) and not _is_path(text):
        raise SegmindInputError(f"image is {shown(text)}, neither a URL nor a path nor Base64: {_ACCEPTED}")
    path = local_path("image", text)
    if path.endswith("/"):
        raise SegmindInputError(f"image is {shown(path)}, a folder: name a file in it")
    return ImageSource("file", public(path), _stem(without_query(path, "")), path, path)


def deliver_image(
    source: ImageSource,
    *,
    delivery: ImageDelivery,
    aws_conn_id: str | None,
    valid_for: float,
    upload: Callable[[bytes], str],
) -> str:
    """
    Return what goes into the request: a URL, or Base64 without a ``data:`` prefix.

    :param source: what :func:`parse_image` made
    :param delivery: ``"auto"``: a URL as it is, S3 as a presigned URL, the rest inline; ``"inline"``: the worker
        reads it, up to 7 MiB; ``"upload"``: the worker hands it to ``upload``, up to 100 MiB
    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :param valid_for: seconds that a presigned URL lives, rounded up and at most 7 days
    :param upload: takes bytes and returns the URL at which Segmind finds it
    :raises SegmindInputError: the image is missing, forbidden, empty, too large, or no JPEG, PNG or WEBP
    :raises SegmindStorageError: where it lies is down, slow or fails
    """
    if source.kind == "inline":
        return upload(base64.b64decode(source.value)) if delivery == "upload" else source.value
    if delivery == "auto" and source.kind == "url":
        return source.value
    if delivery == "auto" and source.kind == "s3":
        return presign(source.value, aws_conn_id=aws_conn_id, valid_for=valid_for)
    limit, remedy = MAX_INLINE_BYTES, 'use image_delivery="upload", or put it in S3 (there it goes as a URL)'
    if delivery == "upload":
        limit, remedy = MAX_UPLOAD_BYTES, "make it smaller, or give its URL"
    with _open(source, aws_conn_id) as chunks:
        checked = reading.verified(chunks, source.label, limit=limit, remedy=remedy)
        if delivery != "upload":
            return reading.to_base64(checked)
        data = b"".join(checked)  # whole: Segmind's storage takes it in one JSON body
    # Outside of what opened the source: the upload's own errors are not the source's.
    return upload(data)


def _open(source: ImageSource, aws_conn_id: str | None) -> AbstractContextManager[Iterable[bytes]]:
    if source.kind == "url":
        return reading.open_url(source.value, source.label)
    if source.kind == "s3":
        return reading.open_s3(source.value, aws_conn_id)
    if source.kind == "file":
        return reading.open_file(source.value)
    return reading.open_object(source.value, source.label)


def _url(text: str) -> ImageSource:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # the port is checked by asking for it
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or re.search(r"\s", text):
        raise SegmindInputError(f"image is {shown(text)}, no valid URL: check its host, port and spaces")
    label = public(text)
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(name.lower() in _SIGNATURES for name, _ in pairs):
        query = urlencode([pair for pair in pairs if pair[0].lower() in _VERSIONS])
    name = unquote(parts.path).rpartition("/")[2]
    return ImageSource("url", label, _stem(name), f"{label}?{query}" if query else label, text)


def _data_of(uri: str) -> str:
    header = _DATA_URI.match(uri)
    media_type = header[1].strip().lower() if header else ""
    if not header or "base64" not in header[2].lower().split(";"):
        raise SegmindInputError("image is a data URI without Base64: write data:image/png;base64,...")
    if not media_type.startswith("image/"):
        raise SegmindInputError(f"image is a data URI of {media_type[:40] or 'no media type'!r}: give an image's")
    return uri[header.end() :]


def _inline(text: str) -> ImageSource:
    clean = "".join(text.split())
    if len(clean) // 4 * 3 > MAX_INLINE_BYTES:
        raise SegmindInputError(
            f"image is Base64 of more than {MAX_INLINE_BYTES >> 20} MiB: give its URL, put it in S3, or give a path "
            'and image_delivery="upload"'
        )
    try:
        data = base64.b64decode(clean, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SegmindInputError(
            f"image is Base64 that does not decode ({error}), {len(clean)} characters: check that none were cut off"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    label = f"inline image, {len(data)} bytes, sha256 {digest[:16]}"
    reading.refuse_unless_image(data[:512], label)
    return ImageSource("inline", label, digest[:16], f"sha256:{digest}", clean)


def _is_base64(text: str) -> bool:
    try:
        head = base64.b64decode("".join(text[:64].split())[:16], validate=True)
    except ValueError:
        head = b""
    if len(text) >= 32 and reading.image_extension(head):
        return True
    return not text.startswith(("/", ".", "~")) and _BASE64_TEXT.fullmatch(text) is not None


def _is_path(text: str) -> bool:
    return not is_too_long(text) and "\n" not in text and ("/" in text or text[0] == "~" or bool(Path(text).suffix))


def _stem(name: str) -> str | None:
    """Return a name fit for any store: printable, without extension, with room for one."""
    stem = "".join(c for c in PurePosixPath(name).stem if c.isprintable())
    return stem.encode()[:200].decode(errors="ignore") or None
