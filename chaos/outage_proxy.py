"""
A TCP proxy that is killed in the place of S3.

The S3 server keeps its objects in memory and would lose them if it were killed, which real S3 does not. So Airflow
reaches it through this process. ``SIGKILL`` breaks all connections in the middle and refuses new ones; ``SIGSTOP``
leaves them open and silent. To a client, both are what an outage of S3 looks like.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

CHUNK = 64 * 1024


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes in one direction until the sender closes it."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()


async def serve(port: int, target_port: int) -> None:
    """
    Forward connections until the process ends.

    :param port: the port to listen on, on the loopback interface
    :param target_port: the server's port, also on the loopback interface
    """

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))
        finally:
            writer.close()
            target_writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", port, backlog=256)
    print(f"forwarding {port} to {target_port}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the command line and forward connections."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target-port", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.target_port))


if __name__ == "__main__":
    main()
