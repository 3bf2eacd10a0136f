"""A server on the `aiohttp` library. The URL's path says how it behaves: see tests/README.md."""

import asyncio
import itertools
import json

from aiohttp import WSMsgType, web

import shared

numbers = itertools.count(1)


async def refuse(request):
    status = int(request.match_info["status"])
    shared.say("refused", status=status)
    headers = {"Retry-After": shared.RETRY_AFTER[status]} if status in shared.RETRY_AFTER else {}
    return web.Response(status=status, headers=headers)


async def chat(connection):
    for n in itertools.count():
        await connection.send_str(json.dumps({"n": n}))
        await asyncio.sleep(shared.CHAT_EVERY)


async def receive(connection, path, pings):
    # Without `autoping` the library reports pongs, but then we have to answer pings ourselves.
    async for message in connection:
        if message.type is WSMsgType.PING:
            await connection.pong(message.data)
        elif message.type is WSMsgType.PONG and pings:
            pings.answered(frame=bytes(message.data).hex())
        elif message.type is WSMsgType.TEXT and pings:
            pings.answered(text=message.data)
        elif message.type is WSMsgType.TEXT and path == "/echo":
            shared.say("message", text=message.data)
            await connection.send_str(message.data)


async def handle(request):
    connection = web.WebSocketResponse(autoping=False)
    await connection.prepare(request)
    conn = next(numbers)
    shared.say("open", conn=conn, path=request.path)
    speaking, pings = None, None
    if request.path == "/pings":
        pings = shared.Pings()
        speaking = asyncio.create_task(pings.ask(connection.ping, connection.send_str))
    elif request.path == "/chat":
        speaking = asyncio.create_task(chat(connection))
    elif request.path.startswith("/close/"):
        await connection.close(code=int(request.match_info["code"]))
    await receive(connection, request.path, pings)
    if speaking:
        speaking.cancel()
    shared.say("closed", conn=conn, code=connection.close_code)
    return connection


async def main():
    shared.end_with_parent()
    app = web.Application()
    app.router.add_get("/status/{status}", refuse)
    app.router.add_get("/close/{code}", handle)
    app.router.add_get("/{behaviour}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", shared.port(), reuse_address=True).start()
    shared.say("listening", port=runner.addresses[0][1])
    await asyncio.Future()


asyncio.run(main())
