"""The pool that `memory_budget` is of where `compute = "auto"` may choose a card."""

import sys
from pathlib import Path

import pytest

from agent.app.children import memory_budget
from agent.settings import load

MIB = 1 << 20
SETTINGS = """
[device]
state_dir = "state"
memory_budget = "900MiB"
[[stream]]
id = "cam-1"
line = "line-1"
source = "/dev/video0"
[line.line-1]
default = "cap-check"
"""


@pytest.mark.parametrize(
    ("program", "processor"),
    [
        ('import sys; assert sys.argv[1] == \'auto\'; print(\'{"compute":"cuda:0","reason":""}\')', "cuda:0"),
        ('print(\'{"compute":"cpu","reason":"no cuDNN"}\')', "cpu"),
        ("import os; os.abort()", "cpu"),
        ("print('hello')", "cpu"),
        ("", "cpu"),
        ("import time; time.sleep(600)", "cpu"),
    ],
    ids=["cuda", "cpu", "crash", "nonsense", "silence", "hang"],
)
def test_models_of_auto_live_where_the_driver_says_and_on_the_host_where_it_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, processor: str
) -> None:
    monkeypatch.setattr(memory_budget, "_PROBE_S", 60.0 if "sleep" not in program else 0.5)
    monkeypatch.setattr("agent.isolated.command", lambda _, *words: [sys.executable, "-c", program, *words])
    monkeypatch.setattr(memory_budget, "available_bytes", lambda: 4000 * MIB)
    monkeypatch.setattr(memory_budget, "free_device_bytes", lambda _: 10000 * MIB)
    file = tmp_path / "changeover.toml"
    file.write_text(SETTINGS)
    decided = memory_budget.decide(load(file, {}))
    assert decided.models_in_device == (processor == "cuda:0")
    assert decided.of_models == 900 * MIB
