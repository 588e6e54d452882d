"""One S3 client for each AWS connection of a process: who shares it, and when it is made again."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files import s3_client
from airflow_provider_segmind.files.location import parse_location
from airflow_provider_segmind.files.s3_client import read_connections_once, s3_hook
from airflow_provider_segmind.files.source import inspect_image, parse_image
from tests.s3_server import PNG, S3, aws_connection

from .delivering import deliver
from .storing import put


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Return the arguments of each client that boto makes from now on."""
    from boto3.session import Session

    calls: list[dict[str, object]] = []
    make = Session.client

    def count(self: Session, **options: object) -> object:
        calls.append(options)
        return make(self, **options)

    monkeypatch.setattr(Session, "client", count)
    return calls


def client_of(uri: str = "s3://bucket/a.png", aws_conn_id: str | None = "aws_default") -> object:
    return s3_hook(parse_location("image", uri), aws_conn_id).get_conn()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **extra: object) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(url, **extra))


# ------------------------------------------------------------------ sharing


def test_the_source_and_the_destination_of_images_share_one_client(s3: S3, made, monkeypatch) -> None:
    connect(monkeypatch, s3.url, role_name_of_this_test="sharing")
    for name in ("a", "b"):
        deliver(s3.put(f"in/{name}.png"))
        put(f"s3://{s3.bucket}/out/{name}.png", derived=True)
    assert len(made) == 1


