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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.formats import HEAD, file_digest, sniff
from airflow_provider_segmind.files.location import Location
from airflow_provider_segmind.files.object_store import object_errors, object_store
from airflow_provider_segmind.files.s3 import error_code, s3_errors, s3_hook

_MAX_METADATA = 2048  # S3's limit for all names and values together
_SAFE = "".join(chr(code) for code in range(33, 127) if chr(code) != "%")
_SIZE = "segmind-size-px"


@dataclass(frozen=True, slots=True)
class Provenance:
    """
    What a stored result was made from.

    :param request_id: Segmind's id of the request that made it
    :param model: the model's slug
    :param source: the label of the source image, ``None`` where there is none
    :param source_digest: :attr:`ImageSource.digest`
    :param input_digest: of the model, the flags and the identity of the image
    :param sha256: of the result file, hexadecimal
    :param width: of the result, in pixels
    :param height: of the result, in pixels
    """

    request_id: str
    model: str
    source: str | None
    source_digest: str
    input_digest: str
    sha256: str
    width: int | None = None
    height: int | None = None

    def as_metadata(self, others: Mapping[str, str]) -> dict[str, str]:
        """
        Return it as metadata of an S3 object: percent-encoded ASCII, the source's label cut to the room that is left.

        :param others: metadata that is stored with it
        """
        metadata = {
            **others,
            "segmind-request-id": self.request_id,
            "segmind-model": self.model,
            "segmind-source-digest": self.source_digest,
            "segmind-input-digest": self.input_digest,
            "segmind-sha256": self.sha256,
        }
        if self.width and self.height:
            metadata[_SIZE] = f"{self.width}x{self.height}"
        if self.source is not None:
            used = sum(len(name) + len(value) for name, value in metadata.items()) + len("segmind-source")
            metadata["segmind-source"] = _cut(quote(self.source, safe=_SAFE), _MAX_METADATA - used)
        return metadata

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Provenance | None:
        """Read it back; ``None`` where the object is not one of ours."""
        try:
            width, _, height = metadata.get(_SIZE, "").partition("x")
            source = metadata.get("segmind-source")
            return cls(
                request_id=metadata["segmind-request-id"],
                model=metadata["segmind-model"],
                source=None if source is None else unquote(source),
                source_digest=metadata["segmind-source-digest"],
                input_digest=metadata["segmind-input-digest"],
                sha256=metadata["segmind-sha256"],
                width=int(width) if width else None,
                height=int(height) if height else None,
            )
        except (KeyError, ValueError):
            return None

    def as_sidecar(self, size: int) -> bytes:
        """Return the content of the hidden file beside a result of this many bytes."""
        return json.dumps({"version": 1, "size": size, **asdict(self)}, indent=1).encode()


@dataclass(frozen=True, slots=True)
class StoredResult:
    """
    A file or an object that is at a destination.

    :param size: in bytes
    :param content_type: as S3 has it; elsewhere by the file's signature
    :param etag: in S3
    :param provenance: what it was made from, ``None`` where that is not known
    """

    location: Location
    size: int
    content_type: str | None
    etag: str | None
    provenance: Provenance | None


def find_at(location: Location, aws_conn_id: str | None) -> StoredResult | None:
    """
    Return what is at a location, ``None`` where nothing is or nothing can be seen.

    :param aws_conn_id: the AWS connection for ``s3://``; ``None`` is boto's default chain
    :raises SegmindInputError: the store cannot be used at all, such as for want of credentials
    :raises SegmindStorageError: the store is down, slow or fails
    """
    if location.kind == "s3":
        return _find_in_s3(location, aws_conn_id)
    if location.kind == "file":
        return _find_file(location)
    with object_errors(location):
        fs, name = object_store(location)
        if not fs.exists(name):
            return None
        sidecar = sidecar_of(name)
        note = fs.cat_file(sidecar) if fs.exists(sidecar) else b""
        with fs.open(name, "rb") as file:
            return _with_sidecar(location, file, note)


def _find_in_s3(location: Location, aws_conn_id: str | None) -> StoredResult | None:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    with s3_errors(location, aws_conn_id):
        try:
            found = s3_hook(location, aws_conn_id).get_conn().head_object(Bucket=location.bucket, Key=location.key)
        except ClientError as error:
            # To those who may not list the bucket, which many a role may not, a 403 also says "not there".
            if error_code(error)[0] in (403, 404):
                return None
            raise
    provenance = Provenance.from_metadata(found["Metadata"])
    return StoredResult(location, found["ContentLength"], found.get("ContentType"), found.get("ETag"), provenance)


def _find_file(location: Location) -> StoredResult | None:
    try:
        sidecar = Path(sidecar_of(location.uri))
        note = sidecar.read_bytes() if sidecar.is_file() else b""
        with Path(location.uri).open("rb") as file:
            return _with_sidecar(location, file, note)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SegmindStorageError(f"{location.where} cannot be read: {error.strerror or error}.") from None


def _with_sidecar(location: Location, file: BinaryIO, note: bytes) -> StoredResult:
    content_type, size = sniff(file.read(HEAD)), file.seek(0, os.SEEK_END)
    provenance = None
    try:
        facts: dict[str, Any] = json.loads(note)
        if facts.pop("version") == 1 and facts.pop("size") == size:
            provenance = Provenance(**facts)
            if file_digest(file) != provenance.sha256:
                provenance = None
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged, or written by another version
        provenance = None
    return StoredResult(location, size, content_type, None, provenance)


def sidecar_of(path: str) -> str:
    """Return the path of the hidden file beside a result."""
    folder, slash, name = path.rpartition("/")
    hidden = f".{name}.segmind.json"
    if len(os.fsencode(hidden)) > 255:  # the longest name that a file can have
        hidden = f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.segmind.json"
    return f"{folder}{slash}{hidden}"


def refuse_other_image(
    stored: StoredResult | None,
    *,
    source: str | None,
    source_digest: str,
    input_digest: str,
    request_id: str | None = None,
) -> None:
    """
    Refuse to replace the result of another image at a name that was derived from the source's.

    A file without provenance is not refused. It is not a result that this provider paid for (or one that somebody has
    replaced since), and to replace what lies at a destination is what ``if_exists="overwrite"`` says.

    :param stored: what is there
    :param source: the label of the image whose result is to be stored
    :param source_digest: its :attr:`ImageSource.digest`
    :param input_digest: where it is the same, so is the image, whatever its source is called
    :param request_id: of the result that is to be stored, where it is paid for already
    :raises SegmindInputError: the stored result is that of another image; both are named
    """
    known = stored.provenance if stored else None
    if stored is None or known is None or known.source_digest == source_digest or known.input_digest == input_digest:
        return
    other = f"{known.source} (the same address with another query)" if known.source == source else known.source
    paid = ""
    if request_id is not None:
        paid = (
            f" The result of request {request_id} is paid for and stays at Segmind for 7 days. Clear the task after "
            "the change; nothing is paid again."
        )
    raise SegmindInputError(
        f"{stored.location.where} holds the result of another image, {other}, and would be replaced by that of "
        f"{source}. Give the sources of each folder a prefix of their own, or name the object in `destination`.{paid}",
        request_id=request_id,
    )


def _cut(text: str, length: int) -> str:
    """Cut percent-encoded text without cutting through an encoded character."""
    if len(text) <= length:
        return text
    kept = text[: max(length - 3, 0)]
    while kept and "\ufffd" in unquote(kept[-12:]) and "%" in kept[-3:]:
        kept = kept[: kept.rindex("%")]
    return kept + "..."
