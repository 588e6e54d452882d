"""Local files: read to be sent, and written whole or not at all."""

from __future__ import annotations

import base64
import os
import resource
import stat
import traceback
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.destination import write_atomically
from airflow_provider_segmind.files.source import MAX_UPLOAD_BYTES, data_uri
from tests.files.pictures import PNG


@pytest.fixture
def small_disk():
    """Let no file grow above 64 KiB, which is as near to a full disk as a test can come."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(target, content=PNG):
    with write_atomically(target) as file:
        file.write(content)


@pytest.mark.parametrize("name", ["out.png", "new/folders/out.png", "n" * 251 + ".png"])
def test_a_new_file_has_the_usual_mode_and_nothing_is_left_beside_it(tmp_path, name):
    target = tmp_path / name
    write(target)
    assert target.read_bytes() == PNG
    assert list(target.parent.iterdir()) == [target]
    (tmp_path / "usual").touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "out.png"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write(target, "not bytes")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is a folder. Name a file in it"),
        ("/", "is a folder. Name a file in it"),
        ("/new/", "is a folder. Name a file in it"),
        ("/pipe", "is not a regular file. Name one"),
        ("/in_the_way/out.png", "cannot be written: .*Give a path"),
        ("/circle/out.png", "is not a path"),
        ("/a\0b", "is not a path"),
        ("/\ud800.png", "is not a path"),
        ("/" + "n" * 256, "is not a path"),
    ],
)
def test_a_target_where_no_file_can_be_is_refused_before_anything_is_fetched(tmp_path, name, words):
    (tmp_path / "in_the_way").touch()
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    fetched = []
    with (
        pytest.raises(SegmindInputError, match=f"^target: '{tmp_path}.*' {words}"),
        write_atomically(f"{tmp_path}{name}"),
    ):
        fetched.append("it")
    assert fetched == []


def test_an_empty_target_is_refused():
    with pytest.raises(SegmindInputError, match=r"target: '' is a folder"):
        write("")


def test_a_full_disk_is_a_storage_error_and_leaves_nothing_behind(tmp_path, small_disk):
    with pytest.raises(SegmindStorageError, match=r"target: '.*out.png' cannot be written: .*Check the disk and retry"):
        write(tmp_path / "out.png", bytes(1 << 17))
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_a_path_does_not_show_a_signature_in_it(tmp_path):
    with pytest.raises(SegmindInputError, match=r"k\.png\?\.\.\.'") as caught:
        write(tmp_path / ("k.png?X-Amz-Signature=" + "n" * 256))
    assert "nnn" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "path", "text"])
def test_a_file_or_bytes_of_any_type_become_a_data_uri(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    given = {"path": path, "text": str(path)}.get(kind) or kind(PNG)
    assert data_uri(given) == "data:image/png;base64," + base64.b64encode(PNG).decode()


@pytest.mark.parametrize("given", [None, 7, ["a.png"], object()])
def test_a_value_that_is_neither_a_path_nor_bytes_is_refused(given):
    with pytest.raises(SegmindInputError, match=r"^path_or_bytes is .*, of type \w+. Give") as caught:
        data_uri(given)
    assert repr(given)[:20] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is a folder"),
        ("absent.png", "no such file on this worker"),
        ("pipe", "is not a regular file"),
        ("a\0b", "is not a path"),
        ("n" * 256, "is not a path"),
        ("text.png", "is text. Give an image, a PDF or a video"),
        ("large.png", "is larger than 100 MiB"),
    ],
)
def test_a_path_that_cannot_be_uploaded_is_refused_with_its_parameter(tmp_path, name, words):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.png").write_text("these are words")
    with (tmp_path / "large.png").open("wb") as large:
        large.write(PNG)
        large.truncate(MAX_UPLOAD_BYTES + 1)
    with pytest.raises(SegmindInputError, match=f"^path_or_bytes: '{tmp_path}.*{words}"):
        data_uri(Path(tmp_path, name) if name else tmp_path)


def test_bytes_that_are_too_many_are_refused():
    with pytest.raises(SegmindInputError, match=r"path_or_bytes: 104857601 bytes is larger than 100 MiB"):
        data_uri(bytes(MAX_UPLOAD_BYTES + 1))
