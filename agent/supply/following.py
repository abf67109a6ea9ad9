"""Follows aliases of a registry: fetches what they mean as versions of the catalog, and writes results as tags."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.messages.errors import ModelError, TransientError
from agent.messages.references import ModelReference, natural_key
from agent.messages.short_lived.supply import AliasesFound, Fault, FollowAliases, Followed, SupplySetup
from agent.models.keeping.room import NoRoomError
from agent.redact import redact
from agent.settings.renames import OF_CATALOG, understood
from agent.settings.toml_file import read_toml
from agent.supply.bounds.job import Job
from agent.supply.errors import SourceError
from agent.supply.fetching import Fetcher
from agent.supply.sources import mlflow
from agent.supply.sources.hosts import Hosts
from agent.supply.sources.web import Web
from agent.supply.transfer.pace import Pace
from agent.supply.transfer.pump import bounded
from agent.supply.verifying import verifier_of

_LOG: Final = logging.getLogger(__name__)
LOOK_S: Final = 120.0
"""Time limit of all lookups of one look together, and of all its tags; orders and the index wait meanwhile."""
SHA256_TAG: Final = "sha256"
VARIANT_TAG: Final = "variant"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TAKEN_OVER: Final = ("backend", "imgsz", "confidence", "iou", "classes", "rank", "layout", "task", "preprocess")
"""Keys of the catalog's newest entry of the same model and variant that hold for a version that a registry adds."""

_Failure = SourceError | NoRoomError | ModelError
_T = TypeVar("_T")


def follow(setup: SupplySetup, order: FollowAliases, job: Job, pace: Pace | None = None) -> AliasesFound:
    """Look the aliases up, fetch what they mean and the device does not know, and write the tags.

    An alias that fails stops no other. Raises SourceError ("timeout") where the job ends before the window opens.
    """
    job.open()
    stall_s = (pace or Pace()).stall_s
    look = _Look(order, time.monotonic() + LOOK_S)
    with Web(Hosts(setup.hosts), stall_s=stall_s) as web:
        for one in order.aliases:
            look.up(one, setup, web, stall_s)
        for reference, entry in look.wanted.items():
            look.bring(reference, partial(_fetched, setup, entry, job, pace))
        look.until_s = time.monotonic() + LOOK_S
        for one in order.aliases:
            look.tell(one, web, stall_s)
    return look.answer()


class _Look:
    """Findings of one look so far, and its failures."""

    def __init__(self, order: FollowAliases, until_s: float) -> None:
        self.until_s = until_s
        self.wanted: Final[dict[str, bytes]] = {}
        self._order: Final = order
        self._found: Final[list[tuple[str, str, str]]] = []
        self._fetched: Final[list[bytes]] = []
        self._missed: Final[list[tuple[str, str]]] = []
        self._refused: Final[list[str]] = []
        self._unwritten: Final[list[str]] = []
        self._fault: Fault | None = None

    def up(self, one: Followed, setup: SupplySetup, web: Web, stall_s: float) -> None:
        """Look one alias up."""
        try:
            meant = self._in_time(lambda: mlflow.aliased(one.alias, web), stall_s, one.alias)
            if meant is None:
                return
            reference = _reference(one, meant)
        except (SourceError, ModelError) as error:
            self._missed.append((one.alias, one.variant))
            self._note(error)
            return
        self._found.append((one.alias, one.variant, str(reference)))
        if str(reference) not in self._order.known:
            try:
                self.wanted[str(reference)] = _entry(setup, one, meant, reference)
            except ModelError as error:
                self._refuse(str(reference), error)

    def bring(self, reference: str, fetch: Callable[[], tuple[bytes, ...]]) -> None:
        """Fetch the version that an alias means."""
        try:
            self._fetched.extend(fetch())
        except (SourceError, NoRoomError, ModelError) as error:
            self._refuse(reference, error)

    def tell(self, one: Followed, web: Web, stall_s: float) -> None:
        """Write tags, where the credentials allow that."""
        for tag in one.tags:
            try:
                self._in_time(partial(mlflow.write_tag, one.alias, tag, web), stall_s, one.alias)
            except (SourceError, ModelError) as error:  # noqa: PERF203 - there are as many tags as lines
                _LOG.warning("event=tag_not_written alias=%r key=%r detail=%r", one.alias, tag[1], str(error))
                if isinstance(error, SourceError):
                    self._unwritten.append(tag[1])

    def answer(self) -> AliasesFound:
        """Return what the look has found."""
        found, entries, missed = tuple(self._found), tuple(self._fetched), tuple(self._missed)
        return AliasesFound(
            self._order.job, found, entries, missed, tuple(self._refused), tuple(self._unwritten), self._fault
        )

    def _in_time(self, call: Callable[[], _T], stall_s: float, what: str) -> _T:
        """Return what a call returns; raise SourceError where it, or all calls together, take too long."""
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise SourceError("timeout", f"{what}: not asked, since the others took {LOOK_S:g} s")
        return bounded(call, min(stall_s, left_s), what)

    def _refuse(self, reference: str, error: _Failure) -> None:
        self._refused.append(reference)
        self._note(error)

    def _note(self, error: _Failure) -> None:
        detail = redact(str(error))
        _LOG.warning("event=alias_failed reason=%s detail=%r", error.reason, detail)
        self._fault = self._fault or Fault(error.reason, detail, isinstance(error, TransientError))


def _fetched(setup: SupplySetup, entry: bytes, job: Job, pace: Pace | None) -> tuple[bytes, ...]:
    return Fetcher(setup, verifier_of(setup), pace).fetch((entry,), "", job)


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
