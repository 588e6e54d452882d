"""
Provenance: what a stored result was made from, kept with the result and read back before the next one is paid for.

In S3 it is the object's metadata. A local file and an object of another store have it in a hidden file beside them,
``.<name>.segmind.json``. Two writes cannot be one, so that file repeats the size and the SHA-256 of the result: where
these differ, somebody has replaced the result since, and its provenance is not known.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import HEAD, file_digest, sniff
from airflow_provider_segmind.files.location import Location, object_store
from airflow_provider_segmind.files.s3 import error_code, s3_errors
from airflow_provider_segmind.files.s3_client import s3_hook

_MAX_METADATA = 2048  # S3's limit for all names and values together
_SAFE = "".join(chr(code) for code in range(33, 127) if chr(code) != "%")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a stored result was made from; its digest and its size in pixels."""

    request_id: str  # empty before the job is submitted
    model: str
    source: str | None  # the label of the source image, None where there is none
    source_digest: str  # ImageSource.digest
    input_digest: str  # of the model, the flags and the identity of the image
    sha256: str
    width: int | None = None
    height: int | None = None

    def as_metadata(self, others: Mapping[str, str]) -> dict[str, str]:
        """Return it with others as an S3 object's metadata, in percent-encoded ASCII; a long label is cut to fit."""
        facts = {_name(key): quote(str(value), safe=_SAFE) for key, value in asdict(self).items() if value is not None}
        metadata = {**others, **facts, _name("source"): ""}
        room = _MAX_METADATA - sum(len(name) + len(value) for name, value in metadata.items())
        label = self.source or ""
        while len(quote(label, safe=_SAFE)) > room and label:
            label = label[:-1]
        return {**metadata, _name("source"): quote(label, safe=_SAFE)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Provenance | None:
        """Read it back; ``None`` where the object is not one of ours."""
        values = {field.name: metadata.get(_name(field.name)) for field in fields(cls)}
        return cls.from_facts({key: unquote(value) for key, value in values.items() if value})

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Provenance | None:
        """Make it of its fields, of which only the source and the size in pixels may be missing."""
        try:
            size = {name: int(facts[name]) for name in ("width", "height") if facts.get(name) is not None}
            return cls(**{"source": None, **facts, **size})
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A file or an object that is at a destination."""

    location: Location
    size: int
    content_type: str | None  # as S3 has it; elsewhere by the file's signature
    etag: str | None  # in S3
    provenance: Provenance | None  # None where it is not known


def find_at(location: Location, aws_conn_id: str | None, *, must_see: bool = False) -> StoredResult | None:
    """
    Return what is at a location, ``None`` where nothing is.

    :param must_see: raise where S3 does not say whether there is an object, instead of taking it for absent
    """
    if location.kind == "s3":
        return _find_in_s3(location, aws_conn_id, must_see=must_see)
    if location.kind == "object":
        with object_store(location) as (fs, name):
            if not fs.exists(name):
                return None
            sidecar = sidecar_of(name)
            content = fs.cat_file(sidecar) if fs.exists(sidecar) else b""
            with fs.open(name, "rb") as file:
                return _with_sidecar(location, file, content)
    try:
        hidden = Path(sidecar_of(location.uri))
        content = hidden.read_bytes() if hidden.is_file() else b""
        with Path(location.uri).open("rb") as file:
            return _with_sidecar(location, file, content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SegmindStorageError(f"{location.where} cannot be read: {error.strerror or error}.") from None


def _find_in_s3(location: Location, aws_conn_id: str | None, *, must_see: bool) -> StoredResult | None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    with s3_errors(location, aws_conn_id):
        try:
            client = s3_hook(location, aws_conn_id).get_conn()
            found = client.head_object(Bucket=location.bucket, Key=location.key)
        except ClientError as error:
            # To a role that may not list the bucket, S3 answers 403 for an object that is not there, too.
            status = error_code(error)[0]
            if status == 403 and must_see:
                raise SegmindInputError(
                    f"{location.where}: S3 does not say whether it exists (HTTP 403), so if_exists='skip' could pay "
                    "for it again. Allow s3:GetObject for it and s3:ListBucket for its bucket."
                ) from error
            if status in (403, 404):
                return None
            raise
    provenance = Provenance.from_metadata(found["Metadata"])
    return StoredResult(location, found["ContentLength"], found.get("ContentType"), found.get("ETag"), provenance)


def _with_sidecar(location: Location, file: BinaryIO, sidecar: bytes) -> StoredResult:
    content_type, size = sniff(file.read(HEAD)), file.seek(0, os.SEEK_END)
    provenance = None
    with suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged, or not ours
        facts = json.loads(sidecar)
        if (facts.pop("version"), facts.pop("size")) == (_VERSION, size):
            provenance = Provenance.from_facts(facts)
    if provenance is not None and file_digest(file) != provenance.sha256:
        provenance = None
    return StoredResult(location, size, content_type, None, provenance)


def as_sidecar(provenance: Provenance, size: int) -> bytes:
    """Return the content of the hidden file beside a result of this many bytes."""
    return json.dumps({"version": _VERSION, "size": size, **asdict(provenance)}, indent=1).encode()


def sidecar_of(path: str) -> str:
    """Return the path of the hidden file beside a result."""
    folder, slash, name = path.rpartition("/")
    hidden = f".{name}.segmind.json"
    if len(os.fsencode(hidden)) > 255:  # the longest name that a file can have
        hidden = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.segmind.json"
    return f"{folder}{slash}{hidden}"


def refuse_other_image(stored: StoredResult | None, ours: Provenance) -> None:
    """
    Refuse to replace the result of another image at a name that was derived from the source's.

    A file without provenance is not refused. It is not a result that this provider paid for (or one that somebody has
    replaced since), and to replace what lies at a destination is what ``if_exists="overwrite"`` says.
    """
    if stored is None or (theirs := stored.provenance) is None:
        return
    # Where the input digest is the same, so is the image, whatever its source is called.
    if theirs.source_digest == ours.source_digest or theirs.input_digest == ours.input_digest:
        return
    other = f"{theirs.source} (the same address with another query)" if theirs.source == ours.source else theirs.source
    paid = ""
    if ours.request_id:
        paid = (
            f" The result of request {ours.request_id} is paid for and stays at Segmind for 7 days. Clear the task "
            "after the change; nothing is paid again."
        )
    raise SegmindInputError(
        f"{stored.location.where} holds the result of another image, {other}, and would be replaced by that of "
        f"{ours.source}. Give the sources of each folder a prefix of their own, or name the object in `destination`."
        f"{paid}",
        request_id=ours.request_id or None,
    )


def _name(field: str) -> str:
    return f"segmind-{field.replace('_', '-')}"
