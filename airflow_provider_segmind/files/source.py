"""Sources: what a user gave as an image is recognised, inspected, and put into the form that reaches Segmind."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit

from airflow_provider_segmind.api.operation import BodyReceiver, Operation, Request, TransportFailure, send
from airflow_provider_segmind.api.parsing import decode_base64, split_data_uri
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import HEAD, describe, file_digest, image_size, sniff
from airflow_provider_segmind.files.location import (
    URL_SCHEMES,
    Location,
    is_too_long,
    object_store,
    open_file,
    parse_location,
    quoted,
    scheme_of,
    text_of,
    unusable,
    without_query,
)
from airflow_provider_segmind.files.s3 import presign, read_head, s3_errors, s3_hook

ImageDelivery = Literal["auto", "inline", "upload"]

MAX_INLINE_BYTES = 7 << 20
"""The request history repeats a request's body, and 10 MiB of a response are read. Whether an image whose Base64 is
larger than that has been paid for could not be found out."""
MAX_UPLOAD_BYTES = 100 << 20
"""The most that is sent to Segmind's storage, in one JSON body."""

HEAD_BYTES = 256 << 10
"""What is read of an object in S3: a JPEG tells its size after its EXIF data and colour profile, up to 64 KiB each."""
CHUNK = 768 << 10
_FETCH_SECONDS = 300.0
_MAX_REDIRECTS = 5
_ACCEPTED = (
    "Give an http(s):// or s3:// URL, a local path (./name for a bare one), file://, the URI of another object store, "
    "a data URI or the Base64 of a JPEG, PNG or WEBP."
)
_ACCEPTED_TYPES = ("image/jpeg", "image/png", "image/webp")
_BASE64_TEXT = re.compile(r"[A-Za-z0-9+/=\s]{64,}")
# Of S3, CloudFront, Google (V2 and V4) and Azure: the name of the query parameter that holds the signature.
_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
# The parameters of a signed query that tell one object from another.
_VERSIONS = frozenset({"versionid", "generation", "snapshot"})
# What fsspec's file systems tell of an object that changes when it is replaced, the most exact first.
_INFO_VERSIONS = ("generation", "ETag", "etag", "md5Hash", "mtime", "last_modified", "LastModified", "created")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """
    An image as a user gave it, not opened yet.

    :param location: where it is; for an inline image, ``location.uri`` is its Base64
    :param label: its name in XCom, logs and metadata: no query, no user or connection, no Base64
    :param stem: the name of a result at a prefix, without extension; ``None`` where the source has no name
    :param address: what tells this source from any other without opening it; a new presigned form of a URL keeps it
    """

    location: Location = field(repr=False)
    label: str
    stem: str | None
    address: str = field(repr=False)

    @property
    def digest(self) -> str:
        """A SHA-256 of the address, which shows nothing of it: ``Provenance.source_digest``."""
        return _digest(self.address)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """
    What was seen of an image before it is paid for.

    :param identity: a digest that changes when the photo is replaced, and not when its URL is signed anew: of address
        and ETag (or what else an object store tells), of the bytes for a local or inline image, of a URL's address
    :param width: in pixels as stored, ``None`` where no byte was read (a URL) or the header lies too far in the file
    :param region: of the bucket, for S3
    """

    identity: str
    width: int | None
    height: int | None
    region: str | None = None


def parse_image(image: object, parameter: str = "image") -> ImageSource:
    """Recognise any form of an image that the operators document, without opening it."""
    text = text_of(parameter, image)
    if text[:5].lower() == "data:":
        return _inline(parameter, _base64_of(parameter, text))
    if not isinstance(image, os.PathLike) and not scheme_of(parameter, text) and not text.startswith("//"):
        # Before paths: the Base64 of a JPEG begins like an absolute path, "/9j/".
        if _is_base64(text):
            return _inline(parameter, text)
        like_a_path = "/" in text or text[0] == "~" or Path(text).suffix
        if not like_a_path or "\n" in text or is_too_long(text):
            raise unusable(parameter, text, f"neither a URL nor a path nor Base64. {_ACCEPTED}")
    location = parse_location(parameter, image)
    if location.kind == "url":
        name = unquote(urlsplit(location.uri).path).rpartition("/")[2]
        return ImageSource(location, location.label, _stem(name), _url_address(location))
    if location.uri.endswith("/") or (location.kind == "s3" and not location.key):
        raise unusable(parameter, location.uri, "a folder. Name a file or an object in it.")
    name = location.key or without_query(location.uri).removesuffix("?...")
    return ImageSource(location, location.label, _stem(name), location.place)


