"""Proxies and CA bundles are taken from the environment, as other tools take them."""

from __future__ import annotations

import shutil

import pytest

from airflow_provider_segmind.api.operation import TransportFailure
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.hooks.connection import find_proxy
from airflow_provider_segmind.hooks.transport import open_client
from tests.hooks.driving import KEY, OK, refusing_url, requests_to, settings_for

# ---------------------------------------------------------------------- which proxy


@pytest.fixture
def environment(monkeypatch):
    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def proxy_for(scheme, host, port=443):
    found = find_proxy(scheme, host, port)
    return found and found.url


def test_each_scheme_has_its_proxy_and_all_proxy_serves_the_rest(environment):
    environment(HTTPS_PROXY="http://secure:1", ALL_PROXY="http://any:2")

    assert proxy_for("https", "api.segmind.com") == "http://secure:1"
    assert proxy_for("http", "example.com") == "http://any:2"


def test_a_variable_in_lower_case_comes_first(environment):
    environment(HTTPS_PROXY="http://upper:1", https_proxy="http://lower:2")

    assert proxy_for("https", "api.segmind.com") == "http://lower:2"


def test_a_proxy_may_be_written_without_its_scheme(environment):
    environment(HTTPS_PROXY="proxy.example.com:3128")

    assert proxy_for("https", "api.segmind.com") == "http://proxy.example.com:3128"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "emulator.localhost", "127.0.0.1", "127.9.8.7", "::1"])
def test_a_loopback_host_never_goes_through_a_proxy(environment, host):
    environment(HTTP_PROXY="http://proxy:1", ALL_PROXY="socks5://proxy:2")

    assert proxy_for("http", host) is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("*", "api.segmind.com", True),
        ("segmind.com", "segmind.com", True),
        ("segmind.com", "api.segmind.com", True),
        (".segmind.com", "api.segmind.com", True),
        ("*.segmind.com", "api.segmind.com", True),
        ("SEGMIND.com", "api.Segmind.com.", True),
        ("segmind.com", "notsegmind.com", False),
        ("other.com, segmind.com", "api.segmind.com", True),
        ("other.com segmind.com", "api.segmind.com", True),
        ("https://segmind.com", "segmind.com", True),
        ("segmind.com:443", "segmind.com", True),
        ("segmind.com:8443", "segmind.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "api.segmind.com", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("fd00::/8", "fd12::1", True),
        ("[fd00::]/8", "fd12::1", True),
        ("fd00::/8", "fe80::1", False),
        ("fd00::/8", "10.1.2.3", False),
        ("[fd00::1]", "fd00::1", True),
        ("fd00::1", "fd00:0:0:0::1", True),
        ("[fd00::1]:443", "fd00::1", True),
        ("[fd00::1]:8443", "fd00::1", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("[::1", "fd00::1", False),
        (".", "api.segmind.com", False),
    ],
)
def test_no_proxy_takes_names_addresses_and_ranges(environment, no_proxy, host, direct):
    environment(HTTPS_PROXY="http://proxy:1", NO_PROXY=no_proxy)

    assert (proxy_for("https", host) is None) is direct


# ---------------------------------------------------------------------- requests through a proxy


def test_a_request_goes_through_the_proxy_with_its_key_to_a_host_in_punycode(run, serve, environment):
    proxy = serve(lambda _: [OK])
    environment(HTTP_PROXY=proxy.url)
    url = "http://xn--bcher-kva.example"
    run(settings_for(url), requests_to(url))

    assert proxy.seen[0].startswith(b"GET http://xn--bcher-kva.example/x HTTP/1.1\r\n")
    assert KEY.encode() in proxy.seen[0]


@pytest.mark.parametrize("no_proxy", ["fd00::/8", "[::1]", "127.0.0.0/8,[::1]:80", "10.0.0.0/8"])
def test_a_range_or_ipv6_address_in_no_proxy_does_not_break_a_request(run, serve, environment, no_proxy):
    server = serve(lambda _: [OK])
    environment(HTTP_PROXY="http://127.0.0.1:1", NO_PROXY=no_proxy)

    assert run(settings_for(server.url), requests_to(server.url)).status == 200


UNUSABLE = ["socks5://proxy.example.com:1080", "socks4://proxy:1", "http://", "http://[::1", "http://proxy:99999", "//"]


