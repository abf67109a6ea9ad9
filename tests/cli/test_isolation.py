"""Nothing is imported from where one stands: a folder full of modules that tell who imported them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent import isolated
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

ROOT = Path(__file__).parents[2]
TRAP = "import os, sys\nopen(os.environ['TRAPPED'], 'a').write(__name__ + ' ' + ' '.join(sys.orig_argv) + chr(10))\n"
OURS = ("agent", "support")
CHILDREN = (  # of each one that control, a command or a trial starts, what it needs to get to its imports and past them
    "agent.capture.camera_process",
    "agent.capture.camera_probe",
    "agent.inference.preparing.export_process",
    "agent.inference.preparing.build_process",
    "agent.inference.process",
    "agent.inference.sandbox.probe_process",
    "agent.inference.validation.probe_process",
    "agent.mqtt.embedded",
)


def write_traps(folder: Path, names: set[str]) -> None:
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(TRAP)


def libraries() -> set[str]:
    """Name whatever is installed, but this package and what the interpreter's own start brings."""
    return {name for name in packages_distributions() if name.isidentifier() and not name.startswith("_")} | {
        *("msgspec", "click", "cv2", "numpy", "psutil", "jtop", "pynvml", "sitecustomize", "usercustomize")
    }


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder of traps, with PYTHONPATH on it as well; nothing may have been caught at the end."""
    write_traps(tmp_path / "traps", (libraries() | sys.stdlib_module_names | set(OURS)) - {"__main__"})
    caught = tmp_path / "caught"
    for name, value in {"TRAPPED": caught, "PYTHONPATH": tmp_path / "traps"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "traps" / "click.py"))
    monkeypatch.chdir(tmp_path / "traps")
    yield tmp_path
    assert not caught.exists(), caught.read_text()


def plant(folder: Path, broker: Mosquitto) -> Path:
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)

    def changes(settings: dict[str, Any]) -> None:
        assert cv2.imwrite(str(folder / "plant" / "one.png"), picture)
        settings["stream"][0]["source"] = "one.png"

    with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
        return RunningAgent(folder / "plant", broker.url, peer, changes).config


def test_the_traps_catch_who_is_not_isolated(tmp_path: Path) -> None:
    write_traps(tmp_path / "traps", {"msgspec"})
    environment = {**os.environ, "TRAPPED": str(tmp_path / "caught")}
    command = [sys.executable, "-m", "agent.inference.validation.probe_process"]
    subprocess.run(
        command,
        cwd=tmp_path / "traps",
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        timeout=240,
    )
    assert (tmp_path / "caught").read_text().startswith("msgspec ")


def test_commands_and_their_trials_import_nothing_from_there(stand: Path, mosquitto: Mosquitto) -> None:
    config = plant(stand, mosquitto)
    for words in (("check",), ("models", "prepare", "alpha:n@1"), ("doctor",)):
        command = isolated.command("agent", *words, "--config", config)
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert answer.returncode in {0, 1}, answer.stderr
        assert "alpha" in answer.stdout or words == ("check",)


@pytest.mark.parametrize("module", CHILDREN)
def test_every_child_runs_its_module_and_nothing_from_there(stand: Path, module: str) -> None:
    del stand
    given = b'{"type": "none"}\n'
    command = isolated.command(module, "-1")
    answer = subprocess.run(command, input=given, capture_output=True, check=False, timeout=240, cwd=isolated.FOLDER)
    told = answer.stdout.decode() + answer.stderr.decode()
    assert "No module named" not in told


def test_the_service_and_its_children_stand_where_nobody_else_writes(stand: Path, mosquitto: Mosquitto) -> None:
    config = plant(stand, mosquitto)
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc2")) as peer:
        peer.subscribe(["changeover/v1/box/line/line-1/model/state"])
        log = (stand / "log").open("wb")
        with log, subprocess.Popen(isolated.command("agent", "run", "--config", config), stderr=log) as agent:
            try:
                arrival = peer.receive(60)
                while arrival is None or arrival.payload != b"alpha:n@1":
                    assert agent.poll() is None, (stand / "log").read_text()
                    arrival = peer.receive(60)
                children = psutil.Process(agent.pid).children()
                assert len(children) >= 2
                assert {child.cwd() for child in children} == {isolated.FOLDER}
                assert all("-I" in child.cmdline() for child in children)
            finally:
                agent.terminate()


def test_the_installed_command_imports_nothing_of_its_caller(stand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As scripts/install leaves it: neither PYTHON* variables nor the user's own packages count."""
    command = stand / "bin" / "changeover"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom agent.__main__ import main\nmain()\n")
    command.chmod(0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = stand / "home" / ".local" / "lib" / version / "site-packages"
    own.mkdir(parents=True)
    (own / "own.pth").write_text("import os; open(os.environ['TRAPPED'], 'a').write('pth')\n")
    monkeypatch.setenv("HOME", str(stand / "home"))
    monkeypatch.setenv("PYTHONUSERBASE", str(stand / "home" / ".local"))
    monkeypatch.setenv("PYTHONHOME", str(stand / "traps"))
    script = f'set -eu; run() {{ "$@"; }}; . {ROOT}/scripts/lib/packages.sh; isolate_command {stand}'
    subprocess.run(["bash", "-c", script], check=True, timeout=240)
    answer = subprocess.run([command, "check", "--config", "no.toml"], capture_output=True, text=True, check=False)
    assert (answer.returncode, "no.toml" in answer.stdout) == (2, True), answer


@pytest.mark.parametrize("path", [None, ".", "/nowhere:"])
def test_python_m_agent_forgets_the_folder_that_it_stands_in(tmp_path: Path, path: str | None) -> None:
    """Python itself imports from there before the package's first line: those names are none of ours to refuse."""
    write_traps(tmp_path / "traps", libraries() - {"sitecustomize", "usercustomize", *OURS})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"TRAPPED": str(tmp_path / "caught")} | ({"PYTHONPATH": path} if path else {})
    command = [sys.executable, "-m", "agent", "check", "--config", "nowhere.toml"]
    answer = subprocess.run(
        command, cwd=tmp_path / "traps", env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2, answer.stderr
    assert not (tmp_path / "caught").exists()


def test_python_m_agent_forgets_it_within_pythons_own_folders_too(tmp_path: Path) -> None:
    with TemporaryDirectory(dir=sys.prefix) as own:
        write_traps(Path(own, "traps"), {"click", "msgspec"})
        environment = {**os.environ, "TRAPPED": str(tmp_path / "caught")}
        command = [sys.executable, "-m", "agent", "--version"]
        subprocess.run(command, cwd=Path(own, "traps"), env=environment, check=True, capture_output=True, timeout=240)
    assert not (tmp_path / "caught").exists()


def test_a_checkout_that_is_not_installed_gives_its_children_its_own_package(tmp_path: Path) -> None:
    """Also where another package of that name is installed; and nothing else of the checkout comes with it."""
    here = tmp_path / "checkout" / "agent"
    (here / "deep").mkdir(parents=True)
    (here / "__init__.py").write_text("")
    (here / "isolated.py").write_bytes(Path(isolated.__file__).read_bytes())
    (here / "deep" / "__init__.py").write_text("")
    code = "import agent, sys\ntry:\n import beside\nexcept ImportError:\n print(agent.__file__, sys.argv)\n"
    (here / "deep" / "child.py").write_text(code)
    (tmp_path / "checkout" / "beside.py").write_text("")
    command = [sys.executable, "-I", str(here / "isolated.py"), "agent.deep.child", "7"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert answer.stdout.split()[0] == str(here / "__init__.py")
    assert "'7'" in answer.stdout