def inspect_image(source: ImageSource, *, aws_conn_id: str | None) -> ImageFacts:
    """
    Look at an image before anything is sent or paid for: S3 by one ranged GET, a URL not at all, the others whole.

    :raises SegmindInputError: the image is missing, forbidden, archived, empty, or not a JPEG, PNG or WEBP
    :raises SegmindStorageError: the store where it lies is down, slow or fails
    """
    location = source.location
    if location.kind == "url":
        return ImageFacts(_digest(source.address), None, None)
    if location.kind == "s3":
        head = read_head(location, aws_conn_id, HEAD_BYTES)
        return _inspect(io.BytesIO(head.data), location, f"{source.address} {head.version}", head.region)
    if location.kind == "inline":
        return _inspect(io.BytesIO(base64.b64decode(location.uri)), location)
    version = None
    if location.kind == "object":
        with object_store(location) as (fs, path):
            info = fs.info(path)
        name = next((name for name in _INFO_VERSIONS if info.get(name)), None)
        version = f"{source.address} {name}={info[name]} size={info.get('size')}" if name else None
    with _open(location, aws_conn_id) as file:
        return _inspect(file, location, version)


def _inspect(file: BinaryIO, location: Location, version: str | None = None, region: str | None = None) -> ImageFacts:
    """Read what a file is and its size; where its store does not tell a version, its bytes are its identity."""
    check_image_signature(file.read(HEAD), location)
    width, height = image_size(file) or (None, None)
    return ImageFacts(_digest(version) if version else file_digest(file), width, height, region)


def inspect_objects(addresses: Mapping[str, str], *, aws_conn_id: str | None) -> ImageFacts:
    """
    Look at the S3 objects that a payload names, of any kind: the identity changes when one of them is replaced.

    :param addresses: ``s3://bucket/key`` by what errors call each
    """
    locations = [parse_location(name, address) for name, address in addresses.items()]
    versions = [read_head(location, aws_conn_id, 1).version for location in locations]
    return ImageFacts(_digest(" ".join(versions)) if versions else "", None, None)


def deliver_image(
    source: ImageSource,
    *,
    delivery: ImageDelivery,
    aws_conn_id: str | None,
    valid_for: float,
    upload: Callable[[bytes], str],
    run_operation: Callable[[Operation[None]], None],
    facts: ImageFacts | None = None,
) -> str:
    """
    Return what goes into the request: a URL, or Base64 without a ``data:`` prefix.

    :param delivery: ``"auto"``: a URL as it is, S3 as a presigned URL, the rest inline; ``"inline"``: the worker
        reads it, up to 7 MiB; ``"upload"``: the worker hands it to ``upload``, up to 100 MiB
    :param valid_for: seconds that a presigned URL lives, rounded up and at most 7 days
    :param upload: takes bytes and returns the URL at which Segmind finds them
    :param run_operation: fetches a URL that the worker has to read
    :param facts: what :func:`inspect_image` returned; without them, an image in S3 is inspected first
    :raises SegmindInputError: the image is missing, forbidden, empty, too large, or not a JPEG, PNG or WEBP
    :raises SegmindStorageError: the store where it lies is down, slow or fails
    """
    location = source.location
    if location.kind == "inline":
        return upload(base64.b64decode(location.uri)) if delivery == "upload" else location.uri
    if delivery == "auto" and location.kind == "url":
        return location.uri
    if delivery == "auto" and location.kind == "s3":
        facts = facts or inspect_image(source, aws_conn_id=aws_conn_id)
        return presign(location, aws_conn_id=aws_conn_id, valid_for=valid_for, region=facts.region)
    body = _ImageBody(location, as_base64=delivery != "upload")
    if location.kind == "url":
        run_operation(fetch_url(location, body))
    else:
        with _open(location, aws_conn_id) as file:
            while chunk := file.read(CHUNK):
                body.write(chunk)
    content = body.finish()
    # Outside of what opened the source, so that the upload's own errors are not taken for the source's.
    return upload(content) if delivery == "upload" else content.decode("ascii")


