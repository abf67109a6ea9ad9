"""Detections of an artifact beside its checkpoint's, with the real ultralytics and the demo's models."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.bench.pipeline import accuracy
from agent.bench.reference.competitor import competitor
from agent.demo import assets
from agent.demo.plant_files import PRODUCTS
from agent.messages.errors import TransientError

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]


def pair(products: Mapping[str, str]) -> dict[str, str]:
    """Return the demo's two variants of one model: each further one costs an export and a compilation."""
    return {product: model for product, model in products.items() if model.startswith("cap-check")}


@pytest.mark.parametrize(
    "products", [pytest.param(pair(PRODUCTS), id="pair"), pytest.param(PRODUCTS, id="all", marks=pytest.mark.soak)]
)
def test_artifacts_are_scored_beside_their_checkpoints(tmp_path: Path, products: Mapping[str, str]) -> None:
    folder = tmp_path / "accuracy"
    found = accuracy.measure(assets.fetch(), folder, 6, products)
    boxed = [word for word in products.values() if word not in {"fill-check", "lay-check"}]
    assert len(found["rendered"]) == len(boxed)
    assert {"cap-check:n@1", "cap-check:s@1"} <= found["rendered"].keys()
    for scores in found["rendered"].values():
        assert 0.5 < scores["checkpoint"] <= 1, "weights that were restored find what the shipped file finds"
        assert scores["artifact"] == pytest.approx(scores["checkpoint"], abs=0.05)
        assert scores["share"] >= 0.99
    assert found["real"]["boxes"] > 6, "six people in the photographs, and some in the clip"
    assert found["real"]["share"] >= 0.99

    arguments = (tmp_path / "log", folder / "models.toml", folder / "state" / "cache")
    with competitor("agent.bench.reference.accuracy", *arguments) as judge:
        of_another = judge.ask("score", "cap-check:n@1", "tray-12", 6)
    assert of_another["artifact"] < 0.2, "what is not there is no hit"

    with (
        competitor("agent.bench.reference.accuracy", *arguments[:2], tmp_path / "nothing") as judge,
        pytest.raises(TransientError, match=r"is not prepared"),
    ):
        judge.ask("score", "cap-check:n@1", "bottle-500", 1)
