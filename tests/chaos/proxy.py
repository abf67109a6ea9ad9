"""A TCP proxy between the agent and its broker that does to them what networks do."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from typing import Final

from chaos.history import History, Sending
from chaos.wire import PUBACK, PUBLISH, Reader, whole
from support.brokers import free_port

_CHUNK: Final = 4096
_SLOW_CHUNK: Final = 512
_RETAIN: Final = 1
_MQTT5: Final = 5
_FOR_THE_MOMENT: Final = (0x80, 0x83, 0x97)


class Proxy:
    """Listens on `port`, on a thread of its own. Faults are set from any thread, and hold until they are healed."""

    def __init__(self, target: int, history: History) -> None:
        self.port = free_port()
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.is_hole = False
        self.refuses = False
        self.refused_share = 0.0
        self.refused = 0
        self.on_state: Callable[[str, bytes], None] = lambda _topic, _payload: None
        self._chance = random.Random(1)
        self._target = target
        self._history = history
        self._count = 0
        self._open: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        started = threading.Event()
        self._loop.call_soon(started.set)
        self._thread.start()
        assert started.wait(20)
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(20)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def heal(self) -> None:
        """Be a wire again; connections that are broken stay so."""
        self.delay_s, self.bytes_per_s, self.is_hole, self.refuses = 0.0, None, False, False
        self.refused_share = 0.0

    def cut(self) -> None:
        """Break all connections, as a cable that is pulled between two switches does not."""
        self._each(_Pair.close)

    def refuse(self) -> None:
        """Break all connections, and take no new one."""
        self.refuses = True
        self.cut()

    def refuses_next(self) -> int | None:
        """Draw whether the next message is refused for the moment, and with which reason code."""
        if self._chance.random() >= self.refused_share:
            return None
        self.refused += 1
        return self._chance.choice(_FOR_THE_MOMENT)

    def half_open(self) -> None:
        """Let the broker's end be gone without a word to the agent."""
        self._each(_Pair.abandon)

    def _each(self, do: "Callable[[_Pair], None]") -> None:
        async def all_of_them() -> None:
            for pair in list(self._open):
                do(pair)

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for pair in list(self._open):
            pair.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        self._count += 1
        pair = _Pair(self, self._history, self._count, writer)
        self._open.add(pair)
        try:
            await pair.serve(reader, self._target)
        finally:
            self._open.discard(pair)


class _Pair:
    """One connection of the agent, and ours to the broker for it."""

    def __init__(self, proxy: Proxy, history: History, number: int, agent: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._history = history
        self._number = number
        self._agent = agent
        self._broker: asyncio.StreamWriter | None = None
        self._is_abandoned = False
        self._waiting: dict[int, Sending] = {}
        self._up, self._down = Reader(), Reader()
        self._to_agent: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    def close(self) -> None:
        for writer in (self._agent, self._broker):
            if writer is not None:
                writer.transport.abort()

    def abandon(self) -> None:
        self._is_abandoned = True
        if self._broker is not None:
            self._broker.transport.abort()

    async def serve(self, agent: asyncio.StreamReader, target: int) -> None:
        # a hole takes the connection, and says nothing
        while self._proxy.is_hole:
            await asyncio.sleep(0.05)
            if agent.at_eof():
                self.close()
                return
        try:
            broker, self._broker = answer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", target), 5)
        except (OSError, asyncio.TimeoutError):
            self.close()
            return
        up = asyncio.create_task(self._carry(agent, answer[1], self._sent, asyncio.Queue(64)))
        down = asyncio.create_task(self._carry(broker, self._agent, self._answered, self._to_agent))
        _, pending = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if self._is_abandoned:
            await asyncio.wait({up})
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytes], bytes],
        line: "asyncio.Queue[tuple[float, bytes]]",
    ) -> None:
        loop = asyncio.get_running_loop()
        carrier = asyncio.create_task(self._deliver(line, writer))
        try:
            while data := await reader.read(_SLOW_CHUNK if self._proxy.bytes_per_s else _CHUNK):
                if passing := look(data):
                    await line.put((loop.time() + self._proxy.delay_s, passing))
        except OSError:
            return
        finally:
            carrier.cancel()
            await asyncio.gather(carrier, return_exceptions=True)

    async def _deliver(self, line: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due_s, data = await line.get()
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                if self._proxy.bytes_per_s:
                    await asyncio.sleep(len(data) / self._proxy.bytes_per_s)
                if not (self._proxy.is_hole or self._is_abandoned):
                    writer.write(data)
                    await writer.drain()

    def _sent(self, data: bytes) -> bytes:
        """Return what goes on to the broker: whole packets, without those that are refused here in its place."""
        passing = b""
        for kind, body, flags in self._up.feed(data):
            message = self._up.published(body, flags) if kind == PUBLISH else None
            if message is not None and message.key is not None:
                sending = Sending(self._number, message.topic, message.key)
                self._waiting[message.packet] = sending
                self._history.passed(sending)
            if message is not None and flags & _RETAIN:
                self._proxy.on_state(message.topic, message.payload)
            code = self._proxy.refuses_next() if message is not None and self._up.version >= _MQTT5 else None
            if message is None or code is None:
                passing += whole(kind, flags, body)
                continue
            self._waiting.pop(message.packet, None)
            answer = whole(PUBACK, 0, message.packet.to_bytes(2, "big") + bytes([code, 0]))
            self._to_agent.put_nowait((asyncio.get_running_loop().time() + self._proxy.delay_s, answer))
        return passing

    def _answered(self, data: bytes) -> bytes:
        passing = b""
        for kind, body, flags in self._down.feed(data):
            sending = self._waiting.pop(int.from_bytes(body[:2], "big"), None) if kind == PUBACK else None
            if sending is not None:
                self._history.acknowledged(sending)
            passing += whole(kind, flags, body)
        return passing
