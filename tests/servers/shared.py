"""What the two Python servers share: how they tell what they see, and the questions of `/pings`."""

import asyncio
import collections
import json
import os
import pathlib
import sys
import threading
import time

RETRY_AFTER = {503: "2"}
CHAT_EVERY = 0.1
PATIENCE = 2.0
BATCHES = json.loads(pathlib.Path(__file__).with_name("pings.json").read_text())


def say(event, **facts):
    """One JSON object a line on stdout."""
    print(json.dumps({"event": event, **facts}), flush=True)


def port():
    """The port to listen on: the one argument, or any."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else 0


def end_with_parent():
    """A server whose tests are gone ends too: its stdin has no other end any more."""

    def watch():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


class Pings:
    """Asks what `pings.json` asks, batch after batch, and tells every answer with its delay."""

    def __init__(self):
        self.asked_at = collections.deque()
        self.all_answered = asyncio.Event()

    async def ask(self, send_ping, send_text):
        for batch in BATCHES:
            for question in batch:
                if "data" not in question:
                    self.asked_at.append(time.monotonic())
                    self.all_answered.clear()
                if "frame" in question:
                    await send_ping(bytes.fromhex(question["frame"]))
                else:
                    await send_text(question.get("text") or question["data"])
            try:
                await asyncio.wait_for(self.all_answered.wait(), PATIENCE)
            except asyncio.TimeoutError:
                pass
        await send_text("asked")

    def answered(self, **what):
        asked_at = self.asked_at.popleft() if self.asked_at else None
        delay_ms = None if asked_at is None else (time.monotonic() - asked_at) * 1000
        if not self.asked_at:
            self.all_answered.set()
        say("answer", **what, delay_ms=delay_ms)
