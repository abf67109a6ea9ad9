"""Fixtures and rules of all tests: a broker, tiers, and torch left out where it is missing."""

import importlib.util
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import HealthCheck, settings
from support.brokers import Mosquitto
from tiers import ORDER, tier_of

# No test may depend on how fast this machine is today.
settings.register_profile("changeover", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("changeover")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Read no file of another tier where one tier is asked for (`-m unit`), because those import whole runtimes."""
    asked = config.getoption("markexpr")
    return True if asked in ORDER and collection_path.suffix == ".py" and tier_of(collection_path) != asked else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item.path))
    items.sort(key=lambda item: ORDER.index(tier_of(item.path)))
    if importlib.util.find_spec("torch") is not None:
        return
    left_out = [item for item in items if item.get_closest_marker("torch")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class _Unit:
    """Refuses processes and ports while a test of the tier `unit` runs."""

    started: ClassVar[list[str]] = []
    runs = False

    @classmethod
    def audit(cls, event: str, arguments: tuple[Any, ...]) -> None:
        if not cls.runs or event not in STARTS:
            return
        if event == "socket.bind" and arguments[0].family not in {socket.AF_INET, socket.AF_INET6}:
            return
        cls.started.append(event)  # because what is raised here may be caught by the code under test
        raise AssertionError(f"a test of the tier `unit` may not do this: {event}")


STARTS: Final = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "socket.bind"}
"""Audit events of Python: each is a process more, or a port."""
sys.addaudithook(_Unit.audit)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin before the fixtures of a module and a session do."""
    _Unit.started.clear()
    _Unit.runs = tier_of(item.path) == "unit"


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    _Unit.runs = False


@pytest.fixture(autouse=True)
def _unit_starts_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold that the tier `unit` starts no process and opens no port, so that it stays quick."""
    yield
    assert not _Unit.started, f"take {request.path.name} out of UNIT in tests/tiers.py: it does {_Unit.started}"


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """`make_mosquitto(persistence=False, more=())` starts a broker; `more` are lines of its configuration."""
    made: list[Mosquitto] = []

    def make(*, persistence: bool = False, more: tuple[str, ...] = ()) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(made)}"
        folder.mkdir()
        broker = Mosquitto(folder, persistence=persistence, more=more)
        made.append(broker)
        broker.start()
        return broker

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One broker, open to all, that keeps nothing on disk."""
    return make_mosquitto()
