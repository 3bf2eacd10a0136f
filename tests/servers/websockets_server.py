"""A server on the `websockets` library. The URL's path says how it behaves: see tests/README.md."""

import asyncio
import itertools
import json

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

import services
import shared

numbers = itertools.count(1)


class Connection(ServerConnection):
    """Sees each frame: the library's own API shows no pong that nobody waits for."""

    pings = None

    def process_event(self, event):
        if self.pings is not None and isinstance(event, Frame):
            if event.opcode is Opcode.PONG:
                self.pings.answered(frame=bytes(event.data).hex())
            elif event.opcode is Opcode.TEXT:
                self.pings.answered(text=bytes(event.data).decode())
        super().process_event(event)


def deflate(path):
    """`/deflate/none`, or no context takeover of the server's and the client's, bits of both windows; 0 says nothing."""
    if path == "none":
        return []
    server_alone, client_alone, server_bits, client_bits = (int(part) for part in path.split("/"))
    return [
        ServerPerMessageDeflateFactory(
            server_no_context_takeover=bool(server_alone),
            client_no_context_takeover=bool(client_alone),
            server_max_window_bits=server_bits or None,
            client_max_window_bits=client_bits or None,
        )
    ]


def refuse(connection, request):
    if request.path.startswith("/deflate/"):
        connection.protocol.available_extensions = deflate(request.path.removeprefix("/deflate/"))
    if request.path.startswith("/status/"):
        status = int(request.path.removeprefix("/status/"))
        shared.say("refused", status=status)
        response = connection.respond(status, "refused\n")
        if status in shared.RETRY_AFTER:
            response.headers["Retry-After"] = shared.RETRY_AFTER[status]
        return response


async def behave(connection, path):
    if path == "/pings":
        connection.pings = shared.Pings()
        await connection.pings.ask(connection.ping, connection.send)
    elif path == "/chat":
        for n in itertools.count():
            await connection.send(json.dumps({"n": n}))
            await asyncio.sleep(shared.CHAT_EVERY)
    elif path == "/echo":
        async for message in connection:
            shared.say("message", text=message)
            await connection.send(message)
    elif path.startswith("/deflate/"):
        async for message in connection:
            await connection.send(message)
    elif path.startswith("/services/"):
        name = path.removeprefix("/services/")
        await services.play(name, connection.send, connection.recv, connection.close)
    elif path.startswith("/close/"):
        await connection.close(int(path.removeprefix("/close/")))
    await connection.wait_closed()


async def handle(connection):
    conn = next(numbers)
    shared.say("open", conn=conn, path=connection.request.path)
    try:
        await behave(connection, connection.request.path)
    except ConnectionClosed:
        pass
    shared.say("closed", conn=conn, code=connection.close_code)


async def main():
    shared.end_with_parent()
    async with serve(
        handle,
        "127.0.0.1",
        shared.port(),
        process_request=refuse,
        create_connection=Connection,
        ping_interval=None,
    ) as server:
        shared.say("listening", port=server.sockets[0].getsockname()[1])
        await asyncio.Future()


asyncio.run(main())
