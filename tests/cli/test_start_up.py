"""`--help`, `--version` and completion load next to nothing: that, and not a clock, is what keeps them quick."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OURS = {
    "agent",
    "agent.cli",
    *(f"agent.cli.{name}" for name in ("canary", "index", "models", "options", "signing", "trusted", "web")),
    "agent.messages",
    "agent.messages.errors",
}
HEAVY = {"pydantic", "pydantic_settings", "msgspec", "numpy", "cv2", "openvino", "onnxruntime", "torch", "paho", "rich"}

SLOW = {"av", "psutil", "tomlkit", "prometheus_client", "yaml", "jsonpath", "scipy", "http"}

CODE = """
import json, sys
from agent.cli import main
try:
    main()
finally:
    sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


USED_BY_CHECK = {"pydantic", "pydantic_settings", "msgspec", "click"}


def test_check_loads_what_reads_settings_and_nothing_that_infers_or_connects(config: Path) -> None:
    command = [sys.executable, "-c", CODE, "check", "--config", str(config)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert answer.stdout.startswith("ok: ")
    loaded = {name.partition(".")[0] for name in json.loads(answer.stderr)}
    assert loaded & (HEAVY | SLOW) == USED_BY_CHECK & HEAVY


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["switch", "--help"], {}),
        (["watch", "--help"], {}),
        (["init", "--help"], {}),
        (["models", "add", "--help"], {}),
        (["support", "--help"], {}),
        ([], {"_CHANGEOVER_COMPLETE": "bash_source"}),
        ([], {"_CHANGEOVER_COMPLETE": "bash_complete", "COMP_WORDS": "changeover s", "COMP_CWORD": "1"}),
        ([], {"_CHANGEOVER_COMPLETE": "bash_complete", "COMP_WORDS": "changeover switch --", "COMP_CWORD": "2"}),
    ],
    ids=["help", "version", "switch", "watch", "init", "models", "support", "completion", "complete", "options"],
)
def test_what_is_answered_at_once_loads_no_library_but_click(arguments: list[str], environ: dict[str, str]) -> None:
    command = [sys.executable, "-c", CODE, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | environ)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout
    loaded = set(json.loads(answer.stderr))
    assert {name for name in loaded if name.partition(".")[0] == "agent"} == OURS
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
