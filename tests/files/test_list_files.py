from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files import list_files
from airflow_provider_segmind.files.listing import ListedImage, list_images
from tests.s3_server import S3

from .pictures import PNG, picture

Lister = Callable[[str, bytes | str], list[ListedImage]]


@pytest.fixture
def read(tmp_path: Path) -> Lister:
    """Return the entries of a list file with this name and content."""

    def read_it(name: str, content: bytes | str) -> list[ListedImage]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list_images(str(path), aws_conn_id=None)

    return read_it


def images(listed: list[ListedImage]) -> list[object]:
    assert [entry.problem for entry in listed] == [None] * len(listed)
    return [entry.image for entry in listed]


# ------------------------------------------------------------------ what is a list


def test_a_text_file_has_an_image_a_line(read: Lister) -> None:
    text = "# of the night\n\ns3://b/a cup.jpg\r\n  https://h.example/b.jpg?x=1#y  \n/in/c.jpg"
    assert images(read("l.txt", text)) == ["s3://b/a cup.jpg", "https://h.example/b.jpg?x=1#y", "/in/c.jpg"]


@pytest.mark.parametrize("header", ["image", "Image", " image ", '"image"'])
def test_a_csv_file_has_the_images_in_its_column_image(read: Lister, header: str) -> None:
    text = f'price,{header},note\r\n1,s3://b/a.jpg,"two\nlines"\r\n\r\n,,\r\n2,"s3://b/b,c.jpg",\r\n'
    assert images(read("l.csv", text)) == ["s3://b/a.jpg", "s3://b/b,c.jpg"]


def test_a_csv_file_may_begin_with_a_byte_order_mark(read: Lister) -> None:
    assert images(read("l.csv", b"\xef\xbb\xbfimage\ns3://b/a.jpg\n")) == ["s3://b/a.jpg"]


def test_a_jsonl_file_has_objects_with_source_or_image_or_texts(read: Lister) -> None:
    lines = [{"source": "s3://b/a.jpg", "status": "failed"}, {"image": "s3://b/b.jpg"}, "s3://b/c.jpg"]
    text = "\n\n".join(map(json.dumps, lines))
    assert images(read("failed.jsonl", text)) == ["s3://b/a.jpg", "s3://b/b.jpg", "s3://b/c.jpg"]


def test_an_empty_list_file_names_no_image(read: Lister) -> None:
    assert [read(name, "") for name in ("l.txt", "l.csv", "l.jsonl")] == [[], [], []]
    assert read("l.csv", "image\n") == []


@pytest.mark.parametrize("name", ["l.txt.gz", "L.TXT.GZ"])
def test_a_list_file_may_be_compressed(read: Lister, name: str) -> None:
    assert images(read(name, gzip.compress(b"s3://b/a.jpg\n"))) == ["s3://b/a.jpg"]


def test_a_list_file_is_read_from_s3_and_from_another_store(s3: S3, memory_store) -> None:
    in_s3 = s3.put("lists/l.txt.gz", gzip.compress(b"s3://b/a.jpg\n"))
    memory_store.pipe("/lists/l.csv", b"image\ns3://b/b.jpg\n")
    assert images(list_images(in_s3, aws_conn_id="aws_default")) == ["s3://b/a.jpg"]
    assert images(list_images("memory://lists/l.csv", aws_conn_id=None)) == ["s3://b/b.jpg"]


def test_lines_are_put_together_again_however_the_file_is_read(read: Lister, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_files, "_CHUNK", 3)
    assert images(read("l.txt", "/in/ä.jpg\n/in/b.jpg\r\n/c.jpg")) == ["/in/ä.jpg", "/in/b.jpg", "/c.jpg"]


# ------------------------------------------------------------------ S3 Inventory


INVENTORY = (
    '"photos","in/2026/a+cup+%2B+%C3%A4.JPG","1024"\n"photos","in/","0"\n"photos","in/notes.txt","9"\n'
    '"photos","b.png","10"\n"photos","in/.trash/c.jpg","9"\n"photos","out/_segmind/d.jpg","9"\n'
)


def test_an_s3_inventory_names_the_images_among_its_objects_with_their_folders(read: Lister) -> None:
    listed = read("data.csv.gz", gzip.compress(INVENTORY.encode()))
    assert images(listed) == ["s3://photos/in/2026/a cup + ä.JPG", "s3://photos/b.png"]
    assert [entry.folder for entry in listed] == ["in/2026", ""]


def test_an_s3_inventory_of_all_versions_counts_the_latest_that_is_not_deleted(read: Lister) -> None:
    versions = ['"a.jpg","v2","true","false"', '"a.jpg","v1","false","false"', '"c.jpg","v3","true","true"']
    assert images(read("data.csv", "\n".join(f'"photos",{row}' for row in versions))) == ["s3://photos/a.jpg"]


@pytest.mark.parametrize("rows", ['"photos","in/a.jpg"\n', '"photos","Makefile"\n"photos","in/a.jpg"\n'])
def test_an_s3_inventory_is_recognised_by_the_bucket_that_begins_each_row(read: Lister, rows: str) -> None:
    assert images(read("data.csv", rows)) == ["s3://photos/in/a.jpg"]


