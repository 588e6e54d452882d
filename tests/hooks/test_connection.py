from __future__ import annotations

import json
from pathlib import Path

import certifi
import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.segmind import SegmindHook

KEY = "SG_0123456789abcdef"


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


def test_segminds_own_hosts_serve_history_and_storage(settings_of):
    settings = settings_of({"password": KEY})

    assert settings.history_url == "https://api.spotprod.segmind.com/inference-request/request-history"
    assert settings.storage_url == "https://workflows-api.segmind.com/upload-asset"


def test_another_base_url_serves_them_itself(settings_of):
    settings = settings_of({"password": KEY, "host": "http://localhost:1"})

    assert settings.history_url == "http://localhost:1/inference-request/request-history"
    assert settings.storage_url == "http://localhost:1/upload-asset"


def test_json_and_uri_say_the_same(settings_of):
    as_json = settings_of(
        {
            "password": KEY,
            "host": "localhost",
            "schema": "http",
            "port": 8765,
            "extra": {
                "requests_per_minute": 50,
                "read_timeout": 2.5,
                "output_hosts": ["cdn.example.com", "*.example.org:8080"],
                "verify": False,
                "max_result_mb": 5,
            },
        }
    )
    as_uri = settings_of(
        f"segmind://:{KEY}@localhost:8765/http?requests_per_minute=50&read_timeout=2.5"
        "&output_hosts=cdn.example.com,%2A.example.org&verify=false&max_result_mb=5"
    )

    assert as_json == as_uri
    assert as_json.output_hosts == ("cdn.example.com", "*.example.org")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"password": ""}, "no password"),
        ({"password": "two words"}, "cannot be an API key"),
        ({"host": "https://api.segmind.com/v3"}, "/v3"),
        ({"host": "https://api.segmind.com/v1/requests"}, "path"),
        ({"host": "htps://api.segmind.com"}, "htps"),
        ({"host": "https//api.segmind.com"}, "path"),
        ({"host": "https:/api.segmind.com"}, "host="),
        ({"host": "api segmind com"}, "no host"),
        ({"host": "https://api..segmind.com"}, "no host"),
        ({"host": "xn--127 .com"}, "no host"),
        ({"host": "http://api.segmind.com"}, "unencrypted"),
        ({"host": "https://user:pw@api.segmind.com"}, "no plain"),
        ({"host": "https://api.segmind.com?x=1"}, "no plain"),
        ({"host": "api.example.com", "schema": "ftp"}, "ftp"),
        ({"host": "https://api.example.com:99999"}, "host="),
        ({"host": "https://:pw@api.segmind.com"}, "no plain"),
        ({"host": "https://@api.segmind.com"}, "no plain"),
        ({"host": "https://api.seg\nmind.com"}, "host="),
        ({"host": "https://api.example.com:0"}, "host="),
        ({"host": "api.example.com", "port": 99999}, "port=99999"),
        ({"host": "api.example.com", "schema": KEY}, "schema="),
        ({"host": "https://api.example.com", "schema": "foreign/path"}, "foreign/path"),
        ({"port": 8080}, "without a host"),
        ({"extra": {"requests_per_minute": 0}}, "requests_per_minute=0"),
        ({"extra": {"requests_per_minute": "many"}}, "requests_per_minute"),
        ({"extra": {"requests_per_minute": True}}, "requests_per_minute"),
        ({"extra": {"read_timeout": -1}}, "read_timeout=-1"),
        ({"extra": {"connect_timeout": "nan"}}, "connect_timeout"),
        ({"extra": {"max_result_mb": 0}}, "max_result_mb=0"),
        ({"extra": {"history_url": "api.example.com"}}, "history_url"),
        ({"extra": {"storage_url": "ftp://x/y"}}, "storage_url"),
        ({"extra": {"history_url": "http://api.spotprod.segmind.com/h"}}, "history_url"),
        ({"extra": {"storage_url": "http://storage.example.com/s"}}, "unencrypted"),
        ({"host": "http://localhost", "extra": {"history_url": "http://api.segmind.com/h"}}, "unencrypted"),
        ({"extra": {"storage_url": "https://:pw@storage.example.com/s"}}, "storage_url"),
        ({"extra": {"history_url": "https://api.exam\tple.com/h"}}, "history_url"),
        ({"extra": {"history_url": "https://api.example.com/h g"}}, "history_url"),
        ({"extra": {"requests_per_minute": 50.5}}, "requests_per_minute=50.5"),
        ({"extra": {"output_hosts": 5}}, "output_hosts=5"),
        ({"extra": {"output_hosts": True}}, "output_hosts=True"),
        ({"extra": {"output_hosts": 1.5}}, "output_hosts=1.5"),
        ({"extra": {"output_hosts": "https://cdn.example.com/"}}, "output_hosts"),
        ({"extra": {"output_hosts": [1]}}, "output_hosts"),
        ({"extra": {"output_hosts": ["*"]}}, "output_hosts"),
        ({"extra": {"verify": "maybe"}}, "true, false, or the path"),
        ({"extra": {"verify": "/no/such/bundle.pem"}}, "verify='/no/such/bundle.pem'"),
        ({"extra": {"verify": "/tmp"}}, "verify='/tmp'"),
        ({"extra": {"verify": __file__}}, "true, false, or the path"),
        ({"extra": {"verify": "~nobody-is-called-so/ca.pem"}}, "verify="),
        ({"extra": {"request_per_minute": 5}}, "request_per_minute"),
        ({"extra": "[1]"}, "extra"),
    ],
)
def test_what_is_unusable_is_named_with_connection_value_and_remedy(settings_of, fields, said):
    with pytest.raises(SegmindInputError, match="Connection 'segmind_default'") as wrong:
        settings_of({"password": KEY, **fields})

    assert said in str(wrong.value)
    assert KEY not in str(wrong.value)


def test_the_path_of_a_uri_connection_may_be_the_version(settings_of):
    assert settings_of(f"segmind://:{KEY}@proxy.example.com/v1").base_url == "https://proxy.example.com"
    with pytest.raises(SegmindInputError, match="foreign/path"):
        settings_of(f"segmind://https://:{KEY}@proxy.example.com/foreign/path")


def test_a_base_url_without_tls_may_have_neighbours_without_it(settings_of):
    extra = {"history_url": "http://history.example.com/h"}
    settings = settings_of({"password": KEY, "host": "http://localhost", "extra": extra})

    assert settings.history_url == "http://history.example.com/h"


@pytest.mark.parametrize("limit", [50, 50.0, "50", "50.0"])
def test_a_whole_number_may_be_written_in_any_way(settings_of, limit):
    assert settings_of({"password": KEY, "extra": {"requests_per_minute": limit}}).requests_per_minute == 50


def test_a_ca_bundle_may_lie_in_the_home_folder(settings_of, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text(Path(certifi.where()).read_text())

    assert settings_of({"password": KEY, "extra": {"verify": "~/ca.pem"}}).verify == str(tmp_path / "ca.pem")


def test_the_key_is_not_in_the_settings_repr(settings_of):
    assert KEY not in repr(settings_of({"password": KEY}))
