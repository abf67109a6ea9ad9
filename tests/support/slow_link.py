"""A proxy in front of a server that passes its answers on at a bounded rate, as a slow network does."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_TURN_S = 0.02


@contextmanager
def slow_link(port: int, bytes_per_s: int) -> Iterator["SlowLink"]:
    """Give a proxy to 127.0.0.1:`port`, whose connections share `bytes_per_s` on the way back."""
    link = SlowLink(port, bytes_per_s)
    link.thread.start()
    link.is_up.wait()
    try:
        yield link
    finally:
        assert link.loop is not None
        link.loop.call_soon_threadsafe(link.is_over.set)
        link.thread.join()


class SlowLink:
    """A proxy on `port`; `bytes_per_s` may be changed while it is up."""

    def __init__(self, to: int, bytes_per_s: int) -> None:
        self.to, self.bytes_per_s = to, bytes_per_s
        self.port = 0
        self.is_up = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_over = asyncio.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._turn = asyncio.Lock()

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        self.port = server.sockets[0].getsockname()[1]
        self.is_up.set()
        await self.is_over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.to, limit=4096)
        await asyncio.gather(self._pass(reader, back), self._pass_slowly(there, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def _pass_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(min(max(1, int(self.bytes_per_s * _TURN_S)), 4096)):
                async with self._turn:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
