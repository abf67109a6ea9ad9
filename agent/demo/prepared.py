"""Preparation of the demo's models for this device, before the plant starts."""

import logging
import shutil
from pathlib import Path
from typing import Final

from agent.demo.assets import default_cache_dir
from agent.models.catalog import Catalog
from agent.models.preparation import Preparation, Request

_log: Final = logging.getLogger(__name__)


def prepare(models: Path, cache_dir: Path, kept_dir: Path | None = None) -> None:
    """Prepare every model of the catalog `models` in `kept_dir`, which later runs reuse, and copy to `cache_dir`.

    The first time takes some seconds a model. A model that cannot be prepared is served from its file.
    """
    kept_dir = kept_dir or default_cache_dir() / "demo"
    for version in Catalog.load(models).versions:
        outcome = Preparation(Request(version, "auto", str(kept_dir)), _log.debug).run()
        _log.info("event=demo_prepare model=%s result=%s detail=%r", version.reference, outcome.result, outcome.detail)
    if kept_dir.is_dir():
        shutil.copytree(kept_dir, cache_dir)
