"""The device's models as clients name them: NAME or NAME:VARIANT, with the catalog's versions."""

from typing import Final, NamedTuple

import msgspec

from agent.messages.references import ModelReference, natural_key
from agent.web.gateway.core.clients import Client
from agent.web.gateway.core.faults import not_found
from agent.web.serving.documents import DocumentStore

_USUAL: Final = "n"
"""Variant of a NAME alone, because "n-int8" is smaller and answers otherwise."""
_RESIDENT: Final = frozenset({"active", "pinned", "resident", "reserved", "preloaded", "draining"})
State = str


class Version(NamedTuple):
    """One version of the catalog."""

    name: str
    variant: str
    version: str

    @property
    def reference(self) -> str:
        """The full reference."""
        return f"{self.name}:{self.variant}@{self.version}"

    @property
    def path(self) -> str:
        """The model's name in the protocol, which always says the variant."""
        return f"{self.name}:{self.variant}"


class _Meta(msgspec.Struct):
    models: list[str] = []


class _Resident(msgspec.Struct):
    model: str
    state: str
    group: str | None = None


class _Cache(msgspec.Struct):
    models: list[_Resident] = []


class CatalogView:
    """Versions and what is in memory, read of the documents `meta` and `cache`."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents: Final = documents
        self._meta = b""
        self._versions: tuple[Version, ...] = ()

    def versions(self) -> tuple[Version, ...]:
        """Return every version of the catalog by name: the smallest variant first, and its highest version first."""
        meta = self._documents.states.get("meta", b"")
        if meta != self._meta:
            parsed = [ModelReference.parse(one) for one in msgspec.json.decode(meta, type=_Meta).models] if meta else []
            known = [Version(one.name, one.variant or "", one.version or "") for one in parsed if one is not None]
            sizes: dict[str, int] = {}
            for place, one in enumerate(known):  # `meta` has the smallest first
                sizes.setdefault(one.path, place)
            known.sort(key=lambda one: natural_key(one.version), reverse=True)
            known.sort(key=lambda one: (one.name, sizes[one.path]))
            self._meta, self._versions = meta, tuple(known)
        return self._versions

    def seen_by(self, client: Client) -> list[Version]:
        """Return the versions that exist for a client."""
        return [one for one in self.versions() if client.may_see(one.name, one.variant)]

    def resolve(self, client: Client, model: str, version: str) -> Version:
        """Return the version of a model's path; an empty `version` means the highest.

        Without a variant it is `n`, else the smallest. Raises RequestError("not_found").
        """
        name, colon, variant = model.partition(":")
        seen = self.seen_by(client) if variant or not colon else []
        found = [one for one in seen if one.name == name and variant in {"", one.variant}]
        if found and not variant:
            variant = _USUAL if any(one.variant == _USUAL for one in found) else found[0].variant
        found = [one for one in found if one.variant == variant and version in {"", one.version}]
        if not found:
            raise not_found(f"{model}, version {version}"[:200] if version else model[:200])
        return found[0]

    def versions_of(self, client: Client, one: Version) -> list[str]:
        """Return all versions of a model that exist for a client, the highest first."""
        return [other.version for other in self.seen_by(client) if other.path == one.path]

    def states(self, group: str) -> dict[str, State]:
        """Return the state of each model in a group's memory, by reference: READY, LOADING or UNLOADING."""
        cache = self._documents.states.get("cache", b"")
        rows = msgspec.json.decode(cache, type=_Cache).models if cache else []
        return {one.model: _state(one.state) for one in rows if one.group in {group, None}}


def _state(word: str) -> State:
    if word in _RESIDENT:
        return "READY"
    return "LOADING" if word == "loading" else "UNLOADING"
