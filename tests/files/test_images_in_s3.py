from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files.s3 import presign
from airflow_provider_segmind.files.source import ImageDelivery, deliver_image, inspect_image, parse_image
from tests.s3_server import PNG, S3, aws_connection

from .delivering import deliver, no_upload, run_operation


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_an_object_in_s3_is_sent_as_a_presigned_url_that_anybody_can_fetch(s3: S3) -> None:
    url = deliver(s3.put("in/a photo?#1%20.png"), valid_for=600)
    assert httpx.get(url).content == PNG
    assert query_of(url)["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert len(query_of(url)["X-Amz-Signature"]) == 64
    assert query_of(url)["X-Amz-SignedHeaders"] == "host"  # moto does not check it


@pytest.mark.parametrize(
    ("valid_for", "seconds"),
    [(600, "600"), (600.2, "601"), (0.1, "1"), (-5, "1"), (1e9, "604800"), (float("inf"), "604800")],
)
def test_the_lifetime_of_a_presigned_url_is_rounded_up_and_at_most_seven_days(
    s3: S3, valid_for: float, seconds: str
) -> None:
    url = presign(s3.put("a.png"), aws_conn_id="aws_default", valid_for=valid_for)
    assert query_of(url)["X-Amz-Expires"] == seconds


@pytest.mark.parametrize(("style", "host"), [("path", "s3.example"), ("virtual", "the-bucket.s3.example")])
def test_presigning_uses_sigv4_and_keeps_the_rest_of_the_connections_config(
    s3: S3, serve, monkeypatch: pytest.MonkeyPatch, style: str, host: str
) -> None:
    seen = serve(lambda _: (206, {"ETag": '"x"', "Content-Range": f"bytes 0-{len(PNG) - 1}/{len(PNG)}"}, PNG))
    config = {"signature_version": "s3", "s3": {"addressing_style": style}, "proxies": {"http": seen.url}}
    monkeypatch.setenv("AIRFLOW_CONN_MINE", aws_connection("http://s3.example", config_kwargs=config))
    url = presign("s3://mine@the-bucket/a.png", aws_conn_id="aws_default", valid_for=60)
    assert urlsplit(url).netloc == host
    assert query_of(url)["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"


@pytest.mark.parametrize("inspected", [True, False])
def test_a_url_for_a_bucket_in_another_region_is_signed_for_that_region(
    serve, monkeypatch: pytest.MonkeyPatch, inspected: bool
) -> None:
    def answer(request) -> tuple[int, dict[str, str], bytes]:
        if "/eu-west-1/s3/" in request.headers["Authorization"]:
            return 206, {"Content-Range": f"bytes 0-{len(PNG) - 1}/{len(PNG)}"}, PNG
        return 301, {"x-amz-bucket-region": "eu-west-1"}, b""

    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(serve(answer).url))
    image = parse_image("s3://bucket/a.png")
    facts = inspect_image(image, aws_conn_id="aws_default") if inspected else None
    url = deliver_image(
        image,
        delivery="auto",
        aws_conn_id="aws_default",
        valid_for=60,
        upload=no_upload,
        run_operation=run_operation,
        facts=facts,
    )
    assert "/eu-west-1/s3/" in query_of(url)["X-Amz-Credential"]


def test_without_a_connection_botos_default_credentials_sign(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFROMENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    url = deliver(s3.put("a.png"), aws_conn_id=None)
    assert query_of(url)["X-Amz-Credential"].startswith("AKIAFROMENV/")


@pytest.mark.parametrize("delivery", ["auto", "inline", "upload"])
def test_a_missing_object_or_bucket_is_an_input_error(s3: S3, delivery: ImageDelivery) -> None:
    for uri in (f"s3://{s3.bucket}/absent.png", "s3://no-such-bucket-here/a.png"):
        with pytest.raises(SegmindInputError, match=f"image: {uri}: S3 has no such .*aws_default"):
            deliver(uri, delivery)


@pytest.mark.parametrize("delivery", ["auto", "inline", "upload"])
def test_an_empty_object_is_refused(s3: S3, delivery: ImageDelivery) -> None:
    with pytest.raises(SegmindInputError, match=r"image: s3://\S+ is empty. Upload it again"):
        deliver(s3.put("empty.png", b""), delivery)


@pytest.mark.parametrize("delivery", ["auto", "inline", "upload"])
def test_a_forbidden_object_is_an_input_error_that_shows_no_secret(s3_through, delivery: ImageDelivery) -> None:
    s3_through(lambda _: (403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"))
    with pytest.raises(SegmindInputError, match=r"refused access.*Allow the connection 'aws_default'") as caught:
        deliver("s3://bucket/a.png", delivery)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("delivery", ["auto", "inline"])
def test_an_s3_that_fails_is_a_storage_error(s3_through, delivery: ImageDelivery, status: int) -> None:
    s3_through(lambda _: (status, {}, b""))
    with pytest.raises(SegmindStorageError, match=f"image: s3://bucket/a.png: S3 failed .{status}"):
        deliver("s3://bucket/a.png", delivery)


@pytest.mark.parametrize("delivery", ["auto", "inline", "upload"])
def test_an_s3_that_is_down_is_a_storage_error(
    nowhere: str, monkeypatch: pytest.MonkeyPatch, delivery: ImageDelivery
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(nowhere))
    with pytest.raises(SegmindStorageError, match=r"cannot be reached.*Try again later"):
        deliver("s3://bucket/a.png", delivery)


def test_a_silent_s3_ends_at_the_connections_own_timeout(s3_through, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()
    silent = s3_through(lambda _: released.wait(30) and None)
    config = {"read_timeout": 0.2}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(silent.url, config_kwargs=config))
    try:
        with pytest.raises(SegmindStorageError, match=r"ReadTimeoutError"):
            deliver("s3://bucket/a.png")
    finally:
        released.set()


def test_missing_credentials_are_an_input_error(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", nowhere)
    with pytest.raises(SegmindInputError, match=r"NoCredentialsError.*boto's default credentials"):
        deliver("s3://bucket/a.png", aws_conn_id=None)


def test_a_connection_from_which_no_client_can_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection("not a url"))
    with pytest.raises(
        SegmindInputError, match=r"aws_conn_id: no S3 client can be made from the connection 'aws_default'"
    ):
        deliver("s3://bucket/a.png")


def test_an_invalid_bucket_name_is_an_input_error(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"image: s3://a bucket!/a.png"):
        deliver("s3://a bucket!/a.png")


def test_an_error_about_a_presigned_value_names_its_parameter(s3: S3) -> None:
    with pytest.raises(SegmindInputError, match=r"^mask_image: s3://bucket/folder/ is not the URI of an object"):
        presign("s3://bucket/folder/", aws_conn_id="aws_default", valid_for=60, parameter="mask_image")
