"""Sources: what a user gave as an image is recognised, inspected, and put into the form that reaches Segmind."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from airflow_provider_segmind.api.parsing import decode_base64, split_data_uri
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.formats import HEAD, describe, file_digest, image_size, sniff
from airflow_provider_segmind.files.location import (
    Location,
    is_too_long,
    object_store,
    parse_location,
    quoted,
    scheme_of,
    text_of,
    without_query,
)
from airflow_provider_segmind.files.reading import object_errors, open_chunks, open_file, open_location
from airflow_provider_segmind.files.s3 import presign, read_head

ImageDelivery = Literal["auto", "inline", "upload"]

MAX_INLINE_BYTES = 7 << 20
"""The request history repeats a request's body, and 10 MiB of a response are read. Whether an image whose Base64 is
larger than that has been paid for could not be found out."""
MAX_UPLOAD_BYTES = 100 << 20
"""The most that is sent to Segmind's storage, in one JSON body."""

HEAD_BYTES = 256 << 10
"""What is read of an object in S3: a JPEG tells its size after its EXIF data and colour profile, up to 64 KiB each."""
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
        and ETag for S3, of address and what the store tells (ETag, generation, time and size) for another object
        store, of the bytes for a local or inline image, of the address for a URL
    :param width: in pixels as stored, ``None`` where no byte was read (a URL) or the header lies too far in the file
    :param height: like ``width``
    :param region: of the bucket, for S3
    """

    identity: str
    width: int | None
    height: int | None
    region: str | None = None


def parse_image(image: object, parameter: str = "image") -> ImageSource:
    """
    Recognise what an image is, without opening it.

    :param image: a URL, ``s3://bucket/key``, local path, ``file://``, object store URI, ObjectStoragePath, data URI
        or Base64
    :param parameter: what errors call it
    :raises SegmindInputError: it is none of these, empty, has an unknown scheme, no key, or bad Base64
    """
    text = text_of(parameter, image)
    if text[:5].lower() == "data:":
        return _inline(parameter, _base64_of(parameter, text))
    if not isinstance(image, os.PathLike) and not scheme_of(parameter, text) and not text.startswith("//"):
        # Before paths: the Base64 of a JPEG begins like an absolute path, "/9j/".
        if _is_base64(text):
            return _inline(parameter, text)
        if not _is_path(text):
            raise SegmindInputError(f"{parameter} is {quoted(text)}, neither a URL nor a path nor Base64. {_ACCEPTED}")
    location = parse_location(parameter, image)
    if location.kind == "url":
        name = unquote(urlsplit(location.uri).path).rpartition("/")[2]
        return ImageSource(location, location.label, _stem(name), _url_address(location))
    if location.uri.endswith("/") or (location.kind == "s3" and not location.key):
        raise SegmindInputError(f"{parameter} is {quoted(location.uri)}, a folder. Name a file or an object in it.")
    if location.kind == "s3":
        address, name = f"s3://{location.bucket}/{location.key}", location.key
    elif location.kind == "file":
        address, name = f"file://{os.path.abspath(location.uri)}", without_query(location.uri)  # noqa: PTH100
    else:
        scheme, _, rest = location.uri.partition("://")
        authority, _, name = rest.partition("/")
        address = f"{scheme.lower()}://{authority.rpartition('@')[2]}/{name}"
    return ImageSource(location, location.label, _stem(name.removesuffix("?...")), address)


def inspect_image(source: ImageSource, *, aws_conn_id: str | None) -> ImageFacts:
    """
    Look at an image before anything is sent or paid for: S3 by one ranged GET, a URL not at all, the others whole.

    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :raises SegmindInputError: the image is missing, forbidden, archived, empty, or not a JPEG, PNG or WEBP
    :raises SegmindStorageError: the store where it lies is down, slow or fails
    """
    location = source.location
    if location.kind == "url":
        return ImageFacts(_digest(source.address), None, None)
    if location.kind == "s3":
        head = read_head(location, aws_conn_id, HEAD_BYTES)
        check_image_signature(head.data[:HEAD], location)
        width, height = image_size(io.BytesIO(head.data)) or (None, None)
        return ImageFacts(_digest(f"{source.address} {head.version}"), width, height, head.region)
    if location.kind == "inline":
        data = base64.b64decode(location.uri)
        return ImageFacts(hashlib.sha256(data).hexdigest(), *(image_size(io.BytesIO(data)) or (None, None)))
    version = None
    if location.kind == "object":
        with object_errors(location):
            fs, name = object_store(location)
            version = _version_of(fs.info(name))
    with open_location(location) as file:
        check_image_signature(file.read(HEAD), location)
        width, height = image_size(file) or (None, None)
        identity = _digest(f"{source.address} {version}") if version else file_digest(file)
    return ImageFacts(identity, width, height)


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
    facts: ImageFacts | None = None,
) -> str:
    """
    Return what goes into the request: a URL, or Base64 without a ``data:`` prefix.

    :param source: what :func:`parse_image` returned
    :param delivery: ``"auto"``: a URL as it is, S3 as a presigned URL, the rest inline; ``"inline"``: the worker
        reads it, up to 7 MiB; ``"upload"``: the worker hands it to ``upload``, up to 100 MiB
    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :param valid_for: seconds that a presigned URL lives, rounded up and at most 7 days
    :param upload: takes bytes and returns the URL at which Segmind finds them
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
    limit, remedy = MAX_INLINE_BYTES, 'Use image_delivery="upload", or put it in S3, from where it goes as a URL.'
    if delivery == "upload":
        limit, remedy = MAX_UPLOAD_BYTES, "Make it smaller, or give its URL."
    with open_chunks(location, aws_conn_id) as chunks:
        checked = _checked(chunks, location, limit=limit, remedy=remedy)
        if delivery != "upload":
            return _to_base64(checked)
        data = b"".join(checked)  # whole: Segmind's storage takes it in one JSON body
    # Outside of what opened the source, so that the upload's own errors are not taken for the source's.
    return upload(data)


