"""Plays a few services as their documentation has them: `/services/NAME`. Each closes a client that does not
keep to its rules with 4000, as the service would, and says `done` when its part has been played."""

import asyncio
import json

import shared

PATIENCE = 5.0
BREACH = 4000


class Breach(Exception):
    pass


def expect(right, message):
    if not right:
        raise Breach(f"unexpected: {message}")


class Peer:
    def __init__(self, send, receive):
        self.send, self.receive = send, receive

    async def say(self, message):
        await self.send(message if isinstance(message, str) else json.dumps(message))

    async def hear(self, timeout=PATIENCE):
        try:
            text = await asyncio.wait_for(self.receive(), timeout)
        except asyncio.TimeoutError:
            raise Breach(f"nothing within {timeout} s")
        shared.say("message", text=text)
        return text

    async def hear_json(self, timeout=PATIENCE):
        return json.loads(await self.hear(timeout))


async def discord(peer):
    # The hello's interval, the first heartbeat within it, and the last `s` in every heartbeat.
    interval = 1.5
    await peer.say({"op": 10, "d": {"heartbeat_interval": int(interval * 1000)}})
    for s in (7, 8):
        await peer.say({"op": 0, "t": "EVENT", "s": s, "d": {}})
        beat = await peer.hear_json(interval + 1)
        expect(beat == {"op": 1, "d": s}, beat)
        await peer.say({"op": 11})
    await peer.say({"op": 1, "d": None})
    beat = await peer.hear_json(1)
    expect(beat == {"op": 1, "d": 8}, beat)


async def engine_io(peer):
    # The server pings. After `pingInterval + pingTimeout` of silence the client must be gone.
    await peer.say('0{"sid":"a","upgrades":[],"pingInterval":300,"pingTimeout":1000,"maxPayload":1000000}')
    for _ in range(3):
        await asyncio.sleep(0.3)
        await peer.say("2")
        answer = await peer.hear(1)
        expect(answer == "3", answer)


async def deribit(peer):
    # Heartbeats begin on request, and a test request must be answered.
    opened = await peer.hear_json()
    expect(opened["method"] == "public/set_heartbeat" and opened["params"]["interval"] >= 10, opened)
    await peer.say({"jsonrpc": "2.0", "id": opened["id"], "result": "ok"})
    for _ in range(2):
        await peer.say({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}})
        test = await peer.hear_json(2)
        expect(test["method"] == "public/test" and test["id"] > opened["id"], test)
        await peer.say({"jsonrpc": "2.0", "id": test["id"], "result": {"version": "1.2.26"}})


async def home_assistant(peer):
    # Ids must increase, whichever part of the client sends them.
    await peer.say({"type": "auth_required", "ha_version": "2026.1"})
    auth = await peer.hear_json()
    expect(auth == {"type": "auth", "access_token": "x"}, auth)
    await peer.say({"type": "auth_ok", "ha_version": "2026.1"})
    last = 0
    for _ in range(3):
        message = await peer.hear_json()
        expect(message["type"] == "ping" and message["id"] > last, message)
        last = message["id"]
        await peer.say({"id": last, "type": "pong"})


SERVICES = {
    "discord": discord,
    "engine-io": engine_io,
    "deribit": deribit,
    "home-assistant": home_assistant,
}


async def play(name, send, receive, close):
    try:
        await SERVICES[name](Peer(send, receive))
        shared.say("done")
    except Breach as breach:
        shared.say("breach", why=str(breach))
        await close(BREACH)
