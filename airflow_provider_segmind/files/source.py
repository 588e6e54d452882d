"""Where images come from: what a user gave is recognised, checked, and put into the form that reaches Segmind."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import time
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from airflow_provider_segmind.api.redaction import redact_httpx_log
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import extension_of, is_html, sniff
from airflow_provider_segmind.files.local import MAX_UPLOAD_BYTES, opened, without_query
from airflow_provider_segmind.files.location import (
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
from airflow_provider_segmind.files.s3 import presign, s3_errors, s3_hook

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
        checked = verified(chunks, source.label, limit=limit, remedy=remedy)
        if delivery != "upload":
            return to_base64(checked)
        data = b"".join(checked)  # whole: Segmind's storage takes it in one JSON body
    # Outside of what opened the source: the upload's own errors are not the source's.
    return upload(data)


def _open(source: ImageSource, aws_conn_id: str | None) -> AbstractContextManager[Iterable[bytes]]:
    if source.kind == "url":
        return open_url(source.value, source.label)
    if source.kind == "s3":
        return open_s3(source.value, aws_conn_id)
    if source.kind == "file":
        return open_file(source.value)
    return open_object(source.value, source.label)


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
    redact = "".join(text.split())
    if len(redact) // 4 * 3 > MAX_INLINE_BYTES:
        raise SegmindInputError(
            f"image is Base64 of more than {MAX_INLINE_BYTES >> 20} MiB: give its URL, put it in S3, or give a path "
            'and image_delivery="upload"'
        )
    try:
        data = base64.b64decode(redact, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SegmindInputError(
            f"image is Base64 that does not decode ({error}), {len(redact)} characters: check that none were cut off"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    label = f"inline image, {len(data)} bytes, sha256 {digest[:16]}"
    check_image_signature(data[:512], label)
    return ImageSource("inline", label, digest[:16], f"sha256:{digest}", redact)


def _is_base64(text: str) -> bool:
    try:
        head = base64.b64decode("".join(text[:64].split())[:16], validate=True)
    except ValueError:
        head = b""
    if len(text) >= 32 and image_extension(head):
        return True
    return not text.startswith(("/", ".", "~")) and _BASE64_TEXT.fullmatch(text) is not None


def _is_path(text: str) -> bool:
    return not is_too_long(text) and "\n" not in text and ("/" in text or text[0] == "~" or bool(Path(text).suffix))


def _stem(name: str) -> str | None:
    """Return a name fit for any store: printable, without extension, with room for one."""
    stem = "".join(c for c in PurePosixPath(name).stem if c.isprintable())
    return stem.encode()[:200].decode(errors="ignore") or None


CHUNK = 3 << 18  # 768 KiB; a multiple of 3, so that each encodes to Base64 by itself
_HTTP_SECONDS = 300.0  # for the whole body: httpx's timeouts never end a trickle

_NOT_IMAGES = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "gzip data",
}


def image_extension(head: bytes) -> str | None:
    """Return ``.jpg``, ``.png`` or ``.webp`` by the first 12 bytes, ``None`` if it is none of these."""
    kind = sniff(head)
    return extension_of(kind) if kind in ("image/jpeg", "image/png", "image/webp") else None


def check_image_signature(head: bytes, label: str) -> None:
    """
    Check the first bytes of an image.

    :raises SegmindInputError: it is empty, or no JPEG, PNG or WEBP; the text says what it looks like
    """
    if not head:
        raise SegmindInputError(f"image: {label} has 0 bytes: write it anew")
    if image_extension(head) is None:
        raise SegmindInputError(
            f"image: {label} looks like {_looks_like(head)}, whatever its name says: give a JPEG, PNG or WEBP"
        )


def verified(chunks: Iterable[bytes], label: str, *, limit: int, remedy: str) -> Iterator[bytes]:
    """
    Pass an image's chunks on, the first of them checked.

    :param limit: the most bytes that pass
    :param remedy: what to do about an image that is larger
    :raises SegmindInputError: it is empty, no image, or too large
    """
    total = 0
    for chunk in chunks:
        if not total:
            check_image_signature(chunk[:512], label)
        total += len(chunk)
        if total > limit:
            raise SegmindInputError(f"image: {label} is larger than {limit >> 20} MiB: {remedy}")
        yield chunk
    if not total:
        check_image_signature(b"", label)


def to_base64(chunks: Iterable[bytes]) -> str:
    """Encode while reading: the raw image is never whole in memory beside its Base64."""
    text, rest = bytearray(), b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        end = len(data) - len(data) % 3
        text += b2a_base64(memoryview(data)[:end], newline=False)
        rest = data[end:]
    text += b2a_base64(rest, newline=False)
    return text.decode("ascii")


@contextmanager
def open_url(url: str, label: str) -> Iterator[Iterable[bytes]]:
    """
    GET an image from anybody's server: no key, redirects followed.

    :raises SegmindInputError: the server refuses (4xx), or the URL is none
    :raises SegmindStorageError: it is down, slow or fails
    """
    import httpx

    redact_httpx_log()
    timeout, headers = httpx.Timeout(30.0, connect=5.0), {"Accept-Encoding": "identity"}
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=timeout, headers=headers) as response:
            status = response.status_code
            if status >= 500 or status in {408, 429}:
                raise SegmindStorageError(f"image: {label}: its server answered {status}: try again later")
            if not response.is_success:
                raise SegmindInputError(
                    f"image: {label}: its server answered {status}: check that the URL is right and not expired"
                )
            yield _before_deadline(response.iter_bytes(), label)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects, UnicodeError) as error:
        raise SegmindInputError(f"image: {label} cannot be fetched ({type(error).__name__}): check the URL") from error
    except (httpx.HTTPError, OSError) as error:
        raise SegmindStorageError(
            f"image: {label}: its server cannot be read ({type(error).__name__}): try again later"
        ) from error


@contextmanager
def open_s3(uri: str, aws_conn_id: str | None) -> Iterator[Iterable[bytes]]:
    """
    GET an object from S3.

    :raises SegmindInputError: it is missing or forbidden
    :raises SegmindStorageError: S3 is down, slow or fails
    """
    bucket, key, _ = split_s3("image", uri)
    with s3_errors("image", uri, aws_conn_id):
        body = s3_hook(uri, aws_conn_id).get_conn().get_object(Bucket=bucket, Key=key)["Body"]
        with body:
            yield body.iter_chunks(CHUNK)


@contextmanager
def open_file(path: str) -> Iterator[Iterable[bytes]]:
    """Open a local file; for its errors see :func:`~airflow_provider_segmind.files.local.opened`."""
    with opened(path, "image") as file:
        yield _chunks(file)


@contextmanager
def open_object(uri: str, label: str) -> Iterator[Iterable[bytes]]:
    """
    Open an object of another store through ObjectStoragePath.

    :raises SegmindInputError: it is missing, forbidden or a folder, or its provider is not installed
    :raises SegmindStorageError: the store fails
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    with object_errors("image", label):
        path: Any = ObjectStoragePath(uri)  # untyped on some Airflow versions
        with path.open("rb") as file:
            yield _chunks(file)