@contextmanager
def _open(location: Location, aws_conn_id: str | None) -> Iterator[BinaryIO]:
    """Open a local file or an object; only that in S3 cannot be sought in."""
    if location.kind == "file":
        with open_file(location.uri, location.parameter) as file:
            yield file
    elif location.kind == "s3":
        with s3_errors(location, aws_conn_id):
            client = s3_hook(location, aws_conn_id).get_conn()
            with closing(client.get_object(Bucket=location.bucket, Key=location.key)["Body"]) as body:
                yield body
    else:
        with object_store(location) as (fs, path), fs.open(path, "rb") as file:
            yield file


def fetch_url(location: Location, into: BodyReceiver) -> Operation[None]:
    """GET an image from somebody's server, without a key, following redirects to any host."""
    url, where = location.uri, location.where
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            response = yield from send(
                Request("GET", url, with_key=False, into=into, max_bytes=1024, max_seconds=_FETCH_SECONDS)
            )
        except TransportFailure as failure:
            raise SegmindStorageError(
                f"{where}: its server cannot be read ({str(failure).rstrip('.')}). Try again later."
            ) from None
        status = response.status
        if response.ok:
            return
        if status >= 500 or status in {408, 429}:
            raise SegmindStorageError(f"{where}: its server responded with HTTP {status}. Try again later.")
        if status not in {301, 302, 303, 307, 308} or "location" not in response.headers:
            raise SegmindInputError(
                f"{where}: its server responded with HTTP {status}. Check that the URL is right and has not expired."
            )
        target = response.headers["location"]
        try:
            url = urljoin(url, target)
            known = urlsplit(url).scheme in URL_SCHEMES
        except ValueError:
            known = False
        if not known:
            raise SegmindInputError(f"{where} redirects to {quoted(target)}, which is not a valid URL. Check the URL.")
    raise SegmindInputError(f"{where} redirects more than {_MAX_REDIRECTS} times. Check the URL.")


