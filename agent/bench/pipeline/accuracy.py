"""Loss of accuracy by preparation: artifacts against their float32 checkpoints."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomlkit

from agent.bench.plant.children import say
from agent.bench.plant.warm_up import prepare
from agent.bench.reference.competitor import Competitor, competitor
from agent.demo.assets import Assets
from agent.demo.plant_files import FINER, PRODUCTS, demo_models
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog

_PEOPLE: Final = "fall-check:s@1"
_PERSON_CONFIDENCE: Final = 0.25
_USUAL: Final = "n"  # the demo line's variant


@dataclass(frozen=True)
class _Shipped:
    """A demo model, its restored checkpoint, and a product that it inspects."""

    reference: str
    product: str
    checkpoint: Path
    imgsz: int | None


def measure(assets: Assets, folder: Path, frames: int, products: Mapping[str, str] = PRODUCTS) -> dict[str, Any]:
    """Return mAP50-95 of the models of `products` on `frames` rendered frames each, and matched boxes on real pictures.

    The demo ships float16 ONNX files; float32 checkpoints that were trained on from them are the reference.
    """
    folder.mkdir(parents=True)
    config, catalog, cache_dir = folder / "changeover.toml", folder / "models.toml", folder / "state" / "cache"
    with competitor("agent.bench.reference.accuracy", folder / "judge.log", catalog, cache_dir) as judge:
        shipped = list(_restore(judge, folder, products))
        entries = [_entry(one.reference, one.checkpoint) | {"imgsz": one.imgsz} for one in shipped]
        people = _entry(_PEOPLE, assets.fall_pt) | {"confidence": _PERSON_CONFIDENCE}
        catalog.write_text(tomlkit.dumps({"model": [*entries, people]}), encoding="utf-8")
        config.write_text(tomlkit.dumps(_settings(folder)), encoding="utf-8")
        say("accuracy: preparing what is compared")
        prepare(config, [*(one.reference for one in shipped), _PEOPLE])
        say("accuracy: comparing")
        rendered = {one.reference: judge.ask("score", one.reference, one.product, frames) for one in shipped}
        real = judge.ask("match", _PEOPLE, assets.bus, assets.zidane, assets.clip)
    losses = {name: (one["checkpoint"] - one["artifact"]) * 100 for name, one in rendered.items()}
    return {"points_lost_most": max(losses.values()), "points_lost": losses, "rendered": rendered, "real": real}


def _restore(judge: Competitor, folder: Path, products: Mapping[str, str]) -> Iterator[_Shipped]:
    """Restore a checkpoint of the demo model of each product whose boxes are inspected."""
    catalog = Catalog.load(demo_models())
    for product, word in products.items():
        reference = ModelReference.parse(word)
        version = catalog.find(reference, _USUAL) if reference is not None else None
        assert version is not None, f"{word} is shipped"
        if version.task not in {"", "detect"}:
            continue
        checkpoint = folder / f"{version.name}-{version.variant}.pt"
        finer = FINER.get(product, product)
        judge.ask("restore", version.path, checkpoint, finer, version.variant, *version.classes)
        yield _Shipped(version.reference, finer, checkpoint, version.imgsz)


def _entry(reference: str, checkpoint: Path) -> dict[str, object]:
    parsed = ModelReference.parse(reference)
    assert parsed is not None, "it was written here"
    named: dict[str, object] = {"name": parsed.name, "variant": parsed.variant, "version": parsed.version}
    return named | {"file": str(checkpoint), "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}


def _settings(folder: Path) -> dict[str, object]:
    return {
        "device": {"state_dir": str(folder / "state")},
        "catalog": {"file": "models.toml", "store_dir": str(folder / "store")},
        "stream": [{"id": "cam-1", "line": "line-1", "source": str(folder)}],
        "line": {"line-1": {"default": _PEOPLE}},
    }
