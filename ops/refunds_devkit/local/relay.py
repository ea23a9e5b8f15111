"""Lets containers reach ports that listen on this machine's loopback interface only.

`python -m refunds_devkit.local.relay 172.17.0.1 45678 45679` listens on those ports of the
container engine's bridge address, which only containers and this machine can reach, and forwards
connections to the same ports of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from refunds_devkit.local.ports import LOOPBACK

CHUNK_BYTES = 64 * 1024


async def relay(address: str, ports: list[int]) -> None:
    """Serves until it is cancelled. Raises ``OSError`` if it cannot listen."""
    servers = [await asyncio.start_server(partial(_join, port), address, port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def _join(
    port: int, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
) -> None:
    try:
        from_server, to_server = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        to_client.close()
        return
    try:
        await asyncio.gather(_pass(from_client, to_server), _pass(from_server, to_client))
    finally:
        to_client.close()
        to_server.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        # Only this direction has ended. The response may still be on its way.
        writer.write_eof()
    except OSError:
        writer.close()  # one side has disconnected, so the other direction is of no use


if __name__ == "__main__":
    try:
        asyncio.run(relay(sys.argv[1], [int(port) for port in sys.argv[2:]]))
    except KeyboardInterrupt:
        sys.exit(130)
