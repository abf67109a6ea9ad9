"""Ordeals in folders of their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from chaos.ordeal import Ordeal


@pytest.fixture
def make_ordeal(tmp_path: Path) -> Iterator[Callable[..., Ordeal]]:
    """`make_ordeal(mode)` starts an agent with two streams, its broker, and the proxy between them."""
    with ExitStack() as undo:

        def make(mode: str) -> Ordeal:
            return undo.enter_context(Ordeal(tmp_path / f"ordeal-{mode}", mode))

        yield make
