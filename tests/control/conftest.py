"""Fixtures of control's tests."""

import pytest
from support.plant_bench import Bench


@pytest.fixture
def bench() -> Bench:
    """Give a running plant, with the start-up's actions forgotten."""
    bench = Bench()
    bench.start()
    bench.log.clear()
    return bench
