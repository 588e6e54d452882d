"""Which images a prefix and a glob name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.destination import parse_destination
from airflow_provider_segmind.files.listing import (
    ListedImage,
    check_images,
    list_images,
    refuse_listed_result,
)
from airflow_provider_segmind.files.source import parse_image
from tests.s3_server import S3, aws_connection

Filled = Callable[..., str]


@pytest.fixture(params=["s3", "file", "object"])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Filled:
    """Put files with these names into a store of each kind, and return the prefix above them."""

    def fill_it(*names: str) -> str:
        if request.param == "s3":
            s3 = request.getfixturevalue("s3")
            return [s3.put(f"in/{name}") for name in names] and f"s3://{s3.bucket}/in/"
        if request.param == "file":
            for path in (tmp_path / "in" / name for name in names):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            return f"{tmp_path}/in/"
        store = request.getfixturevalue("memory_store")
        for name in names:
            store.pipe(f"/photos/in/{name}", b"x")
        return "memory://photos/in/"

    return fill_it


def listed(value: object, **options: object) -> list[ListedImage]:
    check_images(value)
    found = list_images(value, **{"aws_conn_id": "aws_default", **options})
    assert [entry.problem for entry in found] == [None] * len(found)
    return found


def names(value: str, root: str, **options: object) -> list[str]:
    """Return the names below a root that a prefix or glob lists."""
    return [str(entry.image).removeprefix(root) for entry in listed(value, **options)]


# ------------------------------------------------------------------ prefixes


def test_a_prefix_names_the_images_below_it_sorted_with_their_folders(fill: Filled) -> None:
    root = fill("b.png", "2026/cups/a.jpg", "2026/b.webp", "A.jpg")
    assert listed(root) == [
        ListedImage(f"{root}2026/b.webp", "2026"),
        ListedImage(f"{root}2026/cups/a.jpg", "2026/cups"),
        ListedImage(f"{root}A.jpg"),
        ListedImage(f"{root}b.png"),
    ]


def test_a_prefix_names_images_only_whatever_the_case_of_their_extensions(fill: Filled) -> None:
    root = fill("a.JPG", "b.Jpeg", "c.jpe", "d.png", "e.WebP", "f.txt", "g.gif", "jpg", "h.jpg.bak", "i.jpg.json")
    assert names(root, root) == ["a.JPG", "b.Jpeg", "c.jpe", "d.png", "e.WebP"]


def test_hidden_files_and_folders_and_the_state_of_a_batch_are_left_out(fill: Filled) -> None:
    root = fill("a.jpg", ".b.jpg", ".trash/c.jpg", "_segmind/d.jpg", "x/_segmind/ledger/e.jpg", "_segmind_/f.jpg")
    assert names(root, root) == ["_segmind_/f.jpg", "a.jpg"]


def test_a_prefix_below_which_no_image_is_gives_an_empty_list(fill: Filled) -> None:
    assert listed(fill("notes.txt")) == []
    assert listed(fill("a/notes.txt") + "*.jpg") == []


def test_every_listed_image_is_one_that_can_be_parsed(fill: Filled) -> None:
    root = fill("a cup, #1 100% [x]; ä?.jpg", "x" * 40 + "/" + "y" * 40 + ".png")
    sources = [parse_image(entry.image) for entry in listed(root)]
    assert [source.stem for source in sources] == ["a cup, #1 100% [x]; ä?", "y" * 40]


def test_a_folder_marker_in_s3_is_no_image(s3: S3) -> None:
    s3.put("in/", b"")
    s3.put("in/a.jpg/", b"")
    assert listed(f"s3://{s3.bucket}/in/") == []


def test_all_pages_of_a_listing_in_s3_are_read(s3_through) -> None:
    def answer(request) -> tuple[int, dict[str, str], bytes]:
        key, more = ("b", "false") if "continuation-token=next" in request.path else ("a", "true")
        token = "<NextContinuationToken>next</NextContinuationToken>" if more == "true" else ""
        found = f"<Contents><Key>in/{key}.jpg</Key></Contents><IsTruncated>{more}</IsTruncated>{token}"
        return 200, {}, f"<ListBucketResult>{found}</ListBucketResult>".encode()

    s3_through(answer)
    assert names("s3://bucket/in/", "s3://bucket/in/") == ["a.jpg", "b.jpg"]


def test_a_whole_bucket_is_a_prefix(s3: S3) -> None:
    s3.put("a.jpg")
    assert names(f"s3://{s3.bucket}/", f"s3://{s3.bucket}/") == ["a.jpg"]


def test_listed_images_keep_the_connection_of_the_prefix(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", aws_connection(s3.url))
    s3.put("in/a.jpg")
    for prefix in ("in/", "in/*.jpg"):
        (entry,) = listed(f"s3a://mine@{s3.bucket}/{prefix}", aws_conn_id=None)
        assert entry.image == f"s3://mine@{s3.bucket}/in/a.jpg"


def test_the_uri_of_a_local_folder_is_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "c%20.jpg").touch()
    assert [entry.image for entry in listed(f"file://{tmp_path}/a%20b/")] == [f"{tmp_path}/a b/c%20.jpg"]


def test_links_to_images_are_listed_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert names(f"{tmp_path}/", f"{tmp_path}/") == ["a.jpg", "b.jpg"]


def test_a_name_that_is_not_utf8_is_an_entry_with_a_problem(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.jpg")).touch()
    (entry,) = list_images(f"{tmp_path}/", aws_conn_id=None)
    assert entry.problem == f"images: {tmp_path}/a?.jpg is not valid UTF-8. Rename the file."


def test_an_object_storage_path_is_a_glob(memory_store) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    memory_store.pipe("/photos/a.jpg", b"x")
    (entry,) = listed(ObjectStoragePath("memory://photos/*.jpg"))
    assert entry.image == str(ObjectStoragePath("memory://photos/a.jpg"))


# ------------------------------------------------------------------ globs


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.jpg", ["a.jpg", "b.JPG"]),
        ("*.JPG", ["a.jpg", "b.JPG"]),
        ("A*", []),
        ("*", ["a.jpg", "b.JPG", "c.png"]),
        ("*.*", ["a.jpg", "b.JPG", "c.png"]),
        ("*.txt*", []),
        ("?.p?g", ["c.png"]),
        ("[ab].*", ["a.jpg", "b.JPG"]),
        ("[!ab].*", ["c.png"]),
        ("*/*.jpg", ["x/d.jpg", "y2026/e.jpg"]),
        ("y*/*", ["y2026/e.jpg"]),
        ("y20[0-9][0-9]/*", ["y2026/e.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.JPG", "x/d.jpg", "x/z/f.jpg", "y2026/e.jpg"]),
        ("**", ["a.jpg", "b.JPG", "c.png", "x/d.jpg", "x/z/f.jpg", "y2026/e.jpg"]),
        ("x/**", ["d.jpg", "z/f.jpg"]),
        ("x/**/f.jpg", ["z/f.jpg"]),
        ("**/z/*", ["x/z/f.jpg"]),
        ("*.heic", ["g.heic"]),
        ("**/h[x]*", []),
    ],
)
def test_a_glob_names_what_matches(fill: Filled, glob: str, found: list[str]) -> None:
    root = fill("a.jpg", "b.JPG", "c.png", "x/d.jpg", "x/z/f.jpg", "y2026/e.jpg", "g.heic", "notes.txt")
    literal = root + ("x/" if glob.startswith("x/") else "")
    assert names(root + glob, literal) == found


def test_the_folder_of_an_image_starts_before_the_first_wildcard(fill: Filled) -> None:
    root = fill("2026/cups/a.jpg", "2025/b.jpg")
    assert [entry.folder for entry in listed(f"{root}202*/**/*.jpg")] == ["2025", "2026/cups"]
    assert [entry.folder for entry in listed(f"{root}2026/cup?/*.jpg")] == ["cups"]


def test_a_relative_glob_starts_from_the_workers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").touch()
    assert [entry.image for entry in listed("*.jpg")] == ["./a.jpg"]


@pytest.mark.parametrize(
    ("glob", "prefix", "delimiter"),
    [("2026-*/**/*.jpg", "in/2026-", None), ("2026*.jpg", "in/2026", "/"), ("*/*.jpg", "in/", None)],
)
def test_s3_is_asked_for_no_more_than_what_a_glob_can_match(
    s3_through, s3: S3, glob: str, prefix: str, delimiter: str | None
) -> None:
    s3.put("in/2026-01/a.jpg")
    s3.put("in/2026.jpg")
    through = s3_through(lambda _: None)
    assert len(listed(f"s3://{s3.bucket}/in/{glob}")) == 1
    (request,) = through.requests
    query = dict(parse_qsl(urlsplit(request.path).query))
    assert (query["prefix"], query.get("delimiter")) == (prefix, delimiter)


# ------------------------------------------------------------------ results among the images


def test_what_is_in_the_destination_below_the_prefix_is_left_out(fill: Filled) -> None:
    root = fill("a.jpg", "clean/a.png", "cleaner/b.jpg")
    destination = parse_destination(f"{root}clean/")
    assert names(root, root, destination=destination) == ["a.jpg", "cleaner/b.jpg"]
    assert names(f"{root}**/*.*", root, destination=destination) == ["a.jpg", "cleaner/b.jpg"]


def test_a_destination_above_or_beside_the_prefix_leaves_nothing_out(fill: Filled) -> None:
    root = fill("a.jpg")
    for destination in (root, root.removesuffix("in/"), root.replace("in/", "out/")):
        assert names(root, root, destination=parse_destination(destination)) == ["a.jpg"]


@pytest.mark.parametrize(
    ("images", "destination", "result"),
    [
        ("s3://b/in/", "s3://b/in/", "s3://b/in/cup_clean.png"),
        ("s3://me@b/in/", "s3a://b/", "s3://b/in/x/cup.png"),
        ("s3://b/in/**/*.png", "s3://b/in/", "s3://b/in/cup.png"),
        ("/in/", "/x/../in/", "/x/../in/cup.png"),
        ("gs://b/in/", "gcs://b/in/", "gcs://b/in/cup.png"),
    ],
)
def test_a_result_that_the_next_run_would_list_is_refused(images: str, destination: str, result: str) -> None:
    with pytest.raises(SegmindInputError, match=r"lies among the images that are listed.*Give a destination of its"):
        refuse_listed_result(images, parse_destination(destination), parse_destination(result).location)


@pytest.mark.parametrize(
    ("images", "destination", "result"),
    [
        ("s3://b/in/", "s3://b/out/", "s3://b/out/cup.png"),
        ("s3://b/in/", "s3://b/in/out/", "s3://b/in/out/cup.png"),
        ("s3://b/in/*.jpg", "s3://b/in/", "s3://b/in/cup.png"),
        ("s3://b/in/*.png", "s3://b/in/", "s3://b/in/x/cup.png"),
        ("s3://b/list.csv", "s3://b/", "s3://b/cup.png"),
        (["s3://b/cup.jpg"], "s3://b/", "s3://b/cup.png"),
    ],
)
def test_a_result_that_no_later_run_lists_is_allowed(images: object, destination: str, result: str) -> None:
    refuse_listed_result(images, parse_destination(destination), parse_destination(result).location)


# ------------------------------------------------------------------ what cannot be listed


def test_a_missing_bucket_or_folder_is_refused(s3: S3, memory_store, tmp_path: Path) -> None:
    with pytest.raises(SegmindInputError, match=r"^images: s3://no-such-bucket/in/: S3 has no such bucket"):
        listed("s3://no-such-bucket/in/")
    with pytest.raises(SegmindInputError, match=f"^images: {tmp_path}/in/: no such folder on this worker"):
        listed(f"{tmp_path}/in/*.jpg")
    with pytest.raises(
        SegmindInputError, match=r"^images: memory://nowhere/in/: the store has no such object or bucke"
    ):
        listed("memory://nowhere/in/")


def test_what_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    with pytest.raises(
        SegmindInputError, match=f"^images: {tmp_path}/in/ cannot be listed: Not a directory. Give a fo"
    ):
        listed(f"{tmp_path}/in/")


def test_a_store_that_fails_while_it_is_listed_is_a_storage_error(s3_through) -> None:
    s3_through(lambda _: (503, {}, b""))
    with pytest.raises(SegmindStorageError, match=r"^images: s3://bucket/in/: S3 failed .503"):
        listed("s3://bucket/in/")


@pytest.mark.parametrize(
    ("error", "raised"), [(PermissionError(), SegmindInputError), (RuntimeError(), SegmindStorageError)]
)
def test_another_store_that_refuses_or_fails_is_not_taken_for_empty(
    memory_store, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(memory_store, "ls", fail)
    with pytest.raises(raised, match=r"^images: memory://photos/in/: the store"):
        listed("memory://photos/in/")
