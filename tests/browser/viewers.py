"""Viewers without a browser: each pulls events and pictures as a page does, and draws nothing.

Run in tests/: `python -m browser.viewers URL COUNT STREAM:SIZE...`. It says `up` once each viewer has a picture of each
stream, pulls until its standard input ends, and then prints the pictures a second of each stream of each viewer.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from http.client import HTTPConnection
from urllib.parse import urlsplit

from support.console_plant import PASSWORD
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, Request, TextMessage

_READ_BYTES = 256 * 1024


class Puller:
    """One viewer."""

    def __init__(self, host: str, port: int, sizes: dict[str, str]) -> None:
        self.host, self.port, self.sizes = host, port, sizes
        self.pictures: Counter[str] = Counter()
        self.events = 0
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

    async def pull_events(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        head = f"GET /console/api/events HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncookie: {self._cookie}\r\n\r\n"
        writer.write(head.encode())
        while data := await reader.read(_READ_BYTES):
            self.events += data.count(b"data: ")

    async def pull_pictures(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
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


async def pull(url: str, count: int, sizes: dict[str, str]) -> None:
    """Pull with so many viewers until standard input ends."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    pullers = [Puller(address.hostname, address.port, sizes) for _ in range(count)]
    tasks = [asyncio.ensure_future(one) for puller in pullers for one in (puller.pull_events(), puller.pull_pictures())]
    while not all(puller.pictures[stream] for puller in pullers for stream in sizes):
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks), "a viewer was refused"
    before, begun_s = [puller.pictures.copy() for puller in pullers], time.monotonic()
    sys.stdout.write("up\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    took_s = time.monotonic() - begun_s
    rates = [
        {stream: round((puller.pictures[stream] - first[stream]) / took_s, 2) for stream in sizes}
        for puller, first in zip(pullers, before, strict=True)
    ]
    sys.stdout.write(json.dumps(rates) + "\n")
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asked = dict(one.split(":") for one in sys.argv[3:])
    asyncio.run(pull(sys.argv[1], int(sys.argv[2]), asked))
