"""Files of one measurement: configuration, catalog and a folder of pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tomlkit

from agent.bench.plant.models import BenchModel, Models
from agent.bench.plant.pictures import write_pictures

DEVICE: Final = "bench"
_ROOT: Final = "changeover/v1"
BASE: Final = f"{_ROOT}/{DEVICE}"
_TIMEOUT_S: Final = 150  # beyond what a load takes where a busy machine leaves it no time


@dataclass(frozen=True)
class Station:
    """One line `line-{id}` with stream `cam-{id}`, or with several `cam-{id}-1`, `cam-{id}-2`."""

    id: str
    fps: float
    """0: as fast as the worker takes frames."""
    default: str
    """Name of the line's default model."""
    stalls: bool = True
    """Report a stream without frames as stalled; False for one that rarely gets a frame."""
    cameras: int = 1
    """Number of streams."""

    @property
    def line(self) -> str:
        """The line's id."""
        return f"line-{self.id}"

    @property
    def stream(self) -> str:
        """The stream's id where there is one; else the prefix of all ids."""
        return f"cam-{self.id}"

    @property
    def streams(self) -> tuple[str, ...]:
        """Ids of all streams."""
        return (self.stream,) if self.cameras == 1 else tuple(f"{self.stream}-{n + 1}" for n in range(self.cameras))


@dataclass(frozen=True)
class Plant:
    """Settings of the agent in one measurement."""

    folder: Path
    """Keeps the agent's state from run to run."""
    models: Models
    stations: tuple[Station, ...]
    budget: str
    """`memory_budget` of the configuration."""
    http_port: int = 0
    """Port of /metrics; 0: none."""
    preload: bool = False
    """Likely models are loaded in idle time, which most measurements would not expect."""
    web_port: int = 0
    """Port of the gateway; 0: none."""
    web_token: Path | None = None
    """File of its only client's token."""
    names_versions: bool = True
    """Products name a version of their model; False: they take the newest one."""

    @property
    def cache_dir(self) -> Path:
        """Folder of the agent's prepared artifacts."""
        return self.folder / "state" / "cache"

    def write(self, port: int) -> Path:
        """Write all files for an agent with a broker on `port`; return the configuration's path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        pictures = self.folder / "pictures"
        if not pictures.exists():
            write_pictures(pictures, self.models.imgsz, self.models[self.stations[0].default].task)
        catalog = {"model": [_entry(one) for one in self.models.by_name.values()]}
        (self.folder / "models.toml").write_text(tomlkit.dumps(catalog), encoding="utf-8")
        config = self.folder / "changeover.toml"
        config.write_text(tomlkit.dumps(self._settings(port, pictures)), encoding="utf-8")
        return config

    def _settings(self, port: int, pictures: Path) -> dict[str, object]:
        products = {name: self._named(one) for name, one in self.models.by_name.items()}
        return {
            "device": {
                "id": DEVICE,
                "state_dir": str(self.folder / "state"),
                "memory_budget": self.budget,
                "preload": self.preload,
            },
            "mqtt": {"url": f"mqtt://127.0.0.1:{port}", "root": _ROOT},
            "catalog": {"file": "models.toml", "store_dir": str(self.folder / "store")},
            "web": self._web(),
            "http": {"bind": f"127.0.0.1:{self.http_port}" if self.http_port else ""},
            "stream": [_stream(id_, one, pictures) for one in self.stations for id_ in one.streams],
            "line": {
                one.line: {
                    "default": self._named(self.models[one.default]),
                    "changeover_timeout_s": _TIMEOUT_S,
                    "products": dict(products),
                }
                for one in self.stations
            },
        }

    def _web(self) -> dict[str, object]:
        if not self.web_port:
            return {}
        client = {"name": "bench", "token_file": str(self.web_token), "requests_per_s": 100_000, "max_inflight": 8}
        return {"bind": f"127.0.0.1:{self.web_port}", "console": False, "client": [client]}

    def _named(self, model: BenchModel) -> str:
        return model.reference if self.names_versions else model.reference.rpartition("@")[0]


def _entry(model: BenchModel) -> dict[str, object]:
    """Return a model's catalog entry, without `rank` because the variant is a size."""
    name = f"part-{model.name}"
    return {
        "name": name,
        "variant": model.size,
        "version": model.number,
        "file": str(model.onnx),
        "sha256": model.sha256,
    }


def _stream(id_: str, station: Station, pictures: Path) -> dict[str, object]:
    settings: dict[str, object] = {
        "id": id_,
        "line": station.line,
        "source": str(pictures),
        "fps": station.fps,
        "loop": True,
    }
    return settings if station.stalls else settings | {"stall_s": 0}
