"""Commands that change the store at once, or are killed: no release is overwritten, no entry is lost."""

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.tiny_models import write_tiny_model

from agent.files import file_sha256, locked
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog
from agent.models.file_faults import verify
from agent.models.keeping.copying import Release
from agent.models.store import Store

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
COMMANDS = """
import sys
from pathlib import Path
from agent.messages.errors import MistakeError
from agent.messages.references import ModelReference
from agent.models.keeping.copying import Release
from agent.models.store import Store
store = Store(Path(sys.argv[1]), Path(sys.argv[2]))
print("here", flush=True)
for line in sys.stdin:
    word, reference, *source = line.split()
    try:
        if word == "add":
            store.add(Release(ModelReference.parse(reference)), Path(source[0]))
        else:
            store.remove(ModelReference.parse(reference))
        print("done", flush=True)
    except MistakeError as error:
        print(error, flush=True)
"""
Process = subprocess.Popen[str]


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], Process]:
    def start() -> Process:
        command = [sys.executable, "-c", COMMANDS, str(tmp_path / "models.toml"), str(tmp_path / "store")]
        process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        return process

    return start


def send(process: Process, *words: object) -> None:
    assert process.stdin is not None
    process.stdin.write(" ".join(map(str, words)) + "\n")
    process.stdin.flush()


def answers(processes: Sequence[Process]) -> list[list[str]]:
    return [process.communicate(timeout=DEADLINE_S)[0].splitlines() for process in processes]


def entered(folder: Path) -> list[str]:
    """Return the references of the catalog, all of whose files are those that were added."""
    versions = Catalog.load(folder / "models.toml").versions
    for version in versions:
        verify(version)
    return sorted(version.reference for version in versions)


def write_source(folder: Path, number: int) -> Path:
    return write_tiny_model(folder / f"source-{number}.onnx", boxes=[(8, 16, 40 + number, 48, 0.5, 0)])


def test_one_release_is_added_once_and_others_all(start: Callable[[], Process], tmp_path: Path) -> None:
    processes = [start() for _ in range(4)]
    sources = [write_source(tmp_path, number) for number in range(4)]
    for number, process in enumerate(processes):
        for at in range(5):
            send(process, "add", f"own:n@{number}-{at}", sources[number])
            send(process, "add", f"same:n@{at}", sources[number])
    told = [line for lines in answers(processes) for line in lines]
    assert entered(tmp_path) == sorted(
        [f"own:n@{number}-{at}" for number in range(4) for at in range(5)] + [f"same:n@{at}" for at in range(5)]
    )
    assert told.count("done") == 25
    assert all("releases are immutable" in line for line in told if line != "done")


def test_files_that_another_release_shares_outlive_its_removal(start: Callable[[], Process], tmp_path: Path) -> None:
    source = write_source(tmp_path, 1)
    processes = [start() for _ in range(2)]
    for at in range(15):
        send(processes[0], "add", f"kept:n@{at}", source)
        send(processes[1], "add", f"gone:n@{at}", source)
        send(processes[1], "remove", f"gone:n@{at}")
        send(processes[0], "remove", f"kept:n@{at}")
    send(processes[0], "add", "kept:n@last", source)
    told = [line for lines in answers(processes) for line in lines]
    assert told == ["done"] * len(told)
    assert entered(tmp_path) == ["kept:n@last"]


def test_a_kill_at_any_moment_leaves_what_was_done(start: Callable[[], Process], tmp_path: Path) -> None:
    chance = random.Random(1)
    source = write_source(tmp_path, 1)
    done = []
    for life in range(6):
        process = start()
        for at in range(50):
            send(process, "add", f"cap:n@{life}-{at}", source)
        assert process.stdout is not None
        for at in range(chance.randrange(1, 8)):
            assert process.stdout.readline() == "done\n"
            done.append(f"cap:n@{life}-{at}")
        process.kill()
        process.communicate(timeout=DEADLINE_S)
        assert set(done) <= set(entered(tmp_path))


def test_a_command_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.models.store._PATIENCE_S", 0.1)
    store = Store(tmp_path / "models.toml", tmp_path / "store")
    source = write_source(tmp_path, 1)
    reference = ModelReference("cap", "n", "1")
    with locked(tmp_path / "models.toml.lock", 0.0), pytest.raises(MistakeError, match="another command"):
        store.add(Release(reference), source)
    assert store.add(Release(reference), source).sha256 == file_sha256(source)
