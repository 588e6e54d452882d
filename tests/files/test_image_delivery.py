from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_segmind.api.operation import Request
from airflow_provider_segmind.exceptions import SegmindInputError, SegmindStorageError
from airflow_provider_segmind.files import source
from airflow_provider_segmind.files.source import CHUNK, ImageDelivery, fetch_url, parse_image
from tests.s3_server import PNG, S3

from .delivering import deliver


def decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class Uploads:
    """Stands for the upload to Segmind's storage, and keeps what arrives."""

    def __init__(self) -> None:
        self.content = b""

    def __call__(self, what: bytes) -> str:
        self.content = what
        return "https://assets.example/1"


def test_a_url_is_sent_as_it_is_with_its_query() -> None:
    assert deliver("https://h.example/a.png?sig=x") == "https://h.example/a.png?sig=x"


@pytest.mark.parametrize("size", [85, 86, 87, CHUNK, CHUNK + 1, 3 * CHUNK + 2])
def test_a_local_file_of_any_length_is_sent_as_base64(tmp_path: Path, size: int) -> None:
    content = PNG + os.urandom(size - len(PNG)) if size > len(PNG) else PNG[:size]
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    assert decoded(deliver(path)) == content
    assert decoded(deliver(path.as_uri())) == content


def test_an_object_in_s3_is_read_by_the_worker_for_inline_delivery(s3: S3) -> None:
    assert decoded(deliver(s3.put("a.png"), "inline")) == PNG


def test_a_url_is_read_by_the_worker_for_inline_delivery_through_redirects_and_without_a_key(serve) -> None:
    there = serve(lambda _: (200, {}, PNG))
    here = serve(lambda _: (302, {"Location": f"{there.url}/real.png"}, b""))
    assert decoded(deliver(f"{here.url}/a.png", "inline")) == PNG
    assert not {"authorization", "x-api-key"} & {name.lower() for name in there.requests[0].headers}


def test_a_body_that_arrives_in_small_pieces_is_read_whole(serve) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (PNG[:3], PNG[3:10], PNG[10:])) + b"0\r\n\r\n"
    server = serve(lambda _: (200, {"Transfer-Encoding": "chunked"}, chunks))
    assert decoded(deliver(f"{server.url}/a.png", "inline")) == PNG


def test_the_fetch_of_an_image_has_a_deadline_and_reads_little_of_an_error_page() -> None:
    request = next(fetch_url(parse_image("https://h.example/a.png").location, into=None))
    assert isinstance(request, Request)
    assert (request.with_key, request.max_seconds, request.max_bytes) == (False, 300, 1024)


def test_a_body_that_arrives_too_slowly_ends_at_the_deadline(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_FETCH_SECONDS", 0.2)
    released = threading.Event()
    server = serve(lambda _: (200, {}, b"") if released.wait(30) else (500, {}, b""))
    try:
        with pytest.raises(SegmindStorageError, match=r"image: \S+/a.png: its server cannot be read .*within 0.2 s"):
            deliver(f"{server.url}/a.png", "inline")
    finally:
        released.set()


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, SegmindInputError), (403, SegmindInputError), (429, SegmindStorageError), (502, SegmindStorageError)],
)
def test_an_error_of_the_images_server_says_whether_a_retry_helps_and_hides_the_query(
    serve, status: int, error: type
) -> None:
    with pytest.raises(error, match=rf"image: \S+/a.png: its server responded with HTTP {status}") as caught:
        deliver(serve(lambda _: (status, {}, b"")).url + "/a.png?sig=hidden", "inline")
    assert "hidden" not in str(caught.value)


def test_the_log_line_of_a_fetch_hides_the_query(serve) -> None:
    url = serve(lambda _: (200, {}, PNG)).url + "/a.png"
    code = (
        "import logging\n"
        "from tests.files.delivering import deliver\n"
        "logging.basicConfig(force=True); logging.getLogger('httpx').setLevel('INFO')\n"
        f"deliver('{url}?sig=hidden', 'inline')"
    )  # in a process of its own, where nothing else has added the log filter
    logged = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert f"GET {url}" in logged
    assert "hidden" not in logged


