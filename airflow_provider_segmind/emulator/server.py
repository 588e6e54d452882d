"""The class that runs the emulator on its own port, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_segmind.emulator.app import HISTORY_PATH, EmulatorApp
from airflow_provider_segmind.emulator.faults import Faults
from airflow_provider_segmind.emulator.jobs import Job, JobStore
from airflow_provider_segmind.emulator.request_log import RequestLog
from airflow_provider_segmind.emulator.settings import Settings

START_SECONDS = 30.0
ANY_KEY = "SG_0123456789abcdef"  # an example of a key, for emulators that accept any


class _Connections:
    """The open connections by client address, so that a single one can be closed."""

    def __init__(self) -> None:
        self._transports: dict[Any, asyncio.Transport] = {}

    def protocol(self) -> type[H11Protocol]:
        transports = self._transports

        class Protocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self.client, None)
                super().connection_lost(exc)

        return Protocol

    def cut(self, client: Any, at_once: bool) -> None:
        """Close a client's connection, immediately or after what was written has been sent."""
        if (transport := self._transports.get(client)) is not None:
            if at_once:
                transport.abort()
            else:
                transport.close()

    def cut_all(self) -> None:
        for transport in list(self._transports.values()):
            transport.abort()


class _Server(uvicorn.Server):
    """
    A server that signals when it is ready and that starts and stops quickly, as tests start hundreds.

    :param config: uvicorn's settings
    :param connections: the open connections
    """

    def __init__(self, config: uvicorn.Config, connections: _Connections) -> None:
        super().__init__(config)
        self._connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self.ready = threading.Event()

    def serve_on(self, listener: socket.socket) -> None:
        try:
            self.run([listener])
        except SystemExit:
            pass  # uvicorn exits if the startup fails, after logging the reason
        finally:
            self.ready.set()  # also after a failure, so that start() does not wait in vain

    def stop(self) -> None:
        """Stop the server from another thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.ready.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # updates the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        for server in self.servers:
            server.close()
        # Clients that a fault leaves hanging, or that wait for a long job, would delay the shutdown.
        self._connections.cut_all()
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        await self.lifespan.shutdown()


class JobView:
    """
    The accepted POSTs, for tests.

    :param store: all jobs
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def __iter__(self) -> Iterator[Job]:
        return iter(self._store.all())

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, request_id: str | int) -> Job:
        if isinstance(request_id, int):
            return self._store.all()[request_id]
        if (job := self._store.get(request_id)) is None:
            raise KeyError(request_id)
        return job

    @property
    def posts_per_image(self) -> Counter[str]:
        """The number of accepted POSTs by image: its URL without the query, or ``sha256:...`` of inline data."""
        return self._store.posts_per_image()

    @property
    def spent(self) -> float:
        """The total billed for all jobs in USD."""
        return self._store.spent()


class SegmindEmulator:
    """
    An emulator of the Segmind API, in a thread of this process.

    .. code-block:: python

        with SegmindEmulator(job_seconds=0.3, job_sigma=0) as emulator:
            emulator.faults.add("cut_after_accept", nth=2)
            ...
            assert len(emulator.jobs) == 1

    :param options: see :class:`~airflow_provider_segmind.emulator.settings.Settings`
    """

    def __init__(self, **options: Any) -> None:
        self.settings = Settings(**options)
        self.faults = Faults(self.settings.seed)
        self.requests = RequestLog()
        self._connections = _Connections()
        self._socket: socket.socket | None = None
        self._url: str | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._app: EmulatorApp | None = None

    def start(self) -> Self:
        """
        Start the emulator and return when it accepts requests.

        :raises OSError: the port is in use, or the folder cannot be created
        :raises RuntimeError: it is running already, or the server did not start
        """
        if self._thread is not None:
            raise RuntimeError("The emulator is already running.")
        self._socket = _listen(self.settings.host, self.settings.port)
        host, port = self._socket.getsockname()[:2]
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._app = EmulatorApp(self.settings, self._folder(), self.faults, self.requests, self._connections.cut)
        config = uvicorn.Config(
            self._app,
            http=self._connections.protocol(),
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,  # headers must not change the address by which connections are found
        )
        self._server = _Server(config, self._connections)
        self._thread = threading.Thread(
            target=self._server.serve_on, args=(self._socket,), name="segmind-emulator", daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS) or not self._server.started:
            self.stop()
            raise RuntimeError("The emulator did not start; see its log.")
        return self

    def _folder(self) -> Path:
        if self.settings.data_dir is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="segmind-emulator-")
            return Path(self._temporary.name)
        folder = Path(self.settings.data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def stop(self) -> None:
        """Close all connections, stop listening and remove the temporary folder."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
        if self._socket is not None:
            self._socket.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        self._server = self._thread = self._socket = self._temporary = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL of the emulated API, without a trailing slash."""
        if self._url is None:
            raise RuntimeError("The emulator has not been started.")
        return self._url

    @property
    def key(self) -> str:
        """An API key that is accepted."""
        return self.settings.key or ANY_KEY

    @property
    def connection(self) -> str:
        """The Airflow connection as JSON, for ``AIRFLOW_CONN_SEGMIND_DEFAULT``."""
        return json.dumps({"conn_type": "segmind", "host": self.url, "password": self.key})

    @property
    def history_url(self) -> str:
        """The URL of the request history."""
        return f"{self.url}{HISTORY_PATH}"

    @property
    def storage_url(self) -> str:
        """The URL of the storage upload."""
        return f"{self.url}/upload-asset"

    @property
    def jobs(self) -> JobView:
        """The accepted POSTs; available after :meth:`stop`, too."""
        if self._app is None or self._app.store is None:
            raise RuntimeError("The emulator has not been started.")
        return JobView(self._app.store)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is given; with it, each response takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart can reuse the port
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
