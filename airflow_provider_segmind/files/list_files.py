"""
List files: a text, CSV, JSON Lines or S3 Inventory file that names images, read line by line from any store.

A line that names no image is an entry with a problem, so that one bad line does not stop a thousand good ones. A file
that is not a list is an error.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import unquote_plus

from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.formats import HEAD, describe, is_html, sniff
from airflow_provider_segmind.files.location import Location, quoted, text_of
from airflow_provider_segmind.files.source import open_location
from airflow_provider_segmind.files.walk import is_hidden

IMAGE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp"})
"""What a listing takes for an image, in lower case."""
MAX_LIST_BYTES = 200_000_000
"""The most that is read of a list file, decompressed."""

_MAX_LINE = 1 << 20
_CHUNK = 1 << 18
_ACCEPTED = (
    "A list file is a .txt with an image a line, a .csv with a column 'image' (or S3 Inventory's) or a .jsonl with "
    "'source' or 'image', in UTF-8; one that is compressed ends in .gz as well."
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KEY = re.compile(r"\S*[./%]\S*")  # URL-encoded, and unlike the name of a column
_SOURCE_FIELDS = ("source", "image")


class ListEntry(NamedTuple):
    """One line of a list file."""

    image: object
    folder: str = ""  # of an S3 Inventory's key
    problem: str | None = None  # why it cannot be an image, in the words of an error


def list_format(name: str) -> str | None:
    """Return ``"txt"``, ``"csv"`` or ``"jsonl"`` for the name of a list file, ``None`` for another name."""
    extension = _extension(name.lower().removesuffix(".gz")).removeprefix(".")
    return extension if extension in _READERS else None


def is_image_name(name: str) -> bool:
    """Return whether a name has the extension of a JPEG, PNG or WEBP."""
    return _extension(name).lower() in IMAGE_EXTENSIONS


def _extension(name: str) -> str:
    return os.path.splitext(name)[1]  # noqa: PTH122 - pathlib does not see that a folder's marker ends in a slash


def read_list_file(location: Location, *, aws_conn_id: str | None) -> Iterator[ListEntry]:
    """
    Yield the images that a list file names. A relative path in it starts from the worker's current folder.

    :raises SegmindInputError: the file is missing or is not a list. A file without one good line is not a list either;
        that is raised at its end
    """
    read = _READERS[cast(str, list_format(location.uri))]
    with open_location(location, aws_conn_id) as file:
        yield from read(_lines(file, location), location)


def _lines(file: BinaryIO, location: Location) -> Iterator[str]:
    """Yield the lines with their ends. Bytes that are not UTF-8 become surrogates, for the entry to tell."""
    compressed = location.uri.lower().endswith(".gz")
    source = gzip.GzipFile(fileobj=file) if compressed else file
    size, number, rest = 0, 0, b""
    while True:
        try:
            chunk = source.read(_CHUNK)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            fix = "Compress it again, or remove .gz from its name."
            raise _no_list(location, f"is not a whole gzip file ({error})", fix) from error
        if not size:
            _refuse_binary(chunk[:HEAD], location)
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        size += len(chunk)
        if size > MAX_LIST_BYTES:
            raise _no_list(location, f"is larger than {MAX_LIST_BYTES // 1_000_000} MB", "Split it.")
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield line.decode(errors="surrogateescape") + "\n"
        if len(rest) > _MAX_LINE:
            raise _no_list(location, f"has more than {_MAX_LINE} bytes in line {number + 1}", _ACCEPTED)
        if not chunk:
            break
    if rest:
        yield rest.decode(errors="surrogateescape")


def _refuse_binary(head: bytes, location: Location) -> None:
    # A text may begin with the letters of a signature; a real one has other bytes as well.
    if b"\0" in head or is_html(head) or (sniff(head) and not head.isascii()):
        raise _no_list(location, f"is {describe(head)}, not a list of images", _ACCEPTED)


def _read_txt(lines: Iterator[str], location: Location) -> Iterator[ListEntry]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield _entry(text, _line(location, number))


def _read_csv(lines: Iterator[str], location: Location) -> Iterator[ListEntry]:
    reader = csv.reader(lines, strict=True)  # else a quote that is not closed would swallow all lines after it
    try:
        rows = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
        number, header = next(rows, (0, []))
        names = [cell.strip().lower() for cell in header]
        if not header:
            return
        if "image" in names:
            column = names.index("image")
            for number, row in rows:
                yield _csv_entry(row, column, _line(location, number))
        elif _is_inventory(header, second := next(rows, None)):
            yield from _read_inventory(chain([(number, header)], [second] if second else [], rows), header[0], location)
        else:
            found = ", ".join(redact(cell.strip(), limit=40) for cell in header[:8])
            fix = "Name the column with the images 'image', in the first line, and separate columns by commas."
            raise _no_list(location, f"has no column 'image' in line {number} (found: {found})", fix)
    except csv.Error as error:
        fault = f"is not valid CSV in line {reader.line_num} ({error})"
        raise _no_list(location, fault, "Check the quotes and the line ends there.") from error


def _csv_entry(row: list[str], column: int, where: str) -> ListEntry:
    image = row[column].strip() if column < len(row) else ""
    return _entry(image, where) if image else ListEntry("", problem=f"{where} has nothing in the column 'image'.")


def _is_inventory(first: list[str], second: tuple[int, list[str]] | None) -> bool:
    """Return whether a CSV begins as an S3 Inventory does, which has no header: each row begins with its bucket."""
    if len(first) < 2 or not _BUCKET.fullmatch(first[0]):
        return False
    return second[1][0] == first[0] if second else _KEY.fullmatch(first[1]) is not None


def _read_inventory(rows: Iterator[tuple[int, list[str]]], bucket: str, location: Location) -> Iterator[ListEntry]:
    """Yield the images among the objects of an S3 Inventory: its bucket, the URL-encoded key, and what follows."""
    authority = f"{location.conn_id}@{bucket}" if location.conn_id else bucket
    for number, row in rows:
        if len(row) < 2 or row[0] != bucket:
            fault = f"has no column 'image', and line {number} is not one of an S3 Inventory of the bucket {bucket!r}"
            raise _no_list(location, fault, "Name the columns in the first line, that of the images 'image'.")
        # With all versions, an Inventory says whether this is the latest one and whether it marks a deletion.
        version = [cell.lower() for cell in row[3:5]]
        if version != ["true", "false"] and len(version) == 2 and {*version} <= {"true", "false"}:
            continue
        key = unquote_plus(row[1])
        if is_image_name(key) and not is_hidden(key):
            yield _entry(f"s3://{authority}/{key}", _line(location, number))._replace(folder=key.rpartition("/")[0])


def _read_jsonl(lines: Iterator[str], location: Location) -> Iterator[ListEntry]:
    first_fault, good = None, False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = _line(location, number)
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
            fault = "is not valid JSON"
        else:
            fault = f"is neither a text nor an object with {' or '.join(map(repr, _SOURCE_FIELDS))}"
        if not good and line.lstrip().startswith("["):
            fix = "Write each image on a line of its own: jq -c '.[]' list.json > list.jsonl."
            raise _no_list(location, f"begins with a JSON array in line {number}", fix)
        if isinstance(value, dict):
            value = next((value[field] for field in _SOURCE_FIELDS if field in value), None)
            usable = value is not None
        else:
            usable = isinstance(value, str)
        if usable:
            good = True
            yield _entry(value, where)
        else:
            first_fault = first_fault or f"has no line that names an image: line {number} {fault}"
            yield ListEntry(_shown(line), problem=f'{where} {fault}. Write {{"source": "s3://bucket/key"}}.')
    if first_fault and not good:
        raise _no_list(location, first_fault, 'Write {"source": "s3://bucket/key"}, one object a line.')


_READERS: dict[str, Callable[[Iterator[str], Location], Iterator[ListEntry]]] = {
    "txt": _read_txt,
    "csv": _read_csv,
    "jsonl": _read_jsonl,
}


def _entry(image: object, where: str) -> ListEntry:
    """Return the entry for an image, with a problem if it cannot be one."""
    if isinstance(image, str):
        try:
            image.encode()
        except UnicodeEncodeError:
            return ListEntry(_shown(image), problem=f"{where} is not valid UTF-8. Save the list in UTF-8.")
    try:
        text = text_of(where, image)
    except SegmindInputError as error:
        return ListEntry(image, problem=str(error))
    if text.endswith("?..."):
        fault = "whose query was left out where it was noted, as it may be a signature. Give the URL in full."
        return ListEntry(image, problem=f"{where} is {quoted(text)}, {fault}")
    if text.startswith("inline image, "):
        return ListEntry(image, problem=f"{where} names {quoted(text)}, which no list can hold. Give its file or URL.")
    return ListEntry(image)


def _shown(text: str) -> str:
    """Return a line that cannot be used as a manifest may show it."""
    return redact(text.strip().encode(errors="replace").decode(), limit=100)


def _line(location: Location, number: int) -> str:
    """The beginning of an error about one line."""
    return f"{location.where}, line {number}"


def _no_list(location: Location, fault: str, fix: str) -> SegmindInputError:
    return SegmindInputError(f"{location.where} {fault}. {fix}")