def test_two_connections_have_two_clients(s3: S3, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", aws_connection(s3.url, region_name="eu-west-1"))
    assert client_of("s3://mine@bucket/a.png") is client_of("s3://mine@other/b.png")
    assert client_of("s3://mine@bucket/a.png") is not client_of("s3://bucket/a.png")


def test_threads_that_need_a_client_at_once_make_one(s3: S3, made, monkeypatch) -> None:
    connect(monkeypatch, s3.url, role_name_of_this_test="threads")
    together = threading.Barrier(8)
    clients = []

    def take() -> None:
        together.wait()
        clients.append(client_of())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 8
    assert len(made) == 1


def test_a_forked_process_does_not_use_the_client_of_its_parent() -> None:
    code = """
import os
from airflow_provider_segmind.files.location import parse_location
from airflow_provider_segmind.files.s3_client import s3_hook

def client():
    return s3_hook(parse_location("image", "s3://bucket/a.png"), "aws_default").get_conn()

inherited = client()
assert client() is inherited
child = os.fork()
if child == 0:
    os._exit(1 if client() is inherited else 0)
print("the child's exit status:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "AIRFLOW_CONN_AWS_DEFAULT": aws_connection("http://localhost:1")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "the child's exit status: 0" in ran.stdout


def test_nothing_of_ours_is_added_to_a_client_after_it_is_made(s3: S3, monkeypatch) -> None:
    events = client_of().meta.events
    ours: list[object] = []

    def watch(register: Callable[..., None]) -> Callable[..., None]:
        def registered(name: str, handler: Callable[..., object], *rest: object, **more: object) -> None:
            if "segmind" in handler.__module__:
                ours.append(handler)
            register(name, handler, *rest, **more)

        return registered

    for name in ("register", "register_first", "register_last"):
        monkeypatch.setattr(events, name, watch(getattr(events, name)))
    deliver(s3.put("in/a.png"))
    put(f"s3://{s3.bucket}/out/a.png", derived=True)
    assert client_of().meta.events is events
    assert ours == []


# ------------------------------------------------------------------ what a request does not leave behind


def conditions(requests) -> dict[str, str | None]:
    """Return the condition of each write by the name of its object."""
    writes = [request for request in requests if request.method == "PUT"]
    return {request.path.rpartition("/")[2]: request.headers.get("If-None-Match") for request in writes}


def test_a_condition_applies_only_to_its_own_upload(s3: S3, s3_through) -> None:
    proxy = s3_through(lambda _: None)
    put(f"s3://{s3.bucket}/plain.png")
    put(f"s3://{s3.bucket}/conditional.png", derived=True)
    client_of().put_object(Bucket=s3.bucket, Key="other.png", Body=PNG)
    assert conditions(proxy.requests) == {"plain.png": None, "conditional.png": "*", "other.png": None}


def test_a_condition_does_not_apply_to_the_upload_of_another_thread(s3: S3, s3_through) -> None:
    conditional_arrived, plain_done = threading.Event(), threading.Event()

    def hold(request) -> None:
        if request.method == "PUT" and "conditional" in request.path:
            conditional_arrived.set()
            plain_done.wait(10)

    class Waits(io.BytesIO):
        """A file whose upload has begun when the conditional one begins, and whose request is made after that."""

        def tell(self) -> int:
            if conditional.ident is None:
                conditional.start()
            assert conditional_arrived.wait(10)
            return super().tell()

    proxy = s3_through(hold)
    conditional = threading.Thread(target=put, args=(f"s3://{s3.bucket}/conditional.png",), kwargs={"derived": True})
    put(f"s3://{s3.bucket}/plain.png", file=Waits(PNG))
    plain_done.set()
    conditional.join()
    assert conditions(proxy.requests) == {"conditional.png": "*", "plain.png": None}


def test_each_image_of_a_bucket_in_another_region_gets_a_url_for_that_region(serve, monkeypatch) -> None:
    def answer(request) -> tuple[int, dict[str, str], bytes]:
        if "/eu-west-1/s3/" in request.headers["Authorization"]:
            return 206, {"ETag": '"x"'}, PNG
        return 301, {"x-amz-bucket-region": "eu-west-1"}, b""

    seen = serve(answer)
    connect(monkeypatch, seen.url)
    urls = [deliver(f"s3://bucket/{name}.png") for name in "ab"]
    assert ["/eu-west-1/s3/" in url.replace("%2F", "/") for url in urls] == [True, True]
    # botocore knows the region of the second one, and is told nothing in the response.
    assert [request.path for request in seen.requests] == ["/bucket/a.png", "/bucket/a.png", "/bucket/b.png"]


def test_a_connection_without_signatures_reads_and_gives_a_url_without_one(serve, monkeypatch) -> None:
    seen = serve(lambda _: (206, {"ETag": '"x"'}, PNG))
    connect(monkeypatch, seen.url, config_kwargs={"signature_version": "unsigned"})
    assert deliver("s3://bucket/a.png") == f"{seen.url}/bucket/a.png"
    assert ["Authorization" in request.headers for request in seen.requests] == [False]


# ------------------------------------------------------------------ when a client is made again


def test_a_changed_connection_has_another_client(s3: S3, serve, monkeypatch) -> None:
    put(f"s3://{s3.bucket}/a.png")
    moved = serve(lambda _: (200, {"ETag": '"x"'}, b""))
    connect(monkeypatch, moved.url)
    put(f"s3://{s3.bucket}/b.png")
    assert s3.keys() == ["a.png"]
    assert [request.path for request in moved.requests] == [f"/{s3.bucket}/b.png"]


def test_a_rotated_key_is_used_at_once(serve, monkeypatch) -> None:
    seen = serve(lambda _: (200, {"ETag": '"x"'}, b""))
    connect(monkeypatch, seen.url)
    put("s3://bucket/a.png")
    rotated = aws_connection(seen.url).replace("AKIATEST", "AKIAROTATED")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", rotated)
    put("s3://bucket/b.png")
    keys = [request.headers["Authorization"].partition("Credential=")[2].split("/")[0] for request in seen.requests]
    assert keys == ["AKIATEST", "AKIAROTATED"]


def test_credentials_of_the_environment_that_change_are_used_at_once(serve, monkeypatch) -> None:
    seen = serve(lambda _: (206, {"ETag": '"x"'}, PNG))
    monkeypatch.setenv("AWS_ENDPOINT_URL", seen.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    for key in ("AKIAFIRST", "AKIASECOND"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        inspect_image(parse_image("s3://bucket/a.png"), aws_conn_id=None)
    keys = [request.headers["Authorization"].partition("Credential=")[2].split("/")[0] for request in seen.requests]
    assert keys == ["AKIAFIRST", "AKIASECOND"]


def test_a_part_of_a_job_reads_a_connection_once(s3: S3, monkeypatch) -> None:
    with read_connections_once():
        first = client_of()
        connect(monkeypatch, s3.url, region_name="eu-west-1")
        with read_connections_once():
            assert client_of() is first
        assert client_of() is first
    assert client_of() is not first


def test_a_part_that_takes_long_reads_a_connection_again(s3: S3, monkeypatch) -> None:
    monkeypatch.setattr(s3_client, "READING_SECONDS", 0.0)
    with read_connections_once():
        first = client_of()
        connect(monkeypatch, s3.url, region_name="eu-west-1")
        assert client_of() is not first


def test_an_old_client_is_made_again_as_its_credentials_may_be_from_a_file(s3: S3, monkeypatch) -> None:
    first = client_of()
    assert client_of() is first
    monkeypatch.setattr(s3_client, "CLIENT_SECONDS", 0.0)
    assert client_of() is not first


def test_clients_that_have_become_old_are_not_kept(s3: S3, monkeypatch) -> None:
    for region in ("eu-west-1", "eu-west-2", "eu-west-3"):
        connect(monkeypatch, s3.url, region_name=region)
        client_of()
    old = set(s3_client._clients)
    monkeypatch.setattr(s3_client, "CLIENT_SECONDS", 0.0)
    client_of()
    assert len(old & set(s3_client._clients)) == 1


def test_a_client_that_cannot_be_made_leaves_nothing_behind(s3: S3, monkeypatch) -> None:
    connect(monkeypatch, "not a url")
    before = set(s3_client._clients)
    with pytest.raises(SegmindInputError, match="no S3 client can be made"):
        client_of()
    assert set(s3_client._clients) == before