class _ImageBody:
    """Takes an image as it streams in, as it is or into Base64, and refuses what is too large or no image."""

    def __init__(self, location: Location, *, as_base64: bool) -> None:
        self._location = location
        self._as_base64 = as_base64
        self._limit, self._remedy = MAX_UPLOAD_BYTES, "Make it smaller, or give its URL."
        if as_base64:
            self._limit = MAX_INLINE_BYTES
            self._remedy = 'Use image_delivery="upload", or put it in S3, from where it goes as a URL.'
        self.begin({})

    def begin(self, headers: Mapping[str, str]) -> None:
        """Start over, unless the headers announce too much."""
        self._size, self._pending, self._content = 0, bytearray(), io.BytesIO()
        length = headers.get("content-length", "")
        self._check_size(int(length) if length.isdecimal() and len(length) < 20 else 0)

    def write(self, chunk: bytes) -> None:
        """Take the next piece, of any length."""
        self._size += len(chunk)
        self._check_size(self._size)
        self._pending += chunk
        if len(self._pending) >= CHUNK:
            self._take(len(self._pending) // 3 * 3)  # so that the Base64 of each part needs no padding

    def finish(self) -> bytes:
        """Return the whole image, or its Base64."""
        self._take(len(self._pending))
        return self._content.getvalue()

    def _take(self, length: int) -> None:
        part = self._pending[:length]
        if not self._content.tell():
            check_image_signature(bytes(part[:HEAD]), self._location)
        self._content.write(binascii.b2a_base64(part, newline=False) if self._as_base64 else part)
        del self._pending[:length]

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise SegmindInputError(f"{self._location.where} is larger than {self._limit >> 20} MiB. {self._remedy}")


def data_uri(path_or_bytes: str | os.PathLike[str] | bytes | bytearray | memoryview) -> str:
    """Return a file or bytes of a known media type as the data URI that Segmind's storage takes."""
    parameter = "path_or_bytes"
    if isinstance(path_or_bytes, bytes | bytearray | memoryview):
        data, name = bytes(path_or_bytes), f"{len(path_or_bytes)} bytes"
    elif isinstance(path_or_bytes, str | os.PathLike):
        name = repr(without_query(os.fspath(path_or_bytes)))
        with open_file(path_or_bytes, parameter) as file:
            data = file.read(MAX_UPLOAD_BYTES + 1)
    else:
        raise SegmindInputError(
            f"{parameter} is {redact(repr(path_or_bytes), limit=60)}, of type {type(path_or_bytes).__name__}. Give "
            "the path of a file, or its bytes."
        )
    if len(data) > MAX_UPLOAD_BYTES:
        raise SegmindInputError(f"{parameter}: {name} is larger than {MAX_UPLOAD_BYTES >> 20} MiB. Make it smaller.")
    kind = sniff(data[:HEAD])
    if kind is None:
        raise SegmindInputError(f"{parameter}: {name} is {describe(data[:HEAD])}. Give an image, a PDF or a video.")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def check_image_signature(head: bytes, location: Location) -> None:
    """Refuse what is no image by its first bytes. MPO and APNG files pass, as they begin with a whole JPEG or PNG."""
    if not head:
        raise SegmindInputError(f"{location.where} is empty. Upload it again.")
    kind = sniff(head)
    if kind not in _ACCEPTED_TYPES:
        remedy = "Convert it to" if (kind or "").startswith("image/") else "Give a"
        raise SegmindInputError(
            f"{location.where} is {describe(head)}, whatever its name says. {remedy} JPEG, PNG or WEBP."
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _url_address(location: Location) -> str:
    query = urlsplit(location.uri).query
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(name.lower() in _SIGNATURES for name, _ in pairs):
        query = urlencode([pair for pair in pairs if pair[0].lower() in _VERSIONS])
    return f"{location.label}?{query}" if query else location.label


def _base64_of(parameter: str, uri: str) -> str:
    header, data = split_data_uri(uri) or ("", "")
    media_type, *options = header.split(";")
    if "base64" not in options:
        raise SegmindInputError(f"{parameter} is a data URI without Base64. Write data:image/png;base64,...")
    if not media_type.strip().startswith("image/"):
        raise SegmindInputError(f"{parameter} is a data URI of {media_type[:40] or 'no media type'!r}. Give an image.")
    return data


def _inline(parameter: str, text: str) -> ImageSource:
    encoded = "".join(text.split())
    if len(encoded) // 4 * 3 > MAX_INLINE_BYTES:
        raise SegmindInputError(
            f"{parameter} is Base64 of more than {MAX_INLINE_BYTES >> 20} MiB. Give its URL, put it in S3, or give a "
            'path and image_delivery="upload".'
        )
    data = decode_base64(encoded) if encoded else b""
    if data is None:
        raise SegmindInputError(
            f"{parameter} is Base64 that does not decode, {len(encoded)} characters. Check that none are missing."
        )
    digest = hashlib.sha256(data).hexdigest()
    label = f"inline image, {len(data)} bytes, sha256 {digest[:16]}"
    location = Location("inline", encoded, label, parameter)
    check_image_signature(data[:HEAD], location)
    return ImageSource(location, label, digest[:16], f"sha256:{digest}")


def _is_base64(text: str) -> bool:
    head = decode_base64("".join(text[:64].split())[:16]) or b""
    if len(text) >= 32 and sniff(head) in _ACCEPTED_TYPES:
        return True
    return not text.startswith(("/", ".", "~")) and _BASE64_TEXT.fullmatch(text) is not None


def _stem(name: str) -> str | None:
    """Return a name fit for any store: printable, without extension, and short enough to get one."""
    stem = "".join(c for c in PurePosixPath(name).stem if c.isprintable())
    return stem.encode()[:200].decode(errors="ignore") or None
