import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import write_tiny_model

from agent.bench.plant.labels import labels_of
from agent.bench.plant.models import BenchModel, Models

Make = Callable[..., Models]
SETTLING = ("pipeline.stages", "pipeline.control_cost", "recovery", "swap.resident_swaps")


@pytest.fixture
def settles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure before everything has settled, because a test looks at no figure's size."""
    for module in SETTLING:
        monkeypatch.setattr(f"agent.bench.{module}._SETTLE_S", 0.5)


@pytest.fixture
def tiny_models(tmp_path: Path) -> Make:
    """`tiny_models("n", "s")` writes models that betray themselves; `liar="s"`: that one gives the labels of "n"."""

    def make(*names: str, liar: str = "") -> Models:
        folder = tmp_path / "models"
        folder.mkdir()
        made = {}
        for name in names:
            labels = labels_of("n" if name == liar else name)
            path = write_tiny_model(folder / f"{name}.onnx", names=labels)
            made[name] = BenchModel(name, path, hashlib.sha256(path.read_bytes()).hexdigest())
        return Models(made, None, 64)

    return make
