from __future__ import annotations

import pickle

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.naming import NameTemplate, find_name_conflicts


def named(
    template: str = "{folder}/{stem}.{ext}",
    folder: str = "2026/cups",
    stem: str = "cup",
    index: int = 7,
    extension: str = "png",
) -> str:
    return NameTemplate(template).name(folder=folder, stem=stem, index=index).with_extension(extension)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{folder}/{stem}.{ext}", "2026/cups/cup.png"),
        ("{stem}.{ext}", "cup.png"),
        ("{folder}_{stem}.{ext}", "2026/cups_cup.png"),
        ("{ext}/{stem}.{ext}", "png/cup.png"),
        ("{index}.{ext}", "7.png"),
        ("{index:05}-{stem}.{ext}", "00007-cup.png"),
        ("{index:05d}.{ext}", "00007.png"),
        ("{folder}/clean {{v2}}.{ext}", "2026/cups/clean {v2}.png"),
    ],
)
def test_a_template_puts_a_name_together_of_its_fields(template: str, name: str) -> None:
    assert named(template) == name


def test_the_folder_of_the_source_is_kept_by_default() -> None:
    assert NameTemplate().name(folder="a/b", stem="cup", index=0).with_extension("jpg") == "a/b/cup.jpg"


def test_an_empty_folder_leaves_no_slash() -> None:
    assert named(folder="") == "cup.png"
    assert named("clean/{folder}/{stem}.{ext}", folder="") == "clean/cup.png"


def test_a_template_without_an_extension_gets_one() -> None:
    assert named("{stem}_clean") == "cup_clean.png"
    assert named("v1.{stem}") == "v1.cup.png"


@pytest.mark.parametrize("extension", ["webp", ".webp"])
def test_the_extension_is_filled_in_when_the_result_is_there(extension: str) -> None:
    assert named(extension=extension) == "2026/cups/cup.webp"


def test_a_name_has_one_key_for_all_extensions() -> None:
    template = NameTemplate("{stem}.{ext}")
    assert template.name(folder="", stem="cup", index=0).key == template.name(folder="x", stem="cup", index=1).key
    assert template.name(folder="", stem="cup", index=0).key != template.name(folder="", stem="cap", index=0).key


def test_a_stem_that_reads_like_a_field_stays_as_it_is() -> None:
    assert named("{stem}.{ext}", stem="{ext}") == "{ext}.png"


@pytest.mark.parametrize(
    ("folder", "stem", "name"),
    [
        ("a", "b/c", "a/b_c.png"),
        ("a//b/", "c", "a/b/c.png"),
        ("../..", "c", "__/__/c.png"),
        ("./a", "c", "_/a/c.png"),
        ("a\nb", "c\0d", "ab/cd.png"),
        ("\udcff", "c", "c.png"),
        (".hidden", ".c", ".hidden/.c.png"),
    ],
)
def test_no_name_of_a_source_leaves_the_destination_or_its_folder(folder: str, stem: str, name: str) -> None:
    assert named(folder=folder, stem=stem) == name