def test_a_redirect_loop_is_an_input_error(serve) -> None:
    server = serve(lambda _: (302, {"Location": "/a.png"}, b""))
    with pytest.raises(SegmindInputError, match=r"image: \S+/a.png redirects more than 5 times"):
        deliver(f"{server.url}/a.png", "inline")
    assert len(server.requests) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "https://[h/?sig=hidden", "ftp://me:hidden@h/a.png"])
def test_a_redirect_to_something_else_than_a_url_is_an_input_error_that_shows_no_secret(serve, target: str) -> None:
    server = serve(lambda _: (302, {"Location": target}, b""))
    with pytest.raises(SegmindInputError, match=r"redirects to '\w+:.*, which is not a valid URL") as caught:
        deliver(f"{server.url}/a.png", "inline")
    assert "hidden" not in str(caught.value)


def test_a_redirect_that_names_no_target_is_an_input_error(serve) -> None:
    with pytest.raises(SegmindInputError, match=r"its server responded with HTTP 302"):
        deliver(serve(lambda _: (302, {}, b"")).url + "/a.png", "inline")


def test_a_url_whose_server_is_down_is_a_storage_error(nowhere: str) -> None:
    with pytest.raises(SegmindStorageError, match=r"image: \S+/a.png: its server cannot be read .*ConnectError"):
        deliver(f"{nowhere}/a.png", "inline")


