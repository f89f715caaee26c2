#!/usr/bin/env python3
"""A TCP proxy that makes a near host far: bytes arrive ONE_WAY seconds later, in either direction.

usage: delay.py LISTEN_PORT TARGET_PORT ONE_WAY

Runs on the host itself and passes on to its loopback, so nothing but the port differs for the
tools, and hosts among themselves are not slowed. The handshake of TCP costs its round trip too.
Bandwidth is not limited.
"""

import asyncio
import socket
import sys


def no_delay(writer):
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def carry(reader, connected, delay):
    """Reads at once; writes to the other side `delay` after reading, once that is connected."""
    loop = asyncio.get_running_loop()
    queue = asyncio.Queue()

    async def late():
        writer = (await asyncio.shield(connected))[1]
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    sender = loop.create_task(late())
    try:
        while True:
            data = await reader.read(1 << 16)
            queue.put_nowait((loop.time() + delay, data))
            if not data:
                break
        await sender
    finally:
        sender.cancel()


async def main(listen, target, delay):
    async def reach_target():
        # The last part of the client's handshake is on its way.
        await asyncio.sleep(delay)
        pair = await asyncio.open_connection("127.0.0.1", target)
        no_delay(pair[1])
        return pair

    async def serve(reader, writer):
        no_delay(writer)
        near = asyncio.get_running_loop().create_future()
        near.set_result((reader, writer))
        # The client believes that it is connected; it would be so one round trip later.
        await asyncio.sleep(2 * delay)
        far = asyncio.ensure_future(reach_target())

        async def back():
            await carry((await asyncio.shield(far))[0], near, delay)

        await asyncio.gather(carry(reader, far, delay), back(), return_exceptions=True)
        writer.close()
        if far.done() and not far.cancelled() and far.exception() is None:
            far.result()[1].close()

    server = await asyncio.start_server(serve, "0.0.0.0", listen)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
