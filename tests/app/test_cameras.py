"""Whole agents beside odd cameras: what they hold against a pause, another size, a refusal, a password in the URL."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from support.brokers import free_port
from support.camera_answers import DESCRIBED, OPTIONS, Answering, rtsp_answer
from support.mjpeg import network_camera
from support.running_agent import RunningAgent

BOXES = {(128, 96): [16, 16, 80, 80], (240, 320): [0, 80, 160, 240]}
"""Boxes that the models of running_agent answer, by the size of the frame: [8, 16, 40, 48] in a letterbox of 64x64."""
SECRETS = tuple(f"hunter{number}" for number in range(10))


def _video(path: Path) -> None:
    """Write an H.264 stream that changes its size in its middle."""
    parts = []
    for width, height in BOXES:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for _ in range(5):
                picture = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), format="bgr24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))


def _sizes(detections: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {(one["width"], one["height"]) for one in detections}


def _is_told(agent: RunningAgent, stream: str, words: str) -> bool:
    """Return whether the newest alert of a camera has the words."""
    said = [json.loads(one.payload) for one in agent.on("alert")]
    found = [one["detail"] for one in said if (one["code"], one["stream"], one["on"]) == ("camera", stream, True)]
    return bool(found and re.search(words, found[-1]))


def _called(verb: str, agent: RunningAgent) -> str:
    command = [sys.executable, "-m", "agent", verb, "--config", str(agent.config)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=agent.folder, timeout=240)
    return answer.stdout + answer.stderr


def test_pauses_within_stall_s_keep_ready_and_boxes_are_of_the_size_that_came(
    make_agent: Callable[..., RunningAgent], tmp_path: Path
) -> None:
    _video(tmp_path / "sizes.ts")
    with network_camera() as camera, network_camera(interval_s=3) as slow:

        def patient(settings: dict[str, Any]) -> None:
            settings["stream"][0] |= {"source": camera.url, "stall_s": 10}
            settings["stream"][1] |= {"source": slow.url, "stall_s": 10}
            settings["stream"][2] |= {"source": "sizes.ts"}

        agent = make_agent(patient)
        agent.until_said("status", "online")
        agent.ready("bottle-500")
        mark = len(agent.heard)
        camera.is_sending.clear()
        resumed_s = time.monotonic() + 2.5
        agent.until(lambda: time.monotonic() > resumed_s)
        camera.show(240, 320)
        camera.is_sending.set()
        agent.until(lambda: (240, 320) in _sizes(agent.detections("cam-1", mark)))
        agent.until(lambda: len(agent.detections("cam-2", mark)) > 1)
        agent.until(lambda: _sizes(agent.detections("cam-3", mark)) == set(BOXES))
        assert not agent.on("line/line-1/ready", mark)
        assert {one.payload for one in agent.on("line/line-1/live", mark)} == {b"bottle-500"}
        assert [agent.value(f"stream/cam-{number}/status") for number in (1, 2, 3)] == ["online"] * 3
        assert not agent.on("stream/cam-1/status", mark) + agent.on("stream/cam-2/status", mark)
        for one in agent.detections("cam-1", mark) + agent.detections("cam-3", mark):
            (found,) = one["objects"]
            assert found["box"] == BOXES[one["width"], one["height"]]


def test_what_a_camera_answers_is_told_on_mqtt_and_by_the_doctor_and_no_password_is(
    make_agent: Callable[..., RunningAgent],
) -> None:
    refusals = {
        "401": {"*": rtsp_answer("401 Unauthorized"), "OPTIONS": OPTIONS},
        "404": {"*": rtsp_answer("404 Not Found"), "OPTIONS": OPTIONS},
        "453": {"*": rtsp_answer("453 Not Enough Bandwidth"), "OPTIONS": OPTIONS, "DESCRIBE": DESCRIBED},
        "461": {"*": rtsp_answer("461 Unsupported Transport"), "OPTIONS": OPTIONS, "DESCRIBE": DESCRIBED},
    }
    told = (
        "401.*user and password",
        "404.*check the path",
        "453.*another viewer",
        "neither TCP nor UDP",
        "resolve.*DNS",
    )
    with ExitStack() as running:
        places = [running.enter_context(closing(Answering(answers))).place for answers in refusals.values()]
        urls = [
            f"rtsp://admin:{SECRETS[0]}@{places[0]}/cam?token={SECRETS[1]}",
            f"rtsp://{places[1]}/user=admin_password={SECRETS[2]}_channel=1?pwd={SECRETS[3]}",
            f"rtsp://{places[2]}/cam/pw={SECRETS[4]}&passwd={SECRETS[5]}",
            f"rtsp://{places[3]}/stream?user=admin&pw={SECRETS[6]}&auth={SECRETS[7]}",
            f"http://{SECRETS[8]}:{SECRETS[9]}@camera.invalid/video",
        ]

        def odd(settings: dict[str, Any]) -> None:
            settings["http"] = {"bind": f"127.0.0.1:{free_port()}"}
            settings["stream"] = [
                {"id": f"cam-{number}", "line": "line-1", "source": url} for number, url in enumerate(urls)
            ]
            del settings["line"]["line-2"]

        agent = make_agent(odd)
        agent.until_said("status", "online")
        for number, words in enumerate(told):
            agent.until(partial(_is_told, agent, f"cam-{number}", words))
        agent.until(lambda: agent.on("health"))
        said = [_called("doctor", agent), _called("check", agent)]
        for number, words in enumerate(told):
            assert re.search(rf"fail  camera cam-{number}: .*{words}", said[0]), said[0]
        assert agent.stop() == 0
        agent.until_said("status", "stopped")
        said += [agent.log(), *(f"{one.topic} {one.payload.decode()}" for one in agent.heard)]
        files = [path for path in agent.folder.rglob("*") if path.is_file() and path != agent.config]
        shown = "\n".join(said).encode() + b"\n".join(path.read_bytes() for path in files)
        assert b"cam-4" in shown
        assert [secret for secret in SECRETS if secret.encode() in shown] == []
