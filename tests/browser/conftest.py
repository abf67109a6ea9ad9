"""Debian's Chromium by playwright, and plants whose consoles it looks at."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.console_plant import AXE, CHROMIUM, ConsolePlant, Looking
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests; each page has a profile of its own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="run scripts/browser first")
    if not AXE.exists() or not Path(CHROMIUM).exists():
        pytest.skip("run scripts/browser first")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def _nothing(_: Any) -> None:  # noqa: ANN401 - of both kinds
    return


@contextmanager
def _plant(
    folder: Path,
    changes: Callable[[dict[str, Any]], None] = _nothing,
    prepare: Callable[[RunningAgent], None] = _nothing,
) -> Iterator[ConsolePlant]:
    broker = Mosquitto(folder, persistence=False, more=())
    broker.start()
    try:
        with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
            plant = ConsolePlant(folder / "agent", broker, peer, changes)
            prepare(plant.agent)
            plant.start()
            yield plant
            plant.agent.kill()
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsolePlant]:
    """One plant for a module whose tests leave it running."""
    with _plant(tmp_path_factory.mktemp("plant")) as plant:
        yield plant


@pytest.fixture
def own_plant(tmp_path: Path) -> Iterator[ConsolePlant]:
    """Give a plant that a test may harm."""
    with _plant(tmp_path) as plant:
        yield plant


@pytest.fixture
def new_plant(tmp_path: Path) -> Iterator[Callable[..., ConsolePlant]]:
    """`new_plant(changes, prepare)` starts a plant with other settings, after `prepare` has seen to its files."""
    with ExitStack() as plants:
        yield lambda *how: plants.enter_context(_plant(tmp_path, *how))


Look = Callable[..., Looking]


@pytest.fixture
def look(browser: Any) -> Iterator[Look]:  # noqa: ANN401 - of playwright
    """`look(plant, **options)` opens a page; the test fails where it reached elsewhere or complained."""
    made: list[tuple[Any, Looking]] = []

    def open_page(plant: ConsolePlant, **options: Any) -> Looking:  # noqa: ANN401 - playwright's options of a context
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options})
        looking = Looking(context, plant.url)
        made.append((context, looking))
        return looking

    yield open_page
    for context, looking in made:
        context.close()
        assert looking.foreign == []
        assert looking.complaints == []
