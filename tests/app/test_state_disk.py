"""The agent and the disk that its state is on: what it writes there, and when it takes nothing."""

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running_agent import RunningAgent

COMMANDS = 1000
FLASH_BYTES = 8 << 20


def finals(agent: RunningAgent, since: int = 0) -> dict[str, set[bytes]]:
    """Return the different final answers of each id, as they were on the wire."""
    found: dict[str, set[bytes]] = {}
    for one in agent.on("ack", since):
        ack = json.loads(one.payload)
        if ack["id"] is not None and ack["result"] != "accepted":
            found.setdefault(ack["id"], set()).add(one.payload)
    return found


def written_bytes(agent: RunningAgent) -> int:
    text = Path(f"/proc/{agent.process.pid}/io").read_text()
    return int(text.partition("\nwrite_bytes: ")[2].split()[0])


def test_a_thousand_commands_with_ids_write_little_and_no_answer_is_lost(running: RunningAgent) -> None:
    """Commands of all kinds, a kill in their midst, and all of them once more: each id has one answer."""
    sent = [
        ("line/line-1/product/set", {"value": "crate" if number % 2 else "bottle-500", "id": f"c{number}"})
        if number % 3
        else ("line/line-2/product/set", {"value": "none" if number % 2 else "open", "id": f"c{number}"})
        for number in range(COMMANDS)
    ]
    before = written_bytes(running)
    flash_bytes = 0
    for number, (topic, command) in enumerate(sent):
        running.send(topic, json.dumps(command))
        if number % 10 == 0:
            running.until(lambda: f"c{number}" in finals(running))  # noqa: B023 - called at once
        if number == COMMANDS // 2:
            flash_bytes += written_bytes(running) - before
            running.kill()
            mark = len(running.heard)
            running.start()
            running.until_said("status", "online", mark)
            before = written_bytes(running)
    flash_bytes += written_bytes(running) - before
    print(f"{flash_bytes / COMMANDS:.0f} bytes of flash a command")  # noqa: T201 - for who asks with -s
    assert flash_bytes <= FLASH_BYTES, flash_bytes / COMMANDS
    running.kill()
    mark = len(running.heard)
    running.start()
    running.until_said("status", "online", mark)
    for number, (topic, command) in enumerate(sent, 1):
        running.send(topic, json.dumps(command))
        if number % 10 == 0:
            # a broker queues so much for who does not listen, and no more
            running.until(lambda: {f"c{one}" for one in range(number - 10, number)} <= finals(running, mark).keys())  # noqa: B023 - called at once
    assert len(finals(running)) == COMMANDS
    assert [id_ for id_, answers in finals(running).items() if len(answers) != 1] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB where the state is to be."""
    folder = tmp_path / "state"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    return path


def alerts(agent: RunningAgent) -> dict[str, str | None]:
    return {one["code"]: one["line"] for one in json.loads(agent.value("alerts") or "[]")}


def test_a_choice_that_a_full_disk_did_not_take_is_said_and_not_gone_back_from(
    small_disk: Path, make_agent: Callable[..., RunningAgent]
) -> None:
    agent = make_agent(_small_outbox)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.ready("open", "line-2")
    filler = fill(small_disk)
    product = "17"
    for number in range(60):
        # what the log's last block has left takes a few
        product = "crate" if number % 2 else "17"
        agent.ready(product)
        if "state_disk" in alerts(agent):
            break
    agent.until(lambda: "state_disk" in alerts(agent))
    # because what did not fit may have been the report of a changeover, whose choice was written before it
    fill(small_disk)
    product = "crate" if product == "17" else "17"
    agent.ready(product)
    agent.kill()
    fill(small_disk)
    mark = len(agent.heard)
    agent.start()
    agent.until(lambda: alerts(agent).get("choice_lost") == "line-1")
    agent.until_said("line/line-2/ready", "open", mark)
    agent.until_said("line/line-1/phase", "idle", mark)
    assert {one.payload for one in agent.on("line/line-1/ready", mark)} == {b"0"}
    filler.unlink()
    agent.ready(product)
    agent.until(lambda: not {"choice_lost", "state_disk"} & alerts(agent).keys())
    agent.kill()
    mark = len(agent.heard)
    agent.start()
    agent.until_said("line/line-1/ready", product, mark)


def _small_outbox(settings: dict[str, Any]) -> None:
    settings["outbox"] = {"detections": "never"}
