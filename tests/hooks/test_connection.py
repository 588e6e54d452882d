"""Which settings a connection gives, and which connections are refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import airflow
import certifi
import pytest
from packaging.version import Version

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.hooks import connection as connection_module
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.segmind import SegmindHook

KEY = "SG_0123456789abcdef"

refuses_extras_by_itself = pytest.mark.skipif(
    Version(airflow.__version__) < Version("3.2"),
    reason="before 3.2 Airflow itself refuses an extra that is not a JSON object",
)


@pytest.fixture
def settings_of(monkeypatch):
    def read(connection: str | dict) -> SegmindSettings:
        text = connection if isinstance(connection, str) else json.dumps({"conn_type": "segmind", **connection})
        monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", text)
        return SegmindHook().settings

    return read


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://api.segmind.com"),
        ({"host": "https://api.segmind.com"}, "https://api.segmind.com"),
        ({"host": "https://api.segmind.com/v1"}, "https://api.segmind.com"),
        ({"host": "https://api.segmind.com/v2/"}, "https://api.segmind.com"),
        ({"host": "API.segmind.com"}, "https://api.segmind.com"),
        ({"host": "proxy.example.com", "schema": "http", "port": 8080}, "http://proxy.example.com:8080"),
        ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765"),
        ({"host": "https://proxy.example.com:443"}, "https://proxy.example.com"),
        ({"host": "http://[::1]:8765"}, "http://[::1]:8765"),
        ({"host": "proxy.example.com", "schema": "v1"}, "https://proxy.example.com"),
        ({"host": "proxy.example.com", "schema": "http/v2", "port": 8080}, "http://proxy.example.com:8080"),
    ],
)
def test_the_host_gives_the_base_url(settings_of, fields, base_url):
    assert settings_of({"password": KEY, **fields}).base_url == base_url


def test_history_and_storage_are_at_segminds_own_hosts_by_default(settings_of):
    settings = settings_of({"password": KEY})

    assert settings.history_url == "https://api.spotprod.segmind.com/inference-request/request-history"
    assert settings.storage_url == "https://workflows-api.segmind.com/upload-asset"


def test_history_and_storage_are_at_the_base_url_if_that_is_not_segminds(settings_of):
    settings = settings_of({"password": KEY, "host": "http://localhost:1"})

    assert settings.history_url == "http://localhost:1/inference-request/request-history"
    assert settings.storage_url == "http://localhost:1/upload-asset"


def test_a_connection_in_json_and_in_uri_form_gives_the_same_settings(settings_of):
    as_json = settings_of(
        {
            "password": KEY,
            "host": "localhost",
            "schema": "http",
            "port": 8765,
            "extra": {
                "requests_per_minute": 0.5,
                "connect_timeout": 1,
                "read_timeout": 2.5,
                "output_hosts": "cdn.example.com, *.example.org:8080",
                "verify": False,
                "max_result_mb": 5,
                "ledger": "s3://bucket/ledger/",
            },
        }
    )
    as_uri = settings_of(
        f"segmind://:{KEY}@localhost:8765/http?requests_per_minute=0.5&connect_timeout=1&read_timeout=2.5"
        "&output_hosts=cdn.example.com,%2A.example.org&verify=false&max_result_mb=5"
        "&ledger=s3%3A%2F%2Fbucket%2Fledger%2F"
    )

    assert as_json == as_uri
    assert as_json == SegmindSettings(
        api_key=KEY,
        base_url="http://localhost:8765",
        history_url="http://localhost:8765/inference-request/request-history",
        storage_url="http://localhost:8765/upload-asset",
        output_hosts=("cdn.example.com", "*.example.org"),
        requests_per_minute=0.5,
        connect_timeout=1.0,
        read_timeout=2.5,
        max_result_mb=5.0,
        verify=False,
        ledger="s3://bucket/ledger/",
    )


@refuses_extras_by_itself
@pytest.mark.parametrize(
    ("hosts", "expected"), [(["cdn.example.com", "*.Example.org:8080"], ("cdn.example.com", "*.example.org")), ([], ())]
)
def test_output_hosts_may_be_a_list_which_may_be_empty(settings_of, hosts, expected):
    assert settings_of({"password": KEY, "extra": {"output_hosts": hosts}}).output_hosts == expected


@pytest.mark.parametrize("text", ["", "[]", '["cdn.example.com"]'])
def test_a_list_may_be_written_as_text(settings_of, text):
    expected = ("cdn.example.com",) if "cdn" in text else ()

    assert settings_of({"password": KEY, "extra": {"output_hosts": text}}).output_hosts == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"password": ""}, "password is empty"),
        ({"password": "two words"}, "not an API key"),
        ({"host": "https://api.segmind.com/v3"}, "/v3"),
        ({"host": "https://api.segmind.com/v1/requests"}, "path"),
        ({"host": "htps://api.segmind.com"}, "htps"),
        ({"host": "https//api.segmind.com"}, "path"),
        ({"host": "https:/api.segmind.com"}, "Invalid path"),
        ({"host": "api segmind com"}, "Invalid host 'api segmind com'"),
        ({"host": "https://api..segmind.com"}, "Invalid host"),
        ({"host": "xn--127 .com"}, "Invalid host"),
        ({"host": "http://api.segmind.com"}, "unencrypted"),
        ({"host": "https://user:pw@api.segmind.com"}, "Invalid host"),
        ({"host": "https://api.segmind.com?x=1"}, "Invalid host"),
        ({"host": "api.example.com", "schema": "ftp"}, "ftp"),
        ({"host": "https://api.example.com:99999"}, "Invalid host"),
        ({"host": "https://:pw@api.segmind.com"}, "Invalid host"),
        ({"host": "https://@api.segmind.com"}, "Invalid host"),
        ({"host": "https://api.seg\nmind.com"}, "Invalid host"),
        ({"host": "https://api.example.com:0"}, "Invalid host"),
        ({"host": "api.example.com", "port": 99999}, "Invalid port 99999"),
        ({"host": "api.example.com", "schema": KEY}, "Invalid schema"),
        ({"host": "https://api.example.com", "schema": "foreign/path"}, "foreign/path"),
        ({"port": 8080}, "The port 8080 has no host"),
        ({"extra": {"requests_per_minute": 0}}, "Invalid requests_per_minute 0"),
        ({"extra": {"requests_per_minute": "many"}}, "requests_per_minute"),
        ({"extra": {"requests_per_minute": True}}, "requests_per_minute"),
        ({"extra": {"read_timeout": -1}}, "Invalid read_timeout -1"),
        ({"extra": {"connect_timeout": "nan"}}, "connect_timeout"),
        ({"extra": {"max_result_mb": 0}}, "Invalid max_result_mb 0"),
        ({"extra": {"history_url": "api.example.com"}}, "history_url"),
        ({"extra": {"storage_url": "ftp://x/y"}}, "storage_url"),
        ({"extra": {"history_url": "http://api.spotprod.segmind.com/h"}}, "history_url"),
        ({"extra": {"storage_url": "http://storage.example.com/s"}}, "unencrypted"),
        ({"host": "http://localhost", "extra": {"history_url": "http://api.segmind.com/h"}}, "unencrypted"),
        ({"extra": {"storage_url": "https://:pw@storage.example.com/s"}}, "storage_url"),
        ({"extra": {"history_url": "https://api.exam\tple.com/h"}}, "history_url"),
        ({"extra": {"history_url": "https://api.example.com/h g"}}, "history_url"),
        ({"extra": {"requests_per_minute": -0.5}}, "requests_per_minute -0.5"),
        ({"extra": {"requests_per_minute": "inf"}}, "requests_per_minute"),
        ({"extra": {"ledger": 5}}, "Invalid ledger 5"),
        ({"extra": {"output_hosts": 5}}, "Invalid output_hosts 5"),
        ({"extra": {"output_hosts": True}}, "Invalid output_hosts True"),
        ({"extra": {"output_hosts": 1.5}}, "Invalid output_hosts 1.5"),
        ({"extra": {"output_hosts": "https://cdn.example.com/"}}, "output_hosts"),
        ({"extra": {"output_hosts": "[1]"}}, "output_hosts"),
        ({"extra": {"output_hosts": '["*"]'}}, "output_hosts"),
        ({"extra": {"output_hosts": "[unfinished"}}, "output_hosts"),
        ({"extra": {"verify": "maybe"}}, "true, false, or the path"),
        ({"extra": {"verify": "/no/such/bundle.pem"}}, "Invalid verify '/no/such/bundle.pem'"),
        ({"extra": {"verify": "/"}}, "Invalid verify '/' (the directory holds no hashed certificates)"),
        ({"extra": {"verify": "/dev/null"}}, "true, false, or the path"),
        ({"extra": {"verify": "~nobody-is-called-so/ca.pem"}}, "Invalid verify"),
        pytest.param({"extra": "[1]"}, "extra is not a JSON object", marks=refuses_extras_by_itself),
        pytest.param({"extra": "{"}, "extra is not a JSON object", marks=refuses_extras_by_itself),
    ],
)
def test_an_invalid_field_is_an_error_that_names_the_connection_and_the_field_but_not_the_key(
    settings_of, fields, said
):
    with pytest.raises(SegmindInputError, match="Connection 'segmind_default'") as wrong:
        settings_of({"password": KEY, **fields})

    assert said in str(wrong.value)
    assert KEY not in str(wrong.value)


def test_the_path_of_a_uri_connection_may_be_the_version(settings_of):
    assert settings_of(f"segmind://:{KEY}@proxy.example.com/v1").base_url == "https://proxy.example.com"
    with pytest.raises(SegmindInputError, match="foreign/path"):
        settings_of(f"segmind://https://:{KEY}@proxy.example.com/foreign/path")


def test_other_urls_may_be_unencrypted_if_the_base_url_is(settings_of):
    extra = {"history_url": "http://history.example.com/h"}
    settings = settings_of({"password": KEY, "host": "http://localhost", "extra": extra})

    assert settings.history_url == "http://history.example.com/h"


@pytest.mark.parametrize(("limit", "expected"), [(50, 50.0), ("50", 50.0), (0.5, 0.5), ("0.25", 0.25), (1e7, 1e7)])
def test_requests_per_minute_may_be_any_number_above_0(settings_of, limit, expected):
    assert settings_of({"password": KEY, "extra": {"requests_per_minute": limit}}).requests_per_minute == expected


def test_an_unknown_field_is_ignored_with_a_warning_that_names_the_nearest_known_one(settings_of, caplog):
    connection_module._warn_unknown_field.cache_clear()
    with caplog.at_level(logging.WARNING, connection_module.__name__):
        settings = settings_of({"password": KEY, "extra": {"request_per_minute": 5}})
        settings_of({"password": KEY, "extra": {"request_per_minute": 5}})

    assert settings.requests_per_minute is None
    (said,) = [record.getMessage() for record in caplog.records if record.name == connection_module.__name__]
    assert "'segmind_default'" in said
    assert "'request_per_minute'" in said
    assert "Did you mean 'requests_per_minute'?" in said


def test_the_warning_about_a_field_that_resembles_none_suggests_none_and_does_not_show_a_key(settings_of, caplog):
    connection_module._warn_unknown_field.cache_clear()
    with caplog.at_level(logging.WARNING, connection_module.__name__):
        settings_of({"password": KEY, "extra": {KEY: 1}})

    (said,) = [record.getMessage() for record in caplog.records if record.name == connection_module.__name__]
    assert "Did you mean" not in said
    assert KEY not in said


def test_the_path_of_a_ca_bundle_may_begin_with_a_tilde(settings_of, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text(Path(certifi.where()).read_text())

    assert settings_of({"password": KEY, "extra": {"verify": "~/ca.pem"}}).verify == str(tmp_path / "ca.pem")


def test_the_key_is_not_in_the_settings_repr(settings_of):
    assert KEY not in repr(settings_of({"password": KEY}))


def test_settings_that_say_nothing_have_the_documented_defaults(settings_of):
    assert settings_of({"password": KEY}) == SegmindSettings(KEY)
    assert SegmindSettings(KEY).ledger is None
