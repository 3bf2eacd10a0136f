"""A proxy on the `pproxy` library: HTTP and SOCKS5 on one port, for the user `me` with the password `p@ss`."""

import asyncio
import sys

import pproxy

import shared


async def main():
    proxy = pproxy.Server(f"http+socks5://127.0.0.1:{sys.argv[1]}#me:p@ss")

    def tell(line):
        # It prints the path of each connection, such as `http 127.0.0.1:1 -> 127.0.0.1:2`.
        if "->" in line:
            shared.say("message", text=line)

    arguments = {"rserver": [pproxy.Connection("direct")], "verbose": tell}
    server = await proxy.start_server(arguments)
    shared.say("listening", port=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
