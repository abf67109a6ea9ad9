"""What holds for all tests: a real broker, and that those marked `torch` are left out where torch is not installed."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.brokers import Mosquitto

# No test may depend on how fast this machine is today.
settings.register_profile("changeover", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("changeover")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("torch") is not None:
        return
    left_out = [item for item in items if item.get_closest_marker("torch")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
