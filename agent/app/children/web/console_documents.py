"""Documents that only the console has: the configuration, and the catalog with its sources."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.messages.references import ModelVersion
from agent.redact import redact
from agent.settings import Settings

_CATALOG_BYTES: Final = 48 * 1024
"""Bound on the list, because a document has to fit into a message."""
_MODELS: Final = 256
"""Models that are listed; further ones are left out, and `left_out` counts them."""


def of_configuration(settings: Settings, versions: Sequence[ModelVersion]) -> Iterator[tuple[str, bytes]]:
    """Yield names and JSON of the documents that tell configuration and catalog."""
    yield "console/plant", msgspec.json.encode(_plant(settings))
    models = [_model(one) for one in versions[:_MODELS]]
    while models and len(msgspec.json.encode(models)) > _CATALOG_BYTES:
        models = models[: len(models) * 3 // 4]
    catalog = {"models": models, "left_out": len(versions) - len(models)}
    yield "console/catalog", msgspec.json.encode(catalog)


def _plant(settings: Settings) -> dict[str, Any]:
    return {
        "lines": {
            id_: {"default": str(line.default), "products": {code: str(ref) for code, ref in line.products.items()}}
            for id_, line in settings.line.items()
        },
        "broker": redact(settings.mqtt.url),
        "metrics": settings.http.bind,
    }


def _model(version: ModelVersion) -> dict[str, Any]:
    size = None
    with suppress(OSError):  # a file that is not fetched yet
        size = Path(version.path).stat().st_size
    return {
        "model": version.reference,
        "source": redact(version.source or version.path),
        "sha256": version.sha256,
        "bytes": size,
        "task": version.task,
    }
