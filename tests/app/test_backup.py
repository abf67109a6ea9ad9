"""The two lines of docs/operations.md that back a device up and restore it, as they stand there."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def lines_of_the_page() -> tuple[str, str]:
    section = PAGE.read_text(encoding="utf-8").partition("## Back up and restore")[2].partition("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    backup, restore = block[1].splitlines()
    return backup, restore


def sh(line: str, root: Path, *, may_be: tuple[int, ...] = (0,)) -> None:
    """Run a line of the page, in which the root of the system is another folder."""
    programs = root.parent / "bin"
    programs.mkdir(exist_ok=True)
    for name, body in (("sudo", 'exec "$@"'), ("systemctl", f'echo "$*" >>{root.parent}/asked')):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    there = line.replace("-C / ", f"-C {root} ").replace("/root/", f"{root.parent}/")
    assert there != line
    answer = subprocess.run(
        ["bash", "-c", there], check=False, capture_output=True, text=True, env={"PATH": f"{programs}:/usr/bin:/bin"}
    )
    assert answer.returncode in may_be, answer.stderr


def test_a_device_is_backed_up_while_it_runs_and_comes_back_with_its_choices(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    backup, restore = lines_of_the_page()
    root = tmp_path / "system"
    etc, data = root / "etc" / "changeover", root / "var" / "lib" / "changeover"
    etc.mkdir(parents=True)
    data.mkdir(parents=True)

    def placed(settings: dict[str, Any]) -> None:
        settings["device"]["state_dir"] = str(data)
        settings["catalog"]["store_dir"] = str(data / "models")

    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        agent = RunningAgent(etc, mosquitto.url, peer, placed)
        try:
            agent.start()
            agent.until_said("status", "online")
            agent.ready("17")
            agent.until(lambda: any(data.glob("control*")))
            # 1 is tar's word for a file that was written meanwhile
            sh(backup, root, may_be=(0, 1))
            assert agent.stop() == 0
            shutil.rmtree(data)
            shutil.rmtree(etc)
            sh(restore, root)
            assert (tmp_path / "asked").read_text().split() == ["stop", "changeover", "start", "changeover"]
            assert not (data / "cache").exists()
            assert not list(data.glob("outbox*"))
            mark = len(agent.heard)
            agent.start()
            agent.until_said("line/line-1/ready", "17", mark)
        finally:
            agent.kill()
    assert (tmp_path / "changeover.tar.gz").stat().st_mode & 0o077 == 0