@pytest.mark.parametrize("proxy", UNUSABLE)
def test_a_proxy_that_cannot_be_used_is_an_error_that_names_the_variable(run, environment, proxy):
    environment(ALL_PROXY=proxy)
    with pytest.raises(SegmindInputError, match="of ALL_PROXY"):
        run(settings_for("https://api.example.com"), requests_to("https://api.example.com"))


def test_a_socks_proxy_without_its_package_says_what_to_install(run, environment):
    environment(ALL_PROXY="socks5://bob:secret@proxy.example.com:1080")
    with pytest.raises(SegmindInputError, match=r"socks5://proxy.example.com:1080 of ALL_PROXY.*socksio") as error:
        run(settings_for("https://api.example.com"), requests_to("https://api.example.com"))

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("proxy", UNUSABLE)
def test_a_proxy_that_cannot_be_used_does_not_matter_to_a_loopback_host(run, serve, environment, proxy):
    server = serve(lambda _: [OK])
    environment(ALL_PROXY=proxy)

    assert run(settings_for(server.url), requests_to(server.url)).status == 200


def test_a_proxy_that_refuses_is_named_without_its_password(run, environment):
    proxy = refusing_url()
    environment(HTTPS_PROXY=proxy.replace("http://", "http://bob:secret@"))
    url = "https://api.example.com"
    with pytest.raises(TransportFailure, match=f"api.example.com through the proxy {proxy} of HTTPS_PROXY") as error:
        run(settings_for(url), requests_to(url))

    assert not error.value.sent
    assert "secret" not in str(error.value)


# ---------------------------------------------------------------------- CA bundles


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_ca_bundle_of_the_environment_is_trusted(run, serve, private_ca, private_tls, environment, variable):
    server = serve(lambda _: [OK], tls=private_tls)
    environment(**{variable: str(private_ca)})

    assert run(settings_for(server.url), requests_to(server.url)).status == 200
    assert run(settings_for(server.url), requests_to(server.url, with_key=False)).status == 200


def test_the_client_of_get_conn_trusts_it_too(serve, private_ca, private_tls, environment):
    server = serve(lambda _: [OK], tls=private_tls)
    environment(REQUESTS_CA_BUNDLE=str(private_ca))
    with open_client(settings_for(server.url)) as client:
        assert client.get("/x").status_code == 200


def test_a_hashed_directory_is_a_ca_bundle_too(run, serve, private_ca, private_tls, environment, tmp_path):
    shutil.copy(private_ca, tmp_path / f"{_subject_hash(private_ca)}.0")
    server = serve(lambda _: [OK], tls=private_tls)
    environment(REQUESTS_CA_BUNDLE=str(tmp_path))

    assert run(settings_for(server.url), requests_to(server.url)).status == 200


def _subject_hash(path):
    """Return the name that OpenSSL looks for: the first bytes of a SHA-1 of the canonical subject."""
    import subprocess

    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_verify_of_the_connection_comes_before_the_environment(run, serve, private_ca, private_tls, environment):
    server = serve(lambda _: [OK], tls=private_tls)
    environment(REQUESTS_CA_BUNDLE="/no/such/bundle.pem")

    for verify in (False, str(private_ca)):
        assert run(settings_for(server.url, verify=verify), requests_to(server.url)).status == 200


@pytest.mark.parametrize("with_key", [True, False])
def test_a_certificate_that_is_not_trusted_is_an_error_that_says_where_to_name_its_ca(
    run, serve, private_tls, with_key
):
    server = serve(lambda _: [OK], tls=private_tls)
    with pytest.raises(TransportFailure, match="CERTIFICATE_VERIFY_FAILED") as failure:
        run(settings_for(server.url), requests_to(server.url, with_key=with_key))

    assert all(name in str(failure.value) for name in ("'verify'", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))
    assert not failure.value.sent


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("path", ["/no/such/bundle.pem", __file__, "/"], ids=["missing", "no certificates", "a folder"])
def test_a_ca_bundle_that_cannot_be_read_is_an_error_that_names_the_variable(run, environment, variable, path):
    environment(**{variable: path})
    with pytest.raises(SegmindInputError, match=variable):
        run(settings_for("http://127.0.0.1:1"), requests_to("http://127.0.0.1:1"))