def test_a_name_can_be_pickled() -> None:
    name = NameTemplate().name(folder="a", stem="b", index=0)
    assert pickle.loads(pickle.dumps(name)) == name


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{name}.{ext}", r"unknown field {name}. Known are {folder}, {stem}, {ext}, {index}"),
        ("{stem.real}.{ext}", "unknown field {stem.real}"),
        ("{stem[0]}.{ext}", r"unknown field {stem\[0\]}"),
        ("{}.{ext}", "unknown field {}"),
        ("{0}.{ext}", "unknown field {0}"),
        ("{stem!r}.{ext}", r"format '!r' for {stem}. Only {index} takes one"),
        ("{stem:>5}.{ext}", "format '>5' for {stem}"),
        ("{index:5}.{ext}", "format '5' for {index}.*{index:05}"),
        ("{index:{stem}}.{ext}", "format '{stem}' for {index}"),
        ("{stem.{ext}", r"unknown field|cannot be parsed"),
        ("{stem}}.{ext}", "cannot be parsed .*Close each brace"),
        ("{stem", "cannot be parsed"),
        ("/out/{stem}.{ext}", "leads out of the destination"),
        ("s3://b/{stem}.{ext}", "leads out of the destination"),
        ("../{stem}.{ext}", "leads out of the destination"),
        ("{folder}/./{stem}.{ext}", "leads out of the destination"),
        ("{stem}/", "ends in a slash"),
        ("", "would give every result the same name"),
        ("result.{ext}", "would give every result the same name. Use {stem}"),
        ("{stem}.png", "ends in .png. Write {ext} instead of png"),
        ("{folder}/{stem}.JPEG", "ends in .JPEG. Write {ext}"),
        ("{stem}\n.{ext}", "cannot be printed"),
        (None, "is of type NoneType. Give a text"),
        (3, "is of type int"),
    ],
)
def test_a_template_that_cannot_name_results_is_refused_with_a_remedy(template: object, words: str) -> None:
    with pytest.raises(SegmindInputError, match=f"^name_template .*{words}"):
        NameTemplate(template)


@pytest.mark.parametrize(("folder", "stem"), [("", "x" * 251), ("é" * 128, "c"), ("/".join(["x" * 200] * 5), "y" * 20)])
def test_a_name_that_no_store_takes_is_refused(folder: str, stem: str) -> None:
    with pytest.raises(SegmindInputError, match=r"gives the name .* bytes. A name may have 1024 bytes, and 255 for"):
        named(folder=folder, stem=stem)


def test_the_longest_name_is_taken() -> None:
    assert len(named(folder="", stem="x" * 250, extension="webp")) == 255


@pytest.mark.parametrize(
    ("template", "folder"), [("{folder}/{stem}.{ext}", "_segmind/x"), ("_segmind/{stem}.{ext}", "")]
)
def test_the_folder_in_which_a_batch_keeps_its_state_is_refused(template: str, folder: str) -> None:
    with pytest.raises(SegmindInputError, match="The folder _segmind/ is the batch's own"):
        named(template, folder=folder)


# ------------------------------------------------------------------ conflicts


def conflicts(*sources: tuple[str, str]) -> str | None:
    """Return the error about sources, each given by its address and the stem of its result."""
    template = NameTemplate("{stem}.{ext}")
    error = find_name_conflicts(
        (address.partition("?")[0], address, template.name(folder="", stem=stem, index=index))
        for index, (address, stem) in enumerate(sources)
    )
    return str(error) if error else None


def test_sources_with_names_of_their_own_do_not_conflict() -> None:
    assert conflicts(("s3://b/a.jpg", "a"), ("s3://b/b.jpg", "b")) is None


def test_two_sources_with_one_name_are_both_named() -> None:
    error = conflicts(("s3://b/x/a.jpg", "a"), ("s3://b/b.jpg", "b"), ("s3://b/y/a.jpg", "a"))
    assert error is not None
    assert "'a.{ext}' for s3://b/x/a.jpg and s3://b/y/a.jpg" in error
    assert "{folder}" in error
    assert "{index}" in error
    assert "s3://b/b.jpg" not in error


def test_sources_that_differ_in_their_query_only_conflict_as_well() -> None:
    error = conflicts(("https://h/p?id=1", "p"), ("https://h/p?id=2", "p"))
    assert error is not None
    assert "for https://h/p and https://h/p (the same address with another query)" in error


def test_a_source_that_is_listed_twice_does_not_conflict_with_itself() -> None:
    assert conflicts(("s3://b/a.jpg", "a"), ("s3://b/a.jpg", "a")) is None


def test_of_many_conflicts_three_are_shown_and_the_rest_are_counted() -> None:
    error = conflicts(*((f"s3://b/{index}/a.jpg", "a") for index in range(10)))
    assert error is not None
    assert error.count(" for s3://") == 3
    assert "; and 6 more" in error
