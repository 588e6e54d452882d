"""What the parameter ``images`` may be: lists as they are, and what is refused before anything is listed."""

from __future__ import annotations

from collections import UserList
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.listing import ListedImage, check_images, is_fixed_list, list_images


def listed(value: object) -> list[ListedImage]:
    check_images(value)
    return list_images(value, aws_conn_id=None)


# ------------------------------------------------------------------ lists


class Lazy:
    """What an XCom of a mapped task is: it can only be gone through."""

    def __iter__(self) -> Iterator[str]:
        return iter(["s3://b/a.jpg"])


@pytest.mark.parametrize("value", [["s3://b/a.jpg"], ("s3://b/a.jpg",), UserList(["s3://b/a.jpg"]), Lazy()])
def test_a_list_of_any_type_has_its_entries_as_they_are(value: object) -> None:
    assert is_fixed_list(value)
    assert listed(value) == [ListedImage("s3://b/a.jpg")]


def test_the_xcoms_of_a_mapped_task_are_read_in_large_slices() -> None:
    class XComs(Sequence[str]):
        requests: list[object] = []  # noqa: RUF012

        def __len__(self) -> int:
            return 2500

        def __getitem__(self, key: int | slice) -> str | list[str]:
            self.requests.append(key)
            wanted = range(2500)[key]
            return f"s3://b/{wanted}.jpg" if isinstance(key, int) else [f"s3://b/{index}.jpg" for index in wanted]

    assert [entry.image for entry in listed(XComs())] == [f"s3://b/{index}.jpg" for index in range(2500)]
    assert len(XComs.requests) == 4


def test_a_bad_entry_of_a_list_is_an_entry_with_a_problem() -> None:
    good, path = "s3://b/a.jpg", Path("/in/b.jpg")
    given = [good, None, 3, "", " ", {"image": good}, b"x", path]
    found = list_images(given, aws_conn_id=None)
    assert [entry.image for entry in found] == given
    assert [entry.image for entry in found if entry.problem is None] == [good, path]
    assert [(entry.problem or "").partition(".")[0] for entry in found[1:7]] == [
        "images[1] is None",
        "images[2] is 3, of type int",
        "images[3] is ''",
        "images[4] is ' '",
        "images[5] is {'image': 's3://b/a",
        "images[6] is b'x', of type bytes",
    ]


@pytest.mark.parametrize("value", ["s3://b/in/", Path("/in"), "s3://b/*.jpg", "/l.csv"])
def test_what_has_to_be_listed_is_not_a_fixed_list(value: object) -> None:
    assert not is_fixed_list(value)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is None. .*that task returned nothing"),
        ("", "is ''. If it is a template, it rendered to nothing"),
        (3, "is of type int, which cannot be listed. Give a list of images, a prefix"),
        (b"s3://b/in/", "is of type bytes, which cannot be listed"),
        ({"image": "s3://b/a.jpg"}, "is of type dict, which cannot be listed"),
        ({"s3://b/a.jpg"}, "is of type set, which has no order"),
        ("['s3://b/a.jpg', 's3://b/b.jpg']", "a list that was rendered. Pass the list itself .task.output., or set"),
        ('["s3://b/a.jpg"]', "render_template_as_native_obj=True"),
        ("[]", "a list that was rendered"),
        ("('s3://b/a.jpg',)", "a list that was rendered"),
        ("LazyXComSelectSequence([3 items])", "a list that was rendered"),
        ("<airflow.models.xcom_arg.PlainXComArg object at 0x7f00>", "a list that was rendered"),
        ("s3://b/a.jpg\ns3://b/b.jpg", "several lines. Give a list"),
        ("s3://b/a.jpg", "is 's3://b/a.jpg', a single image. Use BriaEraseForegroundOperator, or put it into a list"),
        ("/in/a.PNG", "a single image"),
        ("https://h.example/a.jpg?sig=hidden", "is 'https://h.example/a.jpg.*a single image"),
        ("data:image/png;base64,hidden", "is a data URI, a single image"),
        ("https://h.example/in/", "and a URL cannot be listed. Put URLs into a list"),
        ("https://h.example/l.csv", "and a URL cannot be listed"),
        ("https://h.example/*.jpg", "a single image|cannot be listed"),
        ("s3://b/in", "neither a prefix nor a glob nor a list file. For a prefix, write 's3://b/in/' with a slash"),
        ("s3://b", "write 's3://b/' with a slash at its end"),
        ("/in", "write '/in/' with a slash"),
        (Path("/in"), "write '/in/' with a slash at its end as text, since a path object drops the slash"),
        ("s3://b/list.json", "neither a prefix nor a glob nor a list file.*a list file .*.jsonl"),
        ("s3://b*/in/a.jpg", "whose bucket has a wildcard. Name one bucket"),
        ("gs://b?/in/", "whose bucket has a wildcard"),
        ("s3://b/*/", "a glob of folders. Add .. for all that is in them"),
        ("s3://b/*.csv", "a glob of list files. Name one"),
        ("s3:/b/in/", "two slashes"),
        ("ftp://h.example/in/", "cannot open this store"),
    ],
)
def test_what_names_no_images_is_refused_with_a_remedy(value: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=rf"^images\b.*{words}") as caught:
        check_images(value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["s3://b/in/", "s3://b/", "s3://b/**/*.jpg", "/photos [2026]/", "gs://b/in/*.png", "/l (1).csv", "~/in/", "in/"],
)
def test_a_prefix_a_glob_and_a_list_file_are_accepted_without_being_opened(value: str) -> None:
    check_images(value)
