"""Python's `websockets` (asyncio), reconnecting by `async for` as its documentation recommends."""

import asyncio
import sys

# This file has the same name as the library.
sys.path.append(sys.path.pop(0))
import websockets.asyncio.client  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

from driver import Course  # noqa: E402


async def send_all(ws, sends, course):
    for pause, text in sends:
        await asyncio.sleep(pause)
        try:
            await ws.send(text)
            course.sent(True)
        except ConnectionClosed:
            course.sent(False)


async def main():
    course = Course()
    started = False
    async for ws in websockets.asyncio.client.connect(
        course.url,
        ping_interval=course.ping,
        ping_timeout=course.death - course.ping,
        open_timeout=course.connect,
        close_timeout=1,
        max_size=64 << 20,
    ):
        course.connected()
        sending = None
        if not started:
            started = True
            sending = asyncio.create_task(send_all(ws, course.sends(), course))
        try:
            await asyncio.sleep(course.hold())
            async for message in ws:
                course.message(message)
            course.say("disconnected", ws.close_code)
        except ConnectionClosed as error:
            course.say("disconnected", error)


asyncio.run(main())