@pytest.fixture(autouse=True)
def _no_ca_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve an image over TLS with a certificate that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem, key_file = tmp_path / "ca.pem", tmp_path / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

        def log_message(self, *args: object) -> None:
            """Keep the tests' output clean."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # the client breaks off where it does not trust the certificate
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://localhost:{server.server_port}/a.png", pem
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_that_cannot_be_verified_is_an_error_that_names_the_variables(tls) -> None:
    with pytest.raises(SegmindStorageError, match=r"CERTIFICATE_VERIFY_FAILED.*SSL_CERT_FILE or REQUESTS_CA_BUNDLE"):
        deliver(tls[0], "inline")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_ca_bundle_of_the_environment_is_trusted(tls, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, str(tls[1]))
    assert decoded(deliver(tls[0], "inline")) == PNG


def test_a_ca_bundle_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(SegmindInputError, match=r"REQUESTS_CA_BUNDLE names '/no/such/bundle.pem'"):
        deliver("https://localhost:1/a.png", "inline")


def test_a_body_that_is_cut_short_is_a_storage_error(serve) -> None:
    server = serve(lambda _: (200, {"Content-Length": "9999", "Connection": "close"}, PNG))
    with pytest.raises(SegmindStorageError, match=r"its server cannot be read .*RemoteProtocolError"):
        deliver(f"{server.url}/a.png", "inline")


@pytest.mark.parametrize("delivery", ["auto", "inline"])
def test_a_data_uri_is_sent_as_base64_without_its_prefix(delivery: ImageDelivery) -> None:
    text = base64.b64encode(PNG).decode()
    assert deliver(f"data:image/png;base64,{text}", delivery) == text


def test_an_object_of_another_store_is_read_by_the_worker(memory_store) -> None:
    memory_store.pipe("/pictures/a.png", PNG)
    assert decoded(deliver("memory://pictures/a.png")) == PNG


def test_a_missing_object_of_another_store_is_an_input_error(memory_store) -> None:
    with pytest.raises(SegmindInputError, match=r"image: memory://pictures/absent.png: the store has no such object"):
        deliver("memory://pictures/absent.png")


def test_an_image_in_a_store_whose_provider_is_missing_says_what_to_install() -> None:
    with pytest.raises(SegmindInputError, match=r"image: abfs://box/a.png: .*install the store's provider"):
        deliver("abfs://box/a.png")


@pytest.mark.parametrize("delivery", ["auto", "inline", "upload"])
@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"these are words\n", "is text, whatever its name says")]
)
def test_a_file_that_is_not_an_image_is_refused_by_every_delivery(
    tmp_path: Path, content: bytes, words: str, delivery: ImageDelivery
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(SegmindInputError, match=f"image: {path} {words}"):
        deliver(path, delivery)


def test_a_folder_and_a_missing_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "file").touch()
    for path, words in {
        tmp_path: "is a folder",
        tmp_path / "absent.png": "no such file on this worker",
        tmp_path / "file" / "a.png": "no such file on this worker",
        tmp_path / "pipe.png": "is not a regular file",
    }.items():
        with pytest.raises(SegmindInputError, match=words):
            deliver(path)


def test_a_url_whose_headers_announce_too_much_is_refused_before_its_body_arrives(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_UPLOAD_BYTES", 1 << 20)
    server = serve(lambda _: (200, {"Content-Length": str((1 << 20) + 1)}, b""))
    with pytest.raises(SegmindInputError, match=r"larger than 1 MiB. Make it smaller, or give its URL"):
        deliver(f"{server.url}/a.png", "upload")


@pytest.mark.parametrize("kind", ["file", "url", "s3"])
def test_an_image_that_is_too_large_for_inline_delivery_names_another_delivery(
    kind: str, tmp_path: Path, serve, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_INLINE_BYTES", 1 << 20)
    content = PNG.ljust((1 << 20) + 1, b"\0")
    (tmp_path / "a.png").write_bytes(content)
    sources = {
        "file": lambda: tmp_path / "a.png",
        "url": lambda: serve(lambda _: (200, {}, content)).url + "/a.png",
        "s3": lambda: s3.put("a.png", content),
    }
    with pytest.raises(SegmindInputError, match=r'larger than 1 MiB\. Use image_delivery="upload"'):
        deliver(sources[kind](), "inline")


@pytest.mark.parametrize("kind", ["inline", "file", "url", "s3", "object"])
def test_an_image_of_any_source_can_be_uploaded(kind: str, serve, s3: S3, memory_store, tmp_path: Path) -> None:
    memory_store.pipe("/pictures/a.png", PNG)
    (tmp_path / "a.png").write_bytes(PNG)
    image = {
        "inline": base64.b64encode(PNG).decode(),
        "file": tmp_path / "a.png",
        "url": f"{serve(lambda _: (200, {}, PNG)).url}/a",
        "s3": s3.put("a"),
        "object": "memory://pictures/a.png",
    }
    uploads = Uploads()
    assert deliver(image[kind], "upload", upload=uploads) == "https://assets.example/1"
    assert uploads.content == PNG


def test_a_relative_path_that_is_missing_may_be_a_key_in_s3() -> None:
    with pytest.raises(
        SegmindInputError, match=r"no such file.* If it is a key in S3, write s3://bucket/incoming/a.jpg"
    ):
        deliver("incoming/a.jpg")


def test_an_absolute_path_that_is_missing_is_not_taken_for_a_key_in_s3(tmp_path: Path) -> None:
    with pytest.raises(SegmindInputError, match=r"sees that disk\.$"):
        deliver(tmp_path / "a.jpg")


def test_the_error_about_a_missing_file_does_not_show_a_signature() -> None:
    with pytest.raises(SegmindInputError, match=r"image: 'h.example/k.png\?\.\.\.': no such file") as caught:
        deliver("h.example/k.png?X-Amz-Signature=" + "n" * 64)
    assert "nnn" not in "".join(traceback.format_exception(caught.value))


def test_an_error_of_the_upload_is_not_taken_for_one_of_the_image(tmp_path: Path) -> None:
    def upload(_: bytes) -> str:
        raise FileNotFoundError("of the upload")

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with pytest.raises(FileNotFoundError, match=r"of the upload"):
        deliver(path, "upload", upload=upload)