def data_uri(path_or_bytes: str | os.PathLike[str] | bytes | bytearray | memoryview) -> str:
    """
    Return a file or bytes as the data URI that Segmind's storage takes.

    :raises SegmindInputError: it is neither a readable file nor bytes, too large, or of no known media type
    """
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
    """
    Check the first bytes of an image. MPO and APNG files pass, since they begin with a whole JPEG or PNG.

    :raises SegmindInputError: it is empty, or not a JPEG, PNG or WEBP; the text says what it looks like
    """
    if not head:
        raise SegmindInputError(f"{location.where} is empty. Upload it again.")
    kind = sniff(head)
    if kind not in _ACCEPTED_TYPES:
        remedy = "Convert it to" if (kind or "").startswith("image/") else "Give a"
        raise SegmindInputError(
            f"{location.where} is {describe(head)}, whatever its name says. {remedy} JPEG, PNG or WEBP."
        )


def _checked(chunks: Iterable[bytes], location: Location, *, limit: int, remedy: str) -> Iterator[bytes]:
    """Pass the chunks of an image on, checking the first for its signature and all of them for their length."""
    total = 0
    for chunk in chunks:
        if not total:
            check_image_signature(chunk[:HEAD], location)
        total += len(chunk)
        if total > limit:
            raise SegmindInputError(f"{location.where} is larger than {limit >> 20} MiB. {remedy}")
        yield chunk
    if not total:
        check_image_signature(b"", location)


def _to_base64(chunks: Iterable[bytes]) -> str:
    """Encode while reading, so that the raw image is never in memory together with its Base64."""
    text, rest = bytearray(), b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        end = len(data) - len(data) % 3
        text += binascii.b2a_base64(memoryview(data)[:end], newline=False)
        rest = data[end:]
    text += binascii.b2a_base64(rest, newline=False)
    return text.decode("ascii")


def _version_of(info: Mapping[str, Any]) -> str | None:
    """Return what changes when an object is replaced, ``None`` where its store does not tell."""
    name = next((name for name in _INFO_VERSIONS if info.get(name)), None)
    return None if name is None else f"{name}={info[name]} size={info.get('size')}"


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


def _is_path(text: str) -> bool:
    return not is_too_long(text) and "\n" not in text and ("/" in text or text[0] == "~" or bool(Path(text).suffix))


def _stem(name: str) -> str | None:
    """Return a name fit for any store: printable, without extension, and short enough to get one."""
    stem = "".join(c for c in PurePosixPath(name).stem if c.isprintable())
    return stem.encode()[:200].decode(errors="ignore") or None
