"""The console of a running agent: login, state, an act, a picture, and a line that notices nothing of it."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.running_agent import RunningAgent
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request, TextMessage

from agent.web.console.access.guard import COOKIE
from agent.web.console.access.users import Users

PASSWORD = "a long password"
DEADLINE_S = 60.0


def with_console(settings: dict[str, Any]) -> None:
    settings["web"] = {"bind": "127.0.0.1:0"}


class Visitor:
    """Somebody at the console of an agent."""

    def __init__(self, agent: RunningAgent, name: str) -> None:
        port = agent.logged(r"event=web_serving port=(\d+)")[1]
        self.host = f"127.0.0.1:{port}"
        url = f"http://{self.host}"
        self.client = httpx.Client(base_url=url, headers={"origin": url}, timeout=DEADLINE_S)
        answer = self.client.post("/console/api/login", json={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text

    def act(self, **asked: Any) -> httpx.Response:  # noqa: ANN401 - JSON
        return self.client.post("/console/api/act", json=asked)

    def documents(self, enough: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read the stream of events until `enough`; return the newest document of each topic."""
        found: dict[str, Any] = {}
        with self.client.stream("GET", "/console/api/events") as answer:
            event = ""
            for line in answer.iter_lines():
                name, _, data = line.partition(": ")
                if name == "event":
                    event = data
                elif name == "data" and event in {"snapshot", ""}:
                    told = json.loads(data)
                    found.update({one["topic"]: one["doc"] for one in (told if isinstance(told, list) else [told])})
                elif not line:
                    event = ""
                if enough(found):
                    return found
        raise AssertionError("the stream ended")

    def picture(self, stream: str) -> tuple[dict[str, Any], bytes]:
        """Pull one picture; return its header and the JPEG file."""
        host, _, port = self.host.partition(":")
        with socket.create_connection((host, int(port)), DEADLINE_S) as connection:
            talk = WSConnection(ConnectionType.CLIENT)
            headers = [(b"origin", f"http://{self.host}".encode()), (b"cookie", self._cookie())]
            connection.sendall(
                talk.send(Request(host=self.host, target="/console/api/pictures", extra_headers=headers))
            )
            message = bytearray()
            while True:
                talk.receive_data(connection.recv(65536))
                for event in talk.events():
                    if isinstance(event, AcceptConnection):
                        connection.sendall(talk.send(TextMessage(data=f"{stream} 0 large")))
                    elif isinstance(event, BytesMessage):
                        message += event.data
                        if event.message_finished:
                            length = int.from_bytes(message[:4], "big")
                            return json.loads(message[4 : 4 + length]), bytes(message[4 + length :])

    def _cookie(self) -> bytes:
        return f"{COOKIE}={self.client.cookies[COOKIE]}".encode()


@pytest.fixture
def watched(make_agent: Callable[..., RunningAgent], tmp_path: Path) -> Iterator[tuple[RunningAgent, Visitor]]:
    users = Users(tmp_path / "state")
    users.add("eva", "operator", PASSWORD)
    agent = make_agent(with_console)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    visitor = Visitor(agent, "eva")
    yield agent, visitor
    visitor.client.close()


def test_the_console_tells_acts_and_shows(watched: tuple[RunningAgent, Visitor]) -> None:
    agent, visitor = watched
    told = visitor.documents(lambda found: "health" in found and "line/line-1/live" in found)
    assert told["line/line-1/ready"] == "bottle-500"
    assert told["console/plant"]["lines"]["line-1"]["products"]["17"] == "beta"
    assert [one["model"] for one in told["console/catalog"]["models"]] == ["alpha:n@1", "beta:n@1"]
    assert told["console/link"] == {"connected": True}

    head, jpeg = visitor.picture("cam-1")
    assert jpeg.startswith(b"\xff\xd8")
    assert head["age_ms"] < DEADLINE_S * 1000

    mark = len(agent.heard)
    assert visitor.act(act="product", line="line-1", value="17").status_code == 409
    answer = visitor.act(act="product", line="line-1", value="17", confirmed=True)
    assert answer.json()["result"] in {"done", "accepted"}
    agent.until_said("line/line-1/ready", "17", mark)
    cause = json.loads(agent.value("line/line-1/state") or "{}")["cause"]
    assert (cause["rule"], cause["value"], cause["user"]) == ("product", "17", "eva")
    changeovers = "console/changeovers/line-1"
    told = visitor.documents(lambda found: any(one["cause"].get("user") for one in found.get(changeovers, [])))
    assert told[changeovers][-1]["cause"]["user"] == "eva"
    agent.logged(r"event=act user=eva act=product line=line-1 value='17'")


def test_pictures_come_with_the_boxes_of_their_frame(watched: tuple[RunningAgent, Visitor]) -> None:
    _, visitor = watched
    for _ in range(200):  # the first ones may come before their detections are asked for
        head, _ = visitor.picture("cam-1")
        if head["detections"] is not None and head["detections"]["frame"] == head["frame"]:
            assert head["detections"]["model"] == "alpha:n@1"
            return
    raise AssertionError("no picture with its own boxes")


def test_an_alert_is_acknowledged_for_everybody(watched: tuple[RunningAgent, Visitor]) -> None:
    agent, visitor = watched
    agent.send("line/line-1/product/set", "no-such-product")
    agent.until(lambda: "unknown_product" in (agent.value("alerts") or ""))
    answer = visitor.act(act="acknowledge", value={"code": "unknown_product", "line": "line-1"})
    assert answer.json()["result"] == "done"
    agent.until(lambda: '"acknowledged_by":"eva"' in (agent.value("alerts") or ""))


def test_a_killed_web_process_costs_the_line_nothing_and_keeps_sessions(watched: tuple[RunningAgent, Visitor]) -> None:
    agent, visitor = watched
    mark = len(agent.heard)
    agent.child("agent.web.web_process").kill()
    agent.until(lambda: agent.log().count("event=web_serving") == 2)
    agent.until(lambda: len(agent.detections("cam-1", mark)) > 5)
    assert agent.on("line/line-1/ready", mark) == []
    port = agent.log().split("event=web_serving port=")[-1].split()[0]
    cookie = {"cookie": f"{COOKIE}={visitor.client.cookies[COOKIE]}"}
    assert httpx.get(f"http://127.0.0.1:{port}/console/api/session", headers=cookie).json()["user"] == "eva"
