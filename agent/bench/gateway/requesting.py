"""A client of the gateway that asks again as soon as it is answered."""

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agent.bench.plant.pictures import pictures
from agent.demo.conveyor.camera import as_jpeg
from agent.messages.errors import TransientError

TOKEN: Final = "bench-" + "0" * 32
_TIMING: Final = re.compile(r"decode;dur=([\d.]+), infer;dur=([\d.]+)")
_ANSWER_S: Final = 60.0
_OK, _BUSY = 200, 503


@dataclass
class Asked:
    """Counts of a client's requests, by their result."""

    answered: int = 0
    busy: int = 0
    """Refusals with 503: loading, or no time."""
    own_ms: list[float] = field(default_factory=list)
    """Time of each answer beyond decoding and the network."""
    whole_ms: list[float] = field(default_factory=list)


class Requester:
    """A connection to the gateway; for one thread."""

    def __init__(self, port: int, side: int) -> None:
        self._connection: Final = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
        self._picture: Final = as_jpeg(pictures(side)[0])

    def detect(self, model: str, asked: Asked) -> None:
        """Ask once; a refusal is waited over as it says, at most a tenth of a second."""
        began_s = time.monotonic()
        answer, _ = self._ask("POST", f"/v2/models/{model}/detect", self._picture)
        whole_ms = (time.monotonic() - began_s) * 1000
        if answer.status == _OK:
            found = _TIMING.search(answer.headers.get("Server-Timing", ""))
            asked.answered += 1
            asked.whole_ms.append(whole_ms)
            if found is not None:
                asked.own_ms.append(whole_ms - float(found[1]) - float(found[2]))
        elif answer.status == _BUSY:
            asked.busy += 1
            time.sleep(0.1)
        else:
            raise TransientError(f"{model}: the gateway answered {answer.status}")

    def repository(self, model: str, verb: str) -> None:
        """Load or unload a model; raises TransientError where that fails."""
        answer, text = self._ask("POST", f"/v2/repository/models/{model}/{verb}", b"{}")
        if answer.status != _OK:
            raise TransientError(f"{verb} {model}: {answer.status} {json.loads(text).get('error')}")

    def is_ready(self) -> bool:
        """Return True once the gateway answers for a worker."""
        try:
            return self._ask("GET", "/v2/health/ready", b"")[0].status == _OK
        except OSError:
            self._connection.close()
            return False

    def _ask(self, method: str, path: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
        answer = self._connection.getresponse()
        return answer, answer.read()


@contextmanager
def saturating(port: int, side: int, models: Sequence[str], *, is_cold: bool = False) -> Iterator[Asked]:
    """Run the block beside a client that asks for `models` in turn, without a pause; `is_cold` unloads each."""
    asked, stopping = Asked(), threading.Event()
    failures: list[Exception] = []

    def ask() -> None:
        requester = Requester(port, side)
        try:
            while not stopping.is_set():
                for model in models:
                    requester.detect(model, asked)
                    if is_cold:
                        requester.repository(model, "unload")
        except (TransientError, OSError, http.client.HTTPException) as error:
            failures.append(error)

    thread = threading.Thread(target=ask, name="client")
    thread.start()
    try:
        yield asked
    finally:
        stopping.set()
        thread.join()
    if failures:
        raise TransientError(f"the client failed: {failures[0]}")
