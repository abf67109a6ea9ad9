"""Files of one demo run: configuration, catalog and pictures."""

import hashlib
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec
import tomlkit

import agent
from agent.demo.assets import Assets
from agent.messages.errors import MistakeError

DEVICE: Final = "demo"
BELT: Final = "line-1"
WALKWAY: Final = "line-2"
BELT_STREAM: Final = "belt"
PHOTOS_STREAM: Final = "walk-photos"
CLIP_STREAM: Final = "walk-clip"
BELT_FPS: Final = 10
_WALKWAY_FPS: Final = 1
"""Low, because a YOLOv8s at 640 takes two small cores without AMX 0.2 s, and the belt needs them too."""
UNKNOWN: Final = "pallet-9"
"""A product that the configuration lacks."""
PRODUCTS: Final = {
    "bottle-500": "cap-check",
    "can-330": "ring-check",
    "tray-12": "seal-check",
    "jar-250": "fill-check",
    "tube-75": "lay-check",
    "bottle-500-fine": "cap-check:s",
}
"""Products that the belt's PLC sends, with the model that inspects each."""
FINER: Final = {"bottle-500-fine": "bottle-500"}
"""Products with the same parts on the belt as another one, inspected by a larger variant."""
PEOPLE: Final = {1080: 4, 720: 2}
"""Number of people in each photograph, by its height (bus.jpg, zidane.jpg)."""

_PROJECT: Final = Path(agent.__file__).resolve().parents[1]
_PERSON_CONFIDENCE: Final = 0.25
_BUDGET: Final = "500MiB"
STATE: Final = "state"
"""Name of the state folder."""


class _DirectUrl(msgspec.Struct):
    url: str = ""


@dataclass(frozen=True)
class Files:
    """Paths of one run's files."""

    config: Path
    models: Path
    cache: Path


def write(folder: Path, assets: Assets, broker_port: int, camera_url: str, web_bind: str = "") -> Files:
    """Write the plant's files into `folder`; without `web_bind` there is no console.

    Raises MistakeError where the demo's models are missing.
    """
    pictures = folder / "photos"
    pictures.mkdir()
    for picture in (assets.bus, assets.zidane):
        shutil.copy(picture, pictures)
    models = folder / "models.toml"
    models.write_text(tomlkit.dumps(_catalog(assets)), encoding="utf-8")
    config = folder / "changeover.toml"
    content = {**_config(folder, assets, broker_port, camera_url), "web": {"bind": web_bind, "gateway": False}}
    config.write_text(tomlkit.dumps(content), encoding="utf-8")
    return Files(config, models, folder / STATE / "cache")


def demo_models() -> Path:
    """Return the catalog of the demo's models, which lie in the checkout and not in the wheel (decision 97)."""
    places = [folder / "config" / "demo" / "models.toml" for folder in (_PROJECT, *_installed_from(), Path.cwd())]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise MistakeError(f"the demo's models are not installed: run it in a checkout, where {places[-1]} would be")
    return file


def _installed_from() -> list[Path]:
    """Return the folder that pip installed this package from (direct_url.json, PEP 610); empty for a wheel."""
    try:
        noted = distribution("changeover").read_text("direct_url.json")
        url = urlsplit(msgspec.json.decode(noted or "{}", type=_DirectUrl).url)
    except (PackageNotFoundError, msgspec.DecodeError, ValueError):
        return []
    return [Path(unquote(url.path))] if url.scheme == "file" else []


def _catalog(assets: Assets) -> dict[str, object]:
    source = demo_models()
    entries = tomlkit.parse(source.read_text(encoding="utf-8")).unwrap()["model"]
    for entry in entries:
        for key in ("file", "golden"):
            if key in entry:
                entry[key] = str(source.parent / entry[key])
    fall = {
        "name": "fall-check",
        "variant": "s",
        "version": "1",
        "file": str(assets.fall_onnx),
        "sha256": hashlib.sha256(assets.fall_onnx.read_bytes()).hexdigest(),
        "confidence": _PERSON_CONFIDENCE,
    }
    return {"model": [*entries, fall]}


def _config(folder: Path, assets: Assets, broker_port: int, camera_url: str) -> dict[str, object]:
    belt = {"id": BELT_STREAM, "line": BELT, "source": camera_url, "fps": BELT_FPS}
    photos = {"id": PHOTOS_STREAM, "line": WALKWAY, "source": str(folder / "photos"), "fps": _WALKWAY_FPS, "loop": True}
    clip = {"id": CLIP_STREAM, "line": WALKWAY, "source": str(assets.clip), "fps": _WALKWAY_FPS, "loop": True}
    return {
        "device": {"id": DEVICE, "state_dir": str(folder / STATE), "memory_budget": _BUDGET},
        "mqtt": {"url": f"mqtt://127.0.0.1:{broker_port}"},
        "catalog": {"file": "models.toml", "store_dir": str(folder / "store")},
        "http": {"bind": "127.0.0.1:0"},
        "stream": [belt, photos, clip],
        "line": {
            BELT: {"default": "cap-check", "variant": "n", "products": PRODUCTS},
            WALKWAY: {"default": "fall-check", "variant": "s", "products": {"open": "fall-check"}},
        },
    }
