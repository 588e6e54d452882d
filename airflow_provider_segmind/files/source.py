"""Sources: what a user gave as an image is recognised, inspected, and put into the form that reaches Segmind."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit

from airflow_provider_segmind.api.models import decode_base64, split_data_uri
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import HEAD, BoundedFile, describe, file_digest, image_size, sniff
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
from airflow_provider_segmind.files.s3 import presign, read_head, s3_errors
from airflow_provider_segmind.files.s3_client import s3_hook

if TYPE_CHECKING:  # operations are run by workers, while DAG files that import this are parsed all the time
    from airflow_provider_segmind.api.operation import BodyReceiver, Operation

ImageDelivery = Literal["auto", "inline", "upload"]

MAX_INLINE_BYTES = 7 << 20
"""The request history repeats a request's body, and 10 MiB of a response are read. Whether an image whose Base64 is
larger than that has been paid for could not be found out."""
MAX_UPLOAD_BYTES = 100 << 20
"""The most that is sent to Segmind's storage, in one JSON body."""

HEAD_BYTES = 256 << 10
"""What is read of an object in S3: a JPEG tells its size after its EXIF data and colour profile, up to 64 KiB each."""
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
    """An image as a user gave it, not opened yet."""

    location: Location = field(repr=False)
    label: str  # its name in XCom, logs and metadata: no query, no user or connection, no Base64
    stem: str | None  # the name of a result at a prefix, without extension; None where the source has no name
    address: str = field(repr=False)  # tells this source from any other; a new presigned form of a URL keeps it

    @property
    def digest(self) -> str:
        """A SHA-256 of the address, which shows nothing of it: ``Provenance.source_digest``."""
        return _digest(self.address)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """
    What was seen of an image before it is paid for.

    The identity changes when the photo is replaced, not when its URL gets a new signature. It is a digest of address
    and ETag (or what else an object store tells), of the bytes of a local or inline image, or of a URL's address.
    """

    identity: str
    width: int | None  # in pixels as stored; None where no byte was read (a URL) or the header lies too far in the file
    height: int | None
    region: str | None = None  # of the bucket, for S3


def parse_image(image: object, parameter: str = "image") -> ImageSource:
    """Recognise any form of an image that the operators document, without opening it."""
    text = text_of(parameter, image)
    if text[:5].lower() == "data:":
        header, data = split_data_uri(text) or ("", "")
        media_type, *options = header.split(";")
        if "base64" not in options:
            raise SegmindInputError(f"{parameter} is a data URI without Base64. Write data:image/png;base64,...")
        if not media_type.strip().startswith("image/"):
            kind = media_type[:40] or "no media type"
            raise SegmindInputError(f"{parameter} is a data URI of {kind!r}. Give an image.")
        return _inline(parameter, data)
    if not isinstance(image, os.PathLike) and not scheme_of(parameter, text) and not text.startswith("//"):
        # Before paths: the Base64 of a JPEG begins like an absolute path, "/9j/".
        if _is_base64(text):
            return _inline(parameter, text)
        like_a_path = "/" in text or text[0] == "~" or Path(text).suffix
        if not like_a_path or "\n" in text or is_too_long(text):
            raise unusable(parameter, text, f"neither a URL nor a path nor Base64. {_ACCEPTED}")
    location = parse_location(parameter, image)
    if location.kind == "url":
        parts = urlsplit(location.uri)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = parts.query
        if any(name.lower() in _SIGNATURES for name, _ in pairs):
            query = urlencode([pair for pair in pairs if pair[0].lower() in _VERSIONS])
        address = f"{location.label}?{query}" if query else location.label
        return ImageSource(location, location.label, _stem(unquote(parts.path).rpartition("/")[2]), address)
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
    with open_location(location, aws_conn_id) as file:
        return _inspect(file, location, version)


def _inspect(file: BinaryIO, location: Location, version: str | None = None, region: str | None = None) -> ImageFacts:
    """Read what a file is and its size; where its store does not tell a version, its bytes are its identity."""
    check_image_signature(file.read(HEAD), location)
    width, height = image_size(file) or (None, None)
    return ImageFacts(_digest(version) if version else file_digest(file), width, height, region)


