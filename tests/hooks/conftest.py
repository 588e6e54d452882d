from __future__ import annotations

import datetime as dt
import ipaddress
import socketserver
import ssl
import threading
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_segmind.hooks.connection import CA_VARIABLES
from tests.hooks.driving import run_async, run_sync

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _quick(quick_jobs):
    pass


@pytest.fixture(autouse=True)
def _no_network_variables(monkeypatch):
    """Tests set the proxies and CA bundles that they are about, and do not see those of the developer."""
    for name in (*PROXY_VARIABLES, *CA_VARIABLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request):
    """Run an operation over some settings, with either driver."""
    return request.param


@pytest.fixture
def serve():
    """Start servers that respond to the n-th message of a connection with the pieces of ``respond(n)``."""
    over = threading.Event()
    servers = []

    def start(respond, *, tls=None):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                wrap = tls.wrap_socket if tls else lambda plain, **_: plain
                with suppress(OSError), wrap(self.request, server_side=True) as connection:
                    number = 0
                    while received := connection.recv(1 << 20):
                        server.seen.append(received)
                        number += 1
                        for piece in respond(number):
                            connection.sendall(piece)
                            if over.wait(0.02):
                                return

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.seen = []
        server.port = server.server_address[1]
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def private_ca(tmp_path_factory):
    """The path of a certificate for 127.0.0.1 that no public CA has signed, its key included."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private CA")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("ca") / "private-ca.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture(scope="session")
def private_tls(private_ca):
    """A server's TLS context with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(private_ca)
    return context
