"""The outbox's benchmark, with few messages."""

from pathlib import Path

import pytest

from agent.bench import outbox
from agent.bench.options import Options


def test_its_figures_are_of_messages_that_were_kept_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_STEADY_S", 2.0)
    figures = outbox.run(Options(tmp_path, quick=True))
    assert figures["kept_per_s"] > 0
    assert figures["replayed_per_s"] > 0
    assert set(figures["live_added_ms"]) == {"p50", "p99"}
    assert (figures["lost"], figures["repeated"]) == (None, None)
