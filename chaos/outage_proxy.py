"""
A TCP relay to be killed in the place of S3.

The S3 server keeps its objects in memory, so its own death would be amnesia, which real S3 does not have. Whoever talks
to it does so through this process. Its ``SIGKILL`` cuts all connections in the middle and refuses new ones; its
``SIGSTOP`` leaves them open and silent. To a client both are what an outage of S3 is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

CHUNK = 64 * 1024


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until that way ends."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(CHUNK):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()


async def serve(port: int, target_port: int) -> None:
    """
    Relay for ever.

    :param port: where to listen, on the loopback
    :param target_port: where the server is, there too
    """

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            writer.close()
            there_writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", port, backlog=256)
    print(f"relaying {port} to {target_port}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the command line and relay."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target-port", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.target_port))


if __name__ == "__main__":
    main()
