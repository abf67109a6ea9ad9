"""Viewers without a browser: each pulls events and pictures as a page does, and draws nothing.

Their process: `python -m browser.viewers URL COUNT STREAM:SIZE...`. At a line `look` on standard input they connect,
and it says `up` once each has a picture of each stream; at `rest` they go, and it says the pictures a second that
each had of a stream.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPConnection
from typing import IO
from urllib.parse import urlsplit

from support.console_plant import PASSWORD
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, Request, TextMessage

_READ_BYTES = 256 * 1024
Look = Callable[[list[float]], AbstractContextManager[None]]


class Puller:
    """One viewer."""

    def __init__(self, host: str, port: int, sizes: dict[str, str]) -> None:
        self.host, self.port, self.sizes = host, port, sizes
        self.pictures: Counter[str] = Counter()
        self._origin = f"http://{host}:{port}"
        self._cookie = self._log_in()

    def _log_in(self) -> str:
        client = HTTPConnection(self.host, self.port)
        body = json.dumps({"name": "viewer", "password": PASSWORD})
        headers = {"content-type": "application/json", "origin": self._origin}
        client.request("POST", "/console/api/login", body, headers)
        answer = client.getresponse()
        assert answer.status == 200, answer.read()
        cookie = answer.headers["set-cookie"].partition(";")[0]
        client.close()
        return cookie

    async def look(self) -> None:
        """Pull until it is cancelled."""
        ends = [await asyncio.open_connection(self.host, self.port) for _ in range(2)]
        try:
            await asyncio.gather(self._pull_events(*ends[0]), self._pull_pictures(*ends[1]))
        finally:
            for _, writer in ends:
                writer.close()

    async def _pull_events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"GET /console/api/events HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncookie: {self._cookie}\r\n\r\n"
        writer.write(head.encode())
        while await reader.read(_READ_BYTES):
            pass

    async def _pull_pictures(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = WSConnection(ConnectionType.CLIENT)
        headers = [(b"cookie", self._cookie.encode()), (b"origin", self._origin.encode())]
        to = f"{self.host}:{self.port}"
        writer.write(link.send(Request(host=to, target="/console/api/pictures", extra_headers=headers)))
        message = b""
        while data := await reader.read(_READ_BYTES):
            link.receive_data(data)
            for event in link.events():
                if isinstance(event, AcceptConnection):
                    for stream in self.sizes:
                        writer.write(self._asking(link, stream, 0))
                elif isinstance(event, BytesMessage):
                    message += bytes(event.data)
                    if event.message_finished:
                        length = int.from_bytes(message[:4], "big")
                        header = json.loads(message[4 : 4 + length])
                        self.pictures[header["stream"]] += 1
                        writer.write(self._asking(link, header["stream"], header["frame"]))
                        message = b""

    def _asking(self, link: WSConnection, stream: str, frame: int) -> bytes:
        return link.send(TextMessage(f"{stream} {frame} {self.sizes[stream]}"))


@contextmanager
def pulling(url: str, count: int, sizes: dict[str, str]) -> Iterator[Look]:
    """Give `look`: it runs a block with viewers at idle priority, and adds a viewer's pictures a second to a list."""
    command = [sys.executable, "-m", "browser.viewers", url, str(count), *(f"{one}:{sizes[one]}" for one in sizes)]
    pipe = subprocess.PIPE
    with subprocess.Popen(["chrt", "--idle", "0", *command], stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        @contextmanager
        def look(rates: list[float], end: IO[str] = process.stdin, answers: IO[str] = process.stdout) -> Iterator[None]:
            end.write("look\n")
            assert answers.readline() == "up\n"
            yield
            end.write("rest\n")
            rates.append(float(answers.readline()))

        yield look
        process.stdin.close()


async def pull(url: str, count: int, sizes: dict[str, str]) -> None:
    """Obey standard input until it ends."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    pullers = [Puller(address.hostname, address.port, sizes) for _ in range(count)]
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):  # "look"
        for one in pullers:
            one.pictures.clear()
        tasks = [asyncio.ensure_future(one.look()) for one in pullers]
        while not all(one.pictures[stream] for one in pullers for stream in sizes):
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in tasks), "a viewer was refused"
        before, begun_s = [one.pictures.copy() for one in pullers], time.monotonic()
        _say("up")
        await loop.run_in_executor(None, sys.stdin.readline)  # "rest"
        took_s = time.monotonic() - begun_s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found = sum(
            one.pictures[stream] - was[stream] for one, was in zip(pullers, before, strict=True) for stream in sizes
        )
        _say(str(round(found / took_s / len(sizes) / count, 2)))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asked = dict(one.split(":") for one in sys.argv[3:])
    asyncio.run(pull(sys.argv[1], int(sys.argv[2]), asked))
