"""`websockets`, with its `broadcast()` and, as its documents advise for speed, uvloop.

It takes no POST: publishes come to a second port of the same process and loop, by as little HTTP as will do.
"""

import asyncio
import sys
from collections import defaultdict

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def subscribe(websocket: ServerConnection) -> None:
    room = rooms[websocket.request.path.removeprefix("/sub/")]
    room.add(websocket)
    try:
        await websocket.wait_closed()
    finally:
        room.remove(websocket)


async def publishes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The requests of one connection, one after the other."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *headers = head.split("\r\n")
            length = next(int(it.split(":")[1]) for it in headers if it.lower().startswith("content-length:"))
            message = (await reader.readexactly(length)).decode()
            broadcast(rooms[request.split(" ")[1].removeprefix("/pub/")], message)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    port, publish_port = map(int, sys.argv[1:])
    # As uvicorn has it: with asyncio's 100 some of 10,000 connects at once wait longer than 10 s.
    async with serve(subscribe, "127.0.0.1", port, backlog=2048), await asyncio.start_server(publishes, "127.0.0.1", publish_port):
        await asyncio.Future()


uvloop.run(main())
