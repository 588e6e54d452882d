"""What is stored already: whose result it is, and that another image's result is never replaced at a derived name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.destination import Destination, find_stored, parse_destination
from airflow_provider_segmind.files.provenance import Provenance, StoredResult, refuse_other_image, sidecar_of
from tests.s3_server import S3, aws_connection

from .pictures import PNG, picture
from .storing import derived_name, provenance, put, stored_at

FRONT, OTHER_FRONT = "s3://photos/a/front.jpg", "s3://photos/b/front.jpg"
OTHER_PNG = picture()
LARGE = bytes(9 << 20)  # two parts


@pytest.fixture(params=["s3", "object", "file"])
def prefix(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """A prefix in a store of each kind."""
    if request.param == "s3":
        return parse_destination(f"s3://{request.getfixturevalue('s3').bucket}/out/")
    if request.param == "object":
        request.getfixturevalue("memory_store")
        return parse_destination("memory://results/out/")
    return parse_destination(f"{tmp_path}/out/")


@pytest.fixture
def write(request: pytest.FixtureRequest) -> Callable[[Destination, str, bytes], None]:
    """Write a file below a prefix as somebody else does, without provenance."""

    def write_there(prefix: Destination, name: str, content: bytes) -> None:
        location = prefix.location
        if location.kind == "s3":
            request.getfixturevalue("s3").put(location.key + name, content)
        elif location.kind == "file":
            Path(location.uri).mkdir(parents=True, exist_ok=True)
            Path(location.uri, name).write_bytes(content)
        else:
            request.getfixturevalue("memory_store").pipe(f"/results/out/{name}", content)

    return write_there


def find(prefix: Destination, stem: str | None = "front") -> StoredResult | None:
    return find_stored(prefix, stem, aws_conn_id="aws_default")


# ------------------------------------------------------------------ finding


def test_nothing_is_found_where_nothing_is_stored(prefix: Destination) -> None:
    assert find(prefix) is None


def test_a_stored_result_is_found_with_its_facts_and_its_provenance(prefix: Destination) -> None:
    made_from = provenance(PNG, FRONT)
    put(derived_name(prefix, FRONT), of=made_from)
    found = find(prefix)
    assert found is not None
    assert (found.size, found.content_type, found.provenance) == (len(PNG), "image/png", made_from)
    assert found.location.uri == prefix.location.uri + "front.png"


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp"])
def test_a_result_at_a_prefix_is_found_with_any_extension_of_an_image(prefix: Destination, extension: str) -> None:
    put(prefix.locate(stem="front", extension=extension))
    found = find(prefix)
    assert found is not None
    assert found.location.uri.endswith(f"front{extension}")


def test_a_result_is_preferred_to_a_file_of_unknown_origin(prefix: Destination, write) -> None:
    write(prefix, "front.png", OTHER_PNG)
    put(prefix.locate(stem="front", extension=".webp"))
    found = find(prefix)
    assert found is not None
    assert found.location.uri.endswith("front.webp")


def test_a_result_at_a_full_name_is_found_without_a_stem(tmp_path: Path) -> None:
    put(f"{tmp_path}/out.png")
    found = find(parse_destination(f"{tmp_path}/out.png"), None)
    assert found is not None
    assert found.provenance == provenance(PNG)


def test_a_file_that_somebody_else_wrote_has_no_provenance(prefix: Destination, write) -> None:
    write(prefix, "front.png", PNG)
    found = find(prefix)
    assert found is not None
    assert (found.size, found.provenance) == (len(PNG), None)


@pytest.mark.parametrize("replacement", [OTHER_PNG, PNG[:-1] + b"x"], ids=["another size", "the same size"])
def test_a_result_that_somebody_has_replaced_has_no_provenance(prefix: Destination, write, replacement: bytes) -> None:
    put(derived_name(prefix, FRONT))
    write(prefix, "front.png", replacement)
    found = find(prefix)
    assert found is not None
    assert found.provenance is None


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"version": 2, "size": 1}', b'{"version": 1, "size": 1, "what": 2}'],
)
def test_a_damaged_hidden_file_counts_as_unknown_provenance(tmp_path: Path, damaged: bytes) -> None:
    put(f"{tmp_path}/front.png")
    Path(sidecar_of(f"{tmp_path}/front.png")).write_bytes(damaged)
    found = stored_at(f"{tmp_path}/front.png")
    assert found is not None
    assert found.provenance is None


def test_a_hidden_file_with_a_field_missing_counts_as_unknown_provenance(tmp_path: Path) -> None:
    put(f"{tmp_path}/front.png")
    sidecar = Path(sidecar_of(f"{tmp_path}/front.png"))
    facts = json.loads(sidecar.read_text())
    del facts["source_digest"]
    sidecar.write_text(json.dumps(facts))
    found = stored_at(f"{tmp_path}/front.png")
    assert found is not None
    assert found.provenance is None


def test_who_may_not_see_an_object_finds_nothing(s3_through) -> None:
    s3_through(lambda _: (403, {}, b""))
    assert stored_at("s3://bucket/a.png") is None


def test_an_object_that_must_be_seen_and_cannot_is_an_error_that_names_the_permissions(s3_through) -> None:
    s3_through(lambda _: (403, {}, b""))
    with pytest.raises(SegmindInputError, match=r"s3:GetObject .* s3:ListBucket"):
        find_stored(parse_destination("s3://bucket/a.png"), None, aws_conn_id="aws_default", must_see=True)


def test_an_s3_that_fails_is_not_taken_for_an_empty_destination(s3_through) -> None:
    s3_through(lambda _: (503, {}, b""))
    with pytest.raises(SegmindStorageError):
        stored_at("s3://bucket/a.png")


# ------------------------------------------------------------------ metadata


def test_the_provenance_in_s3_is_readable_metadata(s3: S3) -> None:
    put(f"s3://{s3.bucket}/a.png", of=provenance(PNG, FRONT))
    metadata = s3.get("a.png")["Metadata"]
    assert metadata["segmind-request-id"] == "request-1"
    assert metadata["segmind-model"] == "bria-erase-foreground"
    assert metadata["segmind-source"] == FRONT
    assert set(metadata) >= {"segmind-source-digest", "segmind-input-digest", "segmind-sha256"}


@pytest.mark.parametrize("label", ["s3://b/grün\n100%.png", "s3://b/100%25 .png", "", None])
def test_any_label_of_a_source_survives_the_metadata_of_s3(s3: S3, label: str | None) -> None:
    put(f"s3://{s3.bucket}/a.png", of=provenance(source=label))
    found = stored_at(f"s3://{s3.bucket}/a.png")
    assert found is not None
    assert found.provenance == provenance(source=label or None)


def test_the_label_of_a_source_is_cut_to_the_room_that_s3_leaves(s3: S3) -> None:
    long = "s3://b/" + "ü" * 3000
    put(f"s3://{s3.bucket}/a.png", of=provenance(source=long), s3_extra_args={"Metadata": {"x": "y" * 900}})
    metadata = s3.get("a.png")["Metadata"]
    assert 2000 < sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    found = stored_at(f"s3://{s3.bucket}/a.png")
    assert found is not None
    assert found.provenance is not None
    assert long.startswith(str(found.provenance.source))
    assert found.provenance.source_digest == provenance().source_digest


# ------------------------------------------------------------------ never another image's result


def refused(stored: StoredResult | None, of: Provenance) -> None:
    with pytest.raises(SegmindInputError, match=r"holds the result of another image"):
        refuse_other_image(stored, of)


def test_another_images_result_is_refused_before_anything_is_paid_and_both_are_named(prefix: Destination) -> None:
    put(derived_name(prefix, FRONT), of=provenance(PNG, FRONT))
    other = provenance(OTHER_PNG, OTHER_FRONT, request_id="")
    with pytest.raises(
        SegmindInputError, match=rf"front.png holds the .*, {FRONT}, .* that of {OTHER_FRONT}"
    ) as caught:
        refuse_other_image(find(prefix), other)
    assert "paid" not in str(caught.value)


def test_sources_with_the_same_label_are_told_apart_by_their_query(prefix: Destination) -> None:
    one, other = "https://cdn.example/front?id=1", "https://cdn.example/front?id=2"
    put(derived_name(prefix, one), of=provenance(PNG, one))
    with pytest.raises(SegmindInputError, match=r"https://cdn.example/front \(the same address with another query\)"):
        put(derived_name(prefix, other), OTHER_PNG, of=provenance(OTHER_PNG, other), derived=True)


@pytest.mark.parametrize("other", [OTHER_FRONT, "s3://photos/a/front.png", "/photos/a/front.jpg"])
def test_another_images_result_is_not_replaced_at_a_derived_name(prefix: Destination, other: str) -> None:
    put(derived_name(prefix, FRONT), of=provenance(PNG, FRONT), derived=True)
    of = provenance(OTHER_PNG, other, request_id="request-2")
    with pytest.raises(SegmindInputError, match=r"request request-2 is paid for and stays at Segmind for 7 days"):
        put(derived_name(prefix, other), OTHER_PNG, of=of, derived=True)
    found = find(prefix)
    assert found is not None
    assert found.provenance == provenance(PNG, FRONT)


def test_the_result_of_the_same_image_is_replaced_at_a_derived_name(prefix: Destination) -> None:
    put(derived_name(prefix, FRONT), of=provenance(PNG, FRONT), derived=True)
    again = provenance(OTHER_PNG, FRONT, flags="others", request_id="request-2")
    put(derived_name(prefix, FRONT), OTHER_PNG, of=again, derived=True)
    found = find(prefix)
    assert found is not None
    assert found.provenance == again


def test_the_same_bytes_under_another_name_are_the_same_image(prefix: Destination) -> None:
    put(derived_name(prefix, FRONT), of=provenance(PNG, FRONT), derived=True)
    copy = provenance(PNG, OTHER_FRONT, input_digest=provenance(PNG, FRONT).input_digest)
    put(derived_name(prefix, OTHER_FRONT), of=copy, derived=True)


def test_a_file_of_unknown_provenance_is_replaced_at_a_derived_name(prefix: Destination, write) -> None:
    write(prefix, "front.png", OTHER_PNG)
    put(derived_name(prefix, FRONT), of=provenance(PNG, FRONT), derived=True)
    found = find(prefix)
    assert found is not None
    assert found.provenance == provenance(PNG, FRONT)


def test_a_name_that_the_user_wrote_out_is_overwritten_whoever_is_there(prefix: Destination) -> None:
    put(derived_name(prefix, FRONT), of=provenance(PNG, FRONT))
    put(derived_name(prefix, OTHER_FRONT), OTHER_PNG, of=provenance(OTHER_PNG, OTHER_FRONT), derived=False)
    found = find(prefix)
    assert found is not None
    assert found.provenance == provenance(OTHER_PNG, OTHER_FRONT)


# ------------------------------------------------------------------ conditional writes in S3


@pytest.mark.parametrize("content", [PNG, LARGE], ids=["in one request", "in parts"])
@pytest.mark.parametrize("before", [None, FRONT], ids=["nothing there", "an older result there"])
def test_a_result_that_appears_between_the_look_and_the_write_is_not_replaced(
    s3: S3, s3_through, content: bytes, before: str | None
) -> None:
    target = f"s3://{s3.bucket}/front.png"
    direct = aws_connection(s3.url)
    if before:
        put(target, of=provenance(PNG, before))
    conditions = []

    def interfere(request):
        header = request.headers.get("If-None-Match") or request.headers.get("If-Match")
        if header is None:
            return None
        conditions.append(header)
        if len(conditions) == 1:
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("AIRFLOW_CONN_AWS_DEFAULT", direct)
                put(target, OTHER_PNG, of=provenance(OTHER_PNG, OTHER_FRONT))
            if request.headers.get("If-Match"):  # moto does not check it where a multipart upload is completed
                return 412, {"Content-Type": "application/xml"}, b"<Error><Code>PreconditionFailed</Code></Error>"
        return None

    s3_through(interfere)
    with pytest.raises(SegmindInputError, match=rf"holds the result of another image, {OTHER_FRONT}"):
        put(target, content, of=provenance(content, FRONT, request_id="request-3"), derived=True)
    assert s3.get("front.png")["Body"] == OTHER_PNG
    assert (conditions == ["*"]) is (before is None)
    assert s3.unfinished_uploads() == []


def test_a_write_whose_response_was_lost_is_not_refused_when_boto_repeats_it(
    s3: S3, s3_through, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []

    def lose(request):
        if request.method == "PUT" and not lost:
            lost.append(request)
            s3.client.put_object(
                Bucket=s3.bucket, Key="front.png", Body=PNG, Metadata=provenance(PNG, FRONT).as_metadata({})
            )
            return 500, {}, b""
        return None

    proxy = s3_through(lose)
    repeat = {"retries": {"total_max_attempts": 2}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(proxy.url, config_kwargs=repeat))
    put(f"s3://{s3.bucket}/front.png", of=provenance(PNG, FRONT), derived=True)
    assert [request.method for request in proxy.requests] == ["HEAD", "PUT", "PUT", "HEAD"]


def test_a_store_without_conditional_writes_is_written_to_after_a_look(s3: S3, s3_through) -> None:
    def refuse_conditions(request):
        if "If-None-Match" in request.headers or "If-Match" in request.headers:
            return 501, {"Content-Type": "application/xml"}, b"<Error><Code>NotImplemented</Code></Error>"
        return None

    s3_through(refuse_conditions)
    put(f"s3://{s3.bucket}/front.png", of=provenance(PNG, FRONT), derived=True)
    with pytest.raises(SegmindInputError, match=r"another image"):
        put(f"s3://{s3.bucket}/front.png", OTHER_PNG, of=provenance(OTHER_PNG, OTHER_FRONT), derived=True)
    assert s3.get("front.png")["Body"] == PNG


def test_an_object_that_cannot_be_looked_at_is_not_replaced_at_a_derived_name(s3: S3, s3_through) -> None:
    s3.put("front.png", OTHER_PNG)
    s3_through(lambda request: (403, {}, b"") if request.method == "HEAD" else None)
    with pytest.raises(SegmindInputError, match=r"may not read whose result it is. Allow it s3:GetObject"):
        put(f"s3://{s3.bucket}/front.png", of=provenance(PNG, FRONT), derived=True)
    assert s3.get("front.png")["Body"] == OTHER_PNG


def test_a_missing_bucket_is_not_taken_for_a_conflict(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"S3 has no such bucket"):
        put("s3://no-such-bucket-here/front.png", derived=True)


def test_only_one_writer_at_a_time_looks_at_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    locked = []
    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda *how: (locked.append(how[1]), flock(*how)))
    put(f"{tmp_path}/front.png", derived=True)
    assert locked[0] == fcntl.LOCK_EX
