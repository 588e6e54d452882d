"""What a listing of each store leaves to its caller. Most of it is seen through the images of a batch."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_segmind.files.location import parse_location
from airflow_provider_segmind.files.walk import names_below
from tests.s3_server import S3

from .conftest import attached


def below(uri: str, **options: object) -> list[str]:
    return sorted(names_below(parse_location("images", uri), aws_conn_id="aws_default", **options))


def test_names_with_more_parts_than_asked_for_are_left_out(s3: S3, memory_store, tmp_path: Path) -> None:
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg"):
        s3.put(f"in/{name}")
        memory_store.pipe(f"/photos/in/{name}", b"x")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for prefix in (f"s3://{s3.bucket}/in/", "memory://photos/in/", f"{tmp_path}/"):
        assert below(prefix, depth=1) == ["a.jpg"]
    for prefix in ("memory://photos/in/", f"{tmp_path}/"):
        assert below(prefix, depth=2) == ["a.jpg", "x/b.jpg"]


def test_a_local_folder_that_is_removed_while_it_is_listed_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "x").mkdir()
    names = names_below(parse_location("images", f"{tmp_path}/"), aws_conn_id=None)
    assert next(names) == "a.jpg"
    (tmp_path / "x").rmdir()
    assert list(names) == []


@pytest.fixture
def remembering_store():
    """Put a store behind memory:// that remembers its listings, and that lists by the beginning of a name."""

    class Remembering(MemoryFileSystem):
        remembered: dict[str, list[str]] = {}  # noqa: RUF012 - one for all, as the store itself is

        def find(self, path: str, *_: object, **__: object) -> list[str]:
            found = [name for name in self.store if name.startswith(path)]
            return self.remembered.setdefault(path, found)

        def invalidate_cache(self, path: str | None = None) -> None:
            self.remembered.clear()

    fs = Remembering()
    fs.store.clear()
    with contextmanager(attached)("memory", fs):
        yield fs
    fs.store.clear()


def test_a_store_that_remembers_listings_is_asked_again(remembering_store) -> None:
    remembering_store.pipe("/photos/in/a.jpg", b"x")
    assert below("memory://photos/in/") == ["a.jpg"]
    remembering_store.pipe("/photos/in/b.jpg", b"x")
    assert below("memory://photos/in/") == ["a.jpg", "b.jpg"]


def test_what_only_begins_like_the_prefix_is_not_below_it(remembering_store) -> None:
    remembering_store.pipe("/photos/in/a.jpg", b"x")
    remembering_store.pipe("/photos/in2/b.jpg", b"x")
    assert below("memory://photos/in/") == ["a.jpg"]


def test_a_listing_of_s3_does_not_go_through_the_state_of_a_batch(s3):
    for number in range(1001):  # more than a page
        s3.put(f"erased/_segmind/ledger/{number:04}.json", b"{}")
    for name in ("A.png", "_segment.png", "z.png"):
        s3.put(f"erased/{name}")

    assert below(f"s3://{s3.bucket}/erased/") == ["A.png", "_segment.png", "z.png"]
