#!/usr/bin/env python3
"""Fills target/fuzz/corpus/ with what was collected about the services: a start for the targets of dialects."""

import hashlib
import json
import pathlib

FUZZ = pathlib.Path(__file__).parent
CORE = FUZZ.parent / "heartbeat-core"
LISTS = ["server_ping", "expected_reply", "client_ping", "server_pong", "not_heartbeat"]


def seed(target, text):
    directory = FUZZ.parent / "target/fuzz/corpus" / target
    directory.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    (directory / hashlib.sha1(data).hexdigest()).write_bytes(data)


dialects = {}
for file in sorted((CORE / "dialects").glob("*.json")):
    for entry in json.loads(file.read_text()):
        dialects[entry["name"]] = entry["dialect"]
        seed("load", json.dumps(entry["dialect"]))

for service in json.loads((CORE / "tests/data/vectors.json").read_text()):
    messages = [text for name in LISTS for text in service.get(name, []) if text]
    dialect = dialects.get(service["dialect"])
    for text in messages:
        seed("classify", text)
        if dialect:
            seed("classify", json.dumps(dialect) + "\0" + text)
            for rule in dialect.get("rules", []):
                if isinstance(rule.get("reply"), str):
                    seed("template", rule["reply"] + "\0" + text)
