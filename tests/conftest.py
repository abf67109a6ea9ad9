"""What holds for all tests: a real broker, tiers, and that those marked `torch` are left out without torch."""

import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.brokers import Mosquitto
from tiers import ORDER, tier_of

# No test may depend on how fast this machine is today.
settings.register_profile("changeover", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("changeover")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item.path))
    items.sort(key=lambda item: ORDER.index(tier_of(item.path)))  # the quickest word on a mistake comes first
    if importlib.util.find_spec("torch") is not None:
        return
    left_out = [item for item in items if item.get_closest_marker("torch")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _unit_starts_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse processes to tests of the tier `unit`, which is to stay quick."""
    if tier_of(request.path) == "unit":

        def refuse(*_args: object, **_options: object) -> None:
            raise AssertionError("a test of the tier `unit` starts a process: take its file out of tests/tiers.py")

        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


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