def test_the_images_of_an_s3_inventory_are_read_by_the_connection_in_its_uri(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("AIRFLOW_CONN_MINE", os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    s3.put("data.csv", INVENTORY.encode())
    listed = list_images(f"s3://mine@{s3.bucket}/data.csv", aws_conn_id=None)
    assert listed[1].image == "s3://mine@photos/b.png"


# ------------------------------------------------------------------ one bad line


def problems(listed: list[ListedImage]) -> list[str]:
    return [entry.problem for entry in listed if entry.problem]


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("l.csv", ",2", "line 3 has nothing in the column 'image'"),
        ("l.jsonl", "{broken", r"line 3 is not valid JSON. Write {\"source\""),
        ("l.jsonl", '{"uri": "s3://b/x.jpg"}', "line 3 is neither a text nor an object with 'source' or 'image'"),
        ("l.jsonl", "3", "line 3 is neither a text"),
        ("l.jsonl", '["s3://b/x.jpg"]', "line 3 is neither a text"),
        ("l.jsonl", '{"source": null}', "line 3 is neither a text"),
        ("l.jsonl", '{"source": 3}', "line 3 is 3, of type int"),
        ("l.jsonl", '{"source": " "}', "line 3 is ' '"),
        ("l.jsonl", '{"source": "\\ud800.jpg"}', "line 3 is not valid UTF-8"),
        ("l.txt", "https://h.example/x.jpg?...", "line 3 is 'https://h.example/x.jpg.*may be a signature. Give the"),
        ("l.jsonl", '{"source": "inline image, 9 bytes, sha256 ab"}', "line 3 names 'inline image, .*no list can hold"),
    ],
)
def test_one_bad_line_is_an_entry_with_a_problem_that_names_the_line(
    read: Lister, name: str, line: str, words: str
) -> None:
    first, good = ("image,price", "s3://b/a.jpg,1") if name == "l.csv" else ("", "s3://b/a.jpg")
    good = json.dumps(good) if name == "l.jsonl" else good
    listed = read(name, "\n".join([first, good, line, good]))
    assert [entry.image for entry in listed if not entry.problem] == ["s3://b/a.jpg"] * 2
    (problem,) = problems(listed)
    with pytest.raises(SegmindInputError, match=rf"^images: \S+/{name}, {words}"):
        raise SegmindInputError(problem)


@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_a_line_in_another_encoding_is_an_entry_that_can_be_shown(read: Lister, name: str) -> None:
    listed = read(name, b"image\n/in/b\xe4r.jpg\n/in/c.jpg\n")
    (problem,) = problems(listed)
    assert "line 2 is not valid UTF-8. Save the list in UTF-8." in problem
    assert json.dumps([entry.image for entry in listed]).encode()


# ------------------------------------------------------------------ what is none


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", PNG, "is a PNG image, not a list of images. A list file is"),
        ("l.txt", picture("JPEG"), "is a JPEG image, not a list"),
        ("l.jsonl", b"<!DOCTYPE html><p>no", "is an HTML page, not a list"),
        ("l.txt", "s3://b/a.jpg".encode("utf-16"), "not a list of images.*in UTF-8"),
        ("l.txt", gzip.compress(b"s3://b/a.jpg"), "not a list of images.*compressed ends in .gz"),
        ("l.txt.gz", b"s3://b/a.jpg", "is not a whole gzip file .*remove .gz from its name"),
        ("l.txt.gz", gzip.compress(b"s3://b/a.jpg")[:-4], "is not a whole gzip file"),
        ("l.csv", "url,price\ns3://b/a.jpg,1\n", r"has no column 'image' in line 1 \(found: url, price\). Name the"),
        ("l.csv", "\n\nimage;price\ns3://b/a.jpg;1\n", "has no column 'image' in line 3 .*separate columns by commas"),
        ("l.csv", "photo,a.file\ns3://b/a.jpg,1\n", r"has no column 'image' in line 1 \(found: photo, a.file\)"),
        ("l.csv", "photo,price\n", r"has no column 'image' in line 1"),
        ("l.csv", "one,a.jpg\none,b.jpg\ntwo,c.jpg\n", "line 3 is not one of an S3 Inventory of the bucket 'one'"),
        ("l.csv", 'image\n"s3://b/a.jpg\ns3://b/b.jpg\n', "is not valid CSV in line 3 .*Check the quotes"),
        ("l.jsonl", '["s3://b/a.jpg",\n"s3://b/b.jpg"]', "begins with a JSON array in line 1. Write each image on"),
        ("l.jsonl", '\n[{"source": "s3://b/a.jpg"}]', "begins with a JSON array in line 2"),
        ("l.jsonl", '{\n"source":\n"s3://b/a.jpg"\n}'.replace('"s3', '1, "s3'), "no line that names an image: line 1"),
        ("l.jsonl", '{"url": "s3://b/a.jpg"}\n', "no line that names an image: line 1 is neither"),
    ],
    ids=lambda value: "bytes" if isinstance(value, bytes) else None,  # which differ from one process to another
)
def test_a_list_file_that_is_none_is_refused_with_a_remedy(
    read: Lister, name: str, content: bytes | str, words: str
) -> None:
    with pytest.raises(SegmindInputError, match=rf"^images: \S+/{name} .*{words}"):
        read(name, content)


def test_a_list_file_that_is_too_large_is_refused(read: Lister, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_files, "MAX_LIST_BYTES", 3_000_000)
    with pytest.raises(SegmindInputError, match=r"is larger than 3 MB. Split it"):
        read("l.txt.gz", gzip.compress(b"s3://b/a.jpg\n" * 300_000))


def test_a_line_without_an_end_is_refused(read: Lister) -> None:
    with pytest.raises(SegmindInputError, match=r"more than 1048576 bytes in line 2"):
        read("l.txt", b"/a.jpg\n" + b"x" * (3 << 20))


def test_a_list_file_that_is_missing_is_refused(s3: S3, tmp_path: Path) -> None:
    with pytest.raises(SegmindInputError, match=r"^images: s3://\S+ S3 has no such object"):
        list_images(f"s3://{s3.bucket}/l.txt", aws_conn_id="aws_default")
    with pytest.raises(SegmindInputError, match=r"^images: .*no such file on this worker"):
        list_images(f"{tmp_path}/l.txt", aws_conn_id=None)
