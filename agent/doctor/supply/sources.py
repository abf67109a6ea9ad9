"""Source check: reaches each source of models in a subprocess, and tells how old the signed index is."""

import datetime as dt
from collections.abc import Iterator
from typing import Final

import msgspec

from agent.app.children.supply import setup_of
from agent.doctor.finding import Finding, fail, note, ok
from agent.doctor.subprocess_runner import run_apart
from agent.messages.short_lived.probe_results import AskedSource, ProbedSource, SourceRequest
from agent.models.catalog import Catalog
from agent.settings import Settings
from agent.trust.index_state import read_index_state

_MODULE: Final = "agent.supply.reach_process"
_MOST: Final = 16
_DEADLINE_S: Final = 240.0
"""Timeout of all sources together, each of which has 10 s of its own."""
INDEX: Final = "index"
"""Subject of the finding about the age of the signed index."""
_INDEX_FILE: Final = "timestamp.json"
_CURES: Final = {
    "source_refused": "name its credentials or its authority in [supply.host.HOST]; docs/supply.md has each source",
    "cut_off": "look at the way there, and whether the service runs",
    "source_hung": "look at the way there: cable, VPN, proxy, the NAS mount",
    "not_found": "mend the reference, or put the file there",
}


def try_sources(settings: Settings) -> Iterator[Finding]:
    """Try to reach the source of each model that is fetched, the aliases that lines follow, and the index."""
    yield from _index(settings)
    catalog = Catalog.load(settings.catalog.file, settings.catalog.store_dir)
    versions = [version for version in catalog.versions if version.source]
    sources = list({version.source: AskedSource(version.source, version.sha256) for version in versions}.values())
    aliases = list(dict.fromkeys(line.candidate for line in settings.line.values() if line.candidate))
    sources = [*map(AskedSource, aliases), *sources]
    if settings.catalog.index:
        sources.insert(0, AskedSource(f"{settings.catalog.index}/{_INDEX_FILE}"))
    if not sources:
        return
    request = SourceRequest(tuple(sources[:_MOST]), setup_of(settings).hosts)
    said = run_apart(_MODULE, [], msgspec.json.encode(request), _DEADLINE_S)
    for source in msgspec.json.decode(said, type=list[ProbedSource]):
        yield _finding(source, is_alias=source.reference in aliases)
    if len(sources) > _MOST:
        yield note("sources", f"{len(sources) - _MOST} more are named in the catalog, and were not tried")


def _finding(source: ProbedSource, *, is_alias: bool) -> Finding:
    subject = f"source {source.reference}"
    if source.reason is None:
        return ok(subject, "answers")
    if is_alias and source.reason == "not_found":
        return note(subject, f"is not set, or its version has no model file: {source.detail}")
    cure = _CURES.get(source.reason, "docs/supply.md has each source")
    return fail(subject, f"{source.reason}: {source.detail}; {cure}")


def _index(settings: Settings) -> Iterator[Finding]:
    if settings.catalog.root is None:
        return
    index = read_index_state(settings.device.state_dir)
    if index is None:
        comes = "the running agent reads catalog.index" if settings.catalog.index else "order one by models/set"
        yield note(INDEX, f"none was verified here yet: {comes}, or import one from a stick")
        return
    now = dt.datetime.now(dt.timezone.utc)
    age_s = index.age_s(now)
    told = f"{age_s / 86_400:.0f} days old" if age_s is not None else "of an age that this clock does not tell"
    if index.is_stale(now):
        yield note(INDEX, f"{told}, and its time is over: publish a newer one, or import one from a stick")
    else:
        yield ok(INDEX, told)