@contextmanager
def object_errors(parameter: str, label: str) -> Iterator[None]:
    """
    Turn what a store's file system raises into what the user should do about it.

    :raises SegmindInputError: missing, forbidden, a folder, no provider for the scheme: the user mends it
    :raises SegmindStorageError: anything else: a retry may do
    """
    where = f"{parameter}: {label}"
    try:
        yield
    except (SegmindInputError, SegmindStorageError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegmindInputError(f"{where}: the store has no such object or bucket: check the name") from error
    except IsADirectoryError as error:
        raise SegmindInputError(f"{where} is a folder: name an object in it") from error
    except PermissionError as error:
        raise SegmindInputError(f"{where}: the store refused access: check its connection") from error
    except (ImportError, ValueError) as error:
        raise SegmindInputError(
            f"{where}: Airflow cannot open this store: install its provider with the fsspec extra ({error})"
        ) from error
    except Exception as error:  # each fsspec implementation brings errors of its own
        raise SegmindStorageError(f"{where}: the store failed ({type(error).__name__}): try again later") from error


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK), b"")


def _before_deadline(pieces: Iterable[bytes], label: str) -> Iterator[bytes]:
    """Gather pieces, looking at the clock as each arrives: a trickle never fills a chunk."""
    deadline = time.monotonic() + _HTTP_SECONDS
    pending = bytearray()
    for piece in pieces:
        if time.monotonic() > deadline:
            raise SegmindStorageError(f"image: {label} takes longer than {_HTTP_SECONDS:g} s: try again later")
        pending += piece
        if len(pending) >= CHUNK:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def _looks_like(head: bytes) -> str:
    for signature, name in _NOT_IMAGES.items():
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        return "HEIC, AVIF or a video"
    if is_html(head):
        return "an HTML page"
    if head.lstrip().lower().startswith((b"<svg", b"<?xml")):
        return "SVG or XML"
    printable = sum(byte >= 32 or byte in b"\t\r\n" for byte in head)
    return "text" if b"\0" not in head and printable == len(head) else f"unknown data ({head[:8].hex(' ')})"
