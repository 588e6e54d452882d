"""Reading: a source is opened where it lies, and what goes wrong is told as what the user should do about it."""

from __future__ import annotations

import errno
import os
import ssl
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from airflow_provider_segmind.api.redaction import redact, redact_httpx_log
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.location import Location, object_store, without_query
from airflow_provider_segmind.files.s3 import s3_errors, s3_hook

CHUNK = 3 << 18  # 768 KiB; a multiple of 3, so that each chunk can be encoded to Base64 on its own
_HTTP_SECONDS = 300.0  # for a whole body: httpx's timeouts never end a slow but steady stream


@contextmanager
def open_location(location: Location) -> Iterator[BinaryIO]:
    """
    Open a local file or an object of another store than S3.

    :raises SegmindInputError: it is missing, forbidden or a folder, or its store cannot be opened
    :raises SegmindStorageError: the disk or the store fails
    """
    if location.kind == "file":
        with open_file(location.uri, location.parameter) as file:
            yield file
        return
    with object_errors(location):
        fs, name = object_store(location)
        with fs.open(name, "rb") as opened:
            yield opened


@contextmanager
def open_chunks(location: Location, aws_conn_id: str | None) -> Iterator[Iterable[bytes]]:
    """
    Open what is anywhere, to be read in chunks of at most 768 KiB.

    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :raises SegmindInputError: it is missing or forbidden, or its URL is invalid
    :raises SegmindStorageError: where it lies is down, slow or fails
    """
    if location.kind == "url":
        with _open_url(location) as chunks:
            yield chunks
    elif location.kind == "s3":
        with s3_errors(location, aws_conn_id):
            client = s3_hook(location, aws_conn_id).get_conn()
            body = client.get_object(Bucket=location.bucket, Key=location.key)["Body"]
            with body:  # it enters as the raw response, so its name is not given here
                yield body.iter_chunks(CHUNK)
    else:
        with open_location(location) as file:
            yield iter(lambda: file.read(CHUNK), b"")


@contextmanager
def _open_url(location: Location) -> Iterator[Iterable[bytes]]:
    """GET an image from somebody's server, without any key, following redirects."""
    import httpx

    redact_httpx_log()
    timeout, headers, where = httpx.Timeout(30.0, connect=5.0), {"Accept-Encoding": "identity"}, location.where
    try:
        with httpx.stream(
            "GET", location.uri, follow_redirects=True, timeout=timeout, headers=headers, verify=_trust(where)
        ) as response:
            status = response.status_code
            if status >= 500 or status in {408, 429}:
                raise SegmindStorageError(f"{where}: its server responded with HTTP {status}. Try again later.")
            if not response.is_success:
                raise SegmindInputError(
                    f"{where}: its server responded with HTTP {status}. Check that the URL is right and has not "
                    "expired."
                )
            yield _before_deadline(response.iter_bytes(), where)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects, UnicodeError) as error:
        raise SegmindInputError(
            f"{where} cannot be fetched ({type(error).__name__}). Check the URL and the proxy variables."
        ) from error
    except ImportError as error:  # a SOCKS proxy in the environment
        raise SegmindInputError(f"{where} cannot be fetched ({error}). Or set an HTTP proxy.") from error
    except (httpx.HTTPError, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise SegmindInputError(
                f"{where}: the certificate of its server cannot be verified ({redact(error, limit=200)}). Put its CA "
                "into the bundle that SSL_CERT_FILE or REQUESTS_CA_BUNDLE names."
            ) from error
        raise SegmindStorageError(
            f"{where}: its server cannot be read ({type(error).__name__}). Try again later."
        ) from error


def _trust(where: str) -> ssl.SSLContext | bool:
    """Return the CA bundle of REQUESTS_CA_BUNDLE, which httpx does not read; ``True`` for its own choice."""
    path = os.environ.get("REQUESTS_CA_BUNDLE")
    if not path or os.environ.get("SSL_CERT_FILE"):
        return True
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise SegmindInputError(f"{where}: the CA bundle of REQUESTS_CA_BUNDLE cannot be read ({error}).") from error


def _before_deadline(pieces: Iterable[bytes], where: str) -> Iterator[bytes]:
    """Gather pieces into chunks, checking the clock as each piece arrives: a slow stream may never fill a chunk."""
    deadline = time.monotonic() + _HTTP_SECONDS
    pending = bytearray()
    for piece in pieces:
        if time.monotonic() > deadline:
            raise SegmindStorageError(f"{where} takes longer than {_HTTP_SECONDS:g} s. Try again later.")
        pending += piece
        if len(pending) >= CHUNK:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


@contextmanager
def open_file(path: str | os.PathLike[str], parameter: str) -> Iterator[BinaryIO]:
    """
    Open a local file for reading. Python's own errors name a path in full, so they are not chained to these.

    :param parameter: what errors call the path
    :raises SegmindInputError: it is missing, unreadable, a folder or another thing than a file
    :raises SegmindStorageError: the disk fails
    """
    text = without_query(os.fspath(path))
    where = f"{parameter}: {text!r}"
    try:
        refuse_unless_file(Path(path), where)  # before it is opened: opening a pipe waits for its other end
        with Path(path).open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        key = "" if text.startswith(("/", ".")) else f" If it is a key in S3, write s3://bucket/{text}."
        raise SegmindInputError(
            f"{where}: no such file on this worker. Check the path, and that every worker sees that disk.{key}"
        ) from None
    except PermissionError:
        raise SegmindInputError(f"{where} cannot be read. Let the worker's user read it.") from None
    except OSError as error:
        raise SegmindStorageError(f"{where} cannot be read: {error.strerror or error}.") from None


def refuse_unless_file(path: Path, where: str) -> None:
    """
    Refuse a path at which there is something else than a regular file.

    :param where: how the error begins
    :raises SegmindInputError: it is a folder, a pipe or a device, or Linux can have no such path
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        reason = getattr(error, "strerror", error)
        raise SegmindInputError(f"{where} is not a path ({reason}). Give the path of a file.") from None
    if not stat.S_ISREG(mode):
        what = "a folder. Name a file in it" if stat.S_ISDIR(mode) else "not a regular file. Name one"
        raise SegmindInputError(f"{where} is {what}.")


@contextmanager
def object_errors(location: Location) -> Iterator[None]:
    """
    Convert what a store's file system raises into what the user should do about it.

    :raises SegmindInputError: missing, forbidden or a folder: the user must act
    :raises SegmindStorageError: anything else: a retry may succeed
    """
    where = location.where
    try:
        yield
    except (SegmindInputError, SegmindStorageError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegmindInputError(f"{where}: the store has no such object or bucket. Check the name.") from error
    except IsADirectoryError as error:
        raise SegmindInputError(f"{where} is a folder. Name an object in it.") from error
    except PermissionError as error:
        raise SegmindInputError(f"{where}: the store refused access. Check its connection.") from error
    except Exception as error:  # each fsspec implementation brings errors of its own
        raise SegmindStorageError(f"{where}: the store failed ({type(error).__name__}). Try again later.") from error
