"""Exit codes of a command's outcomes, by which systemd restarts or does not."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.app.embedded_broker import embedded_broker
from agent.messages.errors import NotStartedError

Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(config: Path) -> Run:
    """Run `changeover run` with a stand-in for the service, which does `body`."""

    def with_service(body: str) -> subprocess.CompletedProcess[str]:
        code = f"""
import sys, types
from agent.messages.errors import MistakeError, NotStartedError, TransientError
service = types.ModuleType("agent.app.main")
def run(settings, reread):
    print(settings.stream[0].id)
    {body}
service.run = run
sys.modules["agent.app.main"] = service
sys.argv = ["changeover", "run", "--config", {str(config)!r}]
from agent.cli import main
main()
"""
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)

    return with_service


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("return 0", 0, ""),
        ("return 3", 3, ""),
        ("raise TransientError('the broker is away')", 1, "the broker is away"),
        ("raise MistakeError('the key does not fit')", 2, "the key does not fit"),
        ("raise NotStartedError('the port is taken')", 3, "the port is taken"),
    ],
)
def test_the_exit_code_says_whether_to_try_again(run: Run, body: str, code: int, words: str) -> None:
    answer = run(body)
    assert (answer.returncode, answer.stdout) == (code, "cam-1\n")
    assert answer.stderr.strip() == words


def test_a_fault_of_our_own_is_not_dressed_up(run: Run) -> None:
    answer = run("raise RuntimeError('a bug')")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["check", "--config", "/nowhere"], ["models", "-h"]])
def test_output_that_has_no_room_is_told_in_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "agent", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert answer.returncode == 1
    assert answer.stderr == "[Errno 28] No space left on device\n"


def test_a_trial_whose_port_is_taken_cannot_start() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NotStartedError, match="embedded broker"),
        embedded_broker(taken.getsockname()[1]),
    ):
        pytest.fail("it started")


def test_a_service_without_descriptors_cannot_start(config: Path) -> None:
    command = [
        "sh",
        "-c",
        'ulimit -n 6; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "agent",
        "run",
        "--config",
        str(config),
    ]
    environment = {**os.environ, "CHANGEOVER_MQTT__URL": "mqtt://127.0.0.1:9"}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert answer.returncode == 3, answer.stderr
    assert "cannot start" in answer.stderr
