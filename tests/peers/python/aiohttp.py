"""`aiohttp`'s client with its heartbeat. It does not reconnect: the loop is the application's."""

import asyncio
import sys
import time

# This file has the same name as the library.
sys.path.append(sys.path.pop(0))
import aiohttp  # noqa: E402

from driver import Course  # noqa: E402


async def send_all(ws, sends, course):
    for pause, text in sends:
        await asyncio.sleep(pause)
        try:
            await ws.send_str(text)
            course.sent(True)
        except Exception:
            course.sent(False)


async def live(course, session, sends):
    timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
    # The client waits for the heartbeat's pong for half of its interval.
    dial = session.ws_connect(
        course.url, heartbeat=course.ping, timeout=timeout, max_msg_size=64 << 20, ssl=False
    )
    async with await asyncio.wait_for(dial, course.connect) as ws:
        course.connected()
        if sends:
            asyncio.create_task(send_all(ws, sends.pop(), course))
        await asyncio.sleep(course.hold())
        async for message in ws:
            course.message(message.data)
        return ws.close_code


async def main():
    course = Course()
    delay = course.backoff
    sends = [course.sends()]
    async with aiohttp.ClientSession() as session:
        while True:
            begun = time.monotonic()
            try:
                course.say("disconnected", await live(course, session, sends))
            except Exception as error:
                course.say("disconnected", repr(error))
            if time.monotonic() - begun > 0.1:
                delay = course.backoff
            await asyncio.sleep(delay)
            delay = min(delay * 2, course.backoff * 8)


asyncio.run(main())
