"""The common command line, JSON lines and counts of the torture course, as in src/driver.rs."""

import argparse
import itertools
import json
import os
import sys
import threading
import time


class Course:
    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("--url", required=True)
        parser.add_argument("--client", default="")
        for name, default in [("ping", 2000), ("death", 4000), ("connect", 3000), ("backoff", 500)]:
            parser.add_argument(f"--{name}", type=int, default=default)
        parser.add_argument("--data", type=int)
        parser.add_argument("--keepalive", type=int)
        parser.add_argument("--stable", type=int)
        parser.add_argument("--every")
        parser.add_argument("--act", default="idle")
        args = vars(parser.parse_args())
        self.url = args["url"]
        self.ping, self.death, self.connect, self.backoff = (
            args[name] / 1000 for name in ["ping", "death", "connect", "backoff"]
        )
        self.act, _, argument = args["act"].partition("=")
        self.argument = int(argument or 0)
        self.held = False
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(["messages", "disorder", "accepted", "refused", "returned"], 0)
        self.next = 0
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self):
        sys.stdin.buffer.read()
        with self.lock:
            print(json.dumps({"event": "summary", **self.counts}), flush=True)
        os._exit(0)

    def say(self, event, detail=""):
        with self.lock:
            print(json.dumps({"t": time.time() * 1000, "event": event, "detail": str(detail)}), flush=True)

    def connected(self):
        self.next = 0
        self.say("connected")

    def message(self, text):
        self.counts["messages"] += 1
        if isinstance(text, bytes):
            text = text[:40].decode(errors="replace")
        if text.startswith('{"n":'):
            digits = "".join(itertools.takewhile(str.isdigit, text[5:]))
            self.counts["disorder"] += int(digits) != self.next
            self.next = int(digits) + 1

    def sent(self, accepted):
        self.counts["accepted" if accepted else "refused"] += 1

    def sends(self):
        """Pauses and texts, numbered."""
        count, size, pause = {
            "write": (sys.maxsize, 100, 1.5),
            "flood": (64, 1 << 20, 0),
            "upload": (1, self.argument, 0),
            "burst": (self.argument, 1000, 0),
            "rate": (sys.maxsize, 100, 1 / max(self.argument, 1)),
        }.get(self.act, (0, 0, 0))
        number = 0
        while number < count:
            yield pause, f"{number} " + "." * size
            number += 1

    def hold(self):
        """How long nothing is to be taken: once."""
        if self.act != "hold" or self.held:
            return 0
        self.held = True
        return self.argument / 1000