def inspect_objects(addresses: Mapping[str, str], *, aws_conn_id: str | None) -> ImageFacts:
    """Look at the S3 objects that a payload names, by what errors call each; see ``ImageFacts.identity``."""
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
    """
    location = source.location
    if location.kind == "inline":
        return upload(base64.b64decode(location.uri)) if delivery == "upload" else location.uri
    if delivery == "auto" and location.kind == "url":
        return location.uri
    if delivery == "auto" and location.kind == "s3":
        facts = facts or inspect_image(source, aws_conn_id=aws_conn_id)
        return presign(location, aws_conn_id=aws_conn_id, valid_for=valid_for, region=facts.region)
    limit, fix = MAX_INLINE_BYTES, 'Use image_delivery="upload", or put it in S3, from where it goes as a URL.'
    if delivery == "upload":
        limit, fix = MAX_UPLOAD_BYTES, "Make it smaller, or give its URL."
    content = io.BytesIO()  # whole, as the request needs it
    too_large = SegmindInputError(f"{location.where} is larger than {limit >> 20} MiB. {fix}")
    body = BoundedFile(content, limit, too_large)
    if location.kind == "url":
        run_operation(fetch_url(location, body))
    else:
        with open_location(location, aws_conn_id) as file:
            shutil.copyfileobj(file, body)
    data = content.getvalue()
    check_image_signature(data[:HEAD], location)
    # Outside of what opened the source, so that the upload's own errors are not taken for the source's.
    return upload(data) if delivery == "upload" else base64.b64encode(data).decode("ascii")


@contextmanager
def open_location(location: Location, aws_conn_id: str | None) -> Iterator[BinaryIO]:
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
    from airflow_provider_segmind.api.operation import Request, TransportFailure, send

    url, where = location.uri, location.where
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            response = yield from send(
                Request("GET", url, with_key=False, into=into, max_bytes=1024, max_seconds=_FETCH_SECONDS)
            )
        except TransportFailure as failure:
            reason = str(failure).rstrip(".")
            raise SegmindStorageError(f"{where}: its server cannot be read ({reason}). Try again later.") from None
        status = response.status
        if response.ok:
            return
        if status >= 500 or status in {408, 429}:
            raise SegmindStorageError(f"{where}: its server responded with HTTP {status}. Try again later.")
        if status not in {301, 302, 303, 307, 308} or "location" not in response.headers:
            fix = "Check that the URL is right and has not expired."
            raise SegmindInputError(f"{where}: its server responded with HTTP {status}. {fix}")
        target = response.headers["location"]
        with suppress(ValueError):
            url = urljoin(url, target)
            if urlsplit(url).scheme in URL_SCHEMES:
                continue
        raise SegmindInputError(f"{where} redirects to {quoted(target)}, which is not a valid URL. Check the URL.")
    raise SegmindInputError(f"{where} redirects more than {_MAX_REDIRECTS} times. Check the URL.")


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
        given = f"{redact(repr(path_or_bytes), limit=60)}, of type {type(path_or_bytes).__name__}"
        raise SegmindInputError(f"{parameter} is {given}. Give the path of a file, or its bytes.")
    if len(data) > MAX_UPLOAD_BYTES:
        raise SegmindInputError(f"{parameter}: {name} is larger than {MAX_UPLOAD_BYTES >> 20} MiB. Make it smaller.")
    kind = sniff(data[:HEAD])
    if kind is None:
        raise SegmindInputError(f"{parameter}: {name} is {describe(data[:HEAD])}. Give an image, a PDF or a video.")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def check_image_signature(head: bytes, location: Location) -> None:
    """Refuse a file whose first bytes are not those of an image. MPO and APNG pass: they begin as a JPEG or PNG."""
    if not head:
        raise SegmindInputError(f"{location.where} is empty. Upload it again.")
    kind = sniff(head)
    if kind not in _ACCEPTED_TYPES:
        remedy = "Convert it to" if (kind or "").startswith("image/") else "Give a"
        looks = f"is {describe(head)}, whatever its name says"
        raise SegmindInputError(f"{location.where} {looks}. {remedy} JPEG, PNG or WEBP.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _inline(parameter: str, text: str) -> ImageSource:
    encoded = "".join(text.split())
    if len(encoded) // 4 * 3 > MAX_INLINE_BYTES:
        raise SegmindInputError(
            f"{parameter} is Base64 of more than {MAX_INLINE_BYTES >> 20} MiB. Give its URL, put it in S3, or give a "
            'path and image_delivery="upload".'
        )
    data = decode_base64(encoded) if encoded else b""
    if data is None:
        size = f"{len(encoded)} characters"
        raise SegmindInputError(f"{parameter} is Base64 that does not decode, {size}. Check that none are missing.")
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
