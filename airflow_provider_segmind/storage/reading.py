"""What the worker reads of an image: opened where it lies, and refused before it is sent if it is none."""

from __future__ import annotations

import time
from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from airflow_provider_segmind.api.local_files import opened
from airflow_provider_segmind.api.media import extension_of, is_html, sniff
from airflow_provider_segmind.api.redaction import quiet_httpx
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.storage.locations import split_s3
from airflow_provider_segmind.storage.s3 import s3_errors, s3_hook

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


def refuse_unless_image(head: bytes, label: str) -> None:
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
            refuse_unless_image(chunk[:512], label)
        total += len(chunk)
        if total > limit:
            raise SegmindInputError(f"image: {label} is larger than {limit >> 20} MiB: {remedy}")
        yield chunk
    if not total:
        refuse_unless_image(b"", label)


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

    quiet_httpx()
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
    """Open a local file; for its errors see :func:`~airflow_provider_segmind.api.local_files.opened`."""
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
