"""Follows aliases of a registry: fetches what they mean as versions of the catalog, and writes results as tags."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent.messages.errors import ModelError
from agent.messages.references import ModelReference, natural_key
from agent.messages.short_lived.supply import AliasesFound, FollowAliases, Followed, SupplySetup
from agent.settings.renames import OF_CATALOG, understood
from agent.settings.toml_file import read_toml
from agent.supply.bounds.job import Job
from agent.supply.fetching import Fetcher
from agent.supply.sources import mlflow
from agent.supply.sources.hosts import Hosts
from agent.supply.sources.web import Web
from agent.supply.transfer.pace import Pace
from agent.supply.verifying import verifier_of

_LOG: Final = logging.getLogger(__name__)
SHA256_TAG: Final = "sha256"
VARIANT_TAG: Final = "variant"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TAKEN_OVER: Final = ("backend", "imgsz", "confidence", "iou", "classes", "rank", "layout", "task", "preprocess")
"""Keys of the catalog's newest entry of the same model and variant that hold for a version that a registry adds."""


def follow(setup: SupplySetup, order: FollowAliases, job: Job) -> AliasesFound:
    """Write the tags, look the aliases up, and fetch what they mean and the device does not know.

    Raises as `Fetcher.fetch`; ModelError also for a version without the tag `sha256`, which decides what is fetched.
    """
    job.open()
    found: list[tuple[str, str, str]] = []
    wanted: dict[str, bytes] = {}
    with Web(Hosts(setup.hosts), stall_s=Pace().stall_s) as web:
        for one in order.aliases:
            _write_tags(one, web)
            meant = mlflow.aliased(one.alias, web)
            if meant is None:
                continue
            reference = _reference(one, meant)
            found.append((one.alias, one.variant, str(reference)))
            if str(reference) not in order.known:
                wanted[str(reference)] = _entry(setup, one, meant, reference)
    fetched = Fetcher(setup, verifier_of(setup)).fetch(tuple(wanted.values()), "", job) if wanted else ()
    return AliasesFound(order.job, tuple(found), fetched)


def _write_tags(one: Followed, web: Web) -> None:
    """Write tags, where the credentials allow that; raises SourceError where a later attempt may succeed."""
    for tag in one.tags:
        try:
            mlflow.write_tag(one.alias, tag, web)
        except ModelError as error:  # noqa: PERF203 - there are as many tags as lines, and each may be refused
            _LOG.warning("event=tag_not_written alias=%r key=%r detail=%r", one.alias, tag[1], str(error))


def _reference(one: Followed, meant: mlflow.AliasedVersion) -> ModelReference:
    """Return the full reference of a registry's version in the catalog. Raises ModelError where it can have none."""
    variant = meant.tags.get(VARIANT_TAG, one.variant)
    reference = ModelReference.parse(f"{meant.model}:{variant}@{meant.version}")
    if reference is None:
        what = f"found {meant.model!r}, variant {variant!r}, expected names as models.toml takes them"
        raise ModelError("not_understood", f"{one.alias}: {what}")
    return reference


def _entry(setup: SupplySetup, one: Followed, meant: mlflow.AliasedVersion, reference: ModelReference) -> bytes:
    sha256 = meant.tags.get(SHA256_TAG, "").lower()
    if not _SHA256.fullmatch(sha256):
        cure = f"set the tag {SHA256_TAG} of version {meant.version} to that of its model file"
        raise ModelError("hash_mismatch", f"{one.alias}: found no sha256 to compare with: {cure}")
    entry = {"name": reference.name, "variant": reference.variant, "version": reference.version}
    return json.dumps(_like(setup, reference) | entry | {"file": meant.reference(one.alias), "sha256": sha256}).encode()


def _like(setup: SupplySetup, reference: ModelReference) -> dict[str, Any]:
    """Return what the catalog says of the newest version of the same model and variant, but for its files."""
    rows = [row for row in _rows(Path(setup.catalog_file)) if _is_of(row, reference)]
    newest = max(rows, key=lambda row: natural_key(str(row.get("version", ""))), default={})
    return {key: newest[key] for key in _TAKEN_OVER if key in newest}


def _rows(catalog: Path) -> Iterator[dict[str, Any]]:
    if catalog.exists():
        raw, _, _ = understood(read_toml(catalog), OF_CATALOG)
        yield from (row for row in raw.get("model", []) if isinstance(row, dict))


def _is_of(row: dict[str, Any], reference: ModelReference) -> bool:
    return (row.get("name"), row.get("variant")) == (reference.name, reference.variant)
