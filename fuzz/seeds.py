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

# What the catalogue has little of: binary messages with values, batches, verdicts, limits.
for text in [
    '{"rules":[{"bytes":"080110*","reply":{"bytes":"080210${3..}${id:varint}"}},{"bytes":"09??","beat":true}],'
    '"ping":{"bytes":"08${now_ms:u64le}${s:text}","every":"9s","jitter_percent":9},"computed":["s"],"separator":{"bytes":"0a"}}',
    '{"batch":true,"rules":[{"json":{"/e":"ping"},"reply":"${/id} ${now_iso} ${uuid}"},{"json":{"/e":"end"},"ending":true}]}',
    '{"close_codes":{"1008 no pong":"backoff","4000-4009":{"spread":["1s","2s"]}},"http_statuses":{"418":{"after":"2m"}},'
    '"lifetime":"24h","limits":{"messages":"5/1s","dials":["300/5m","20/1s"],"connections":9},"variables":["v"],"on_open":["${v}"]}',
]:
    seed("load", text)
    for message in ['[{"e":"ping","id":1},{"e":"trade"}]', '{"e":"end"}', "\x08\x01\x10\x05\n\t\x01"]:
        seed("classify", text + "\0" + message)

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
