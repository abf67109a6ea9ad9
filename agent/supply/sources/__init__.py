"""Resolvers: each turns a reference of one scheme into the place of its bytes.

A further source is one module with a function `resolve`, and its row in RESOLVERS.
"""

from collections.abc import Callable, Mapping
from typing import Final

from agent.messages.errors import ModelError
from agent.supply.sources import address, local, mlflow, oci, s3
from agent.supply.sources.located import Located
from agent.supply.sources.web import Web
from agent.supply.wanted import Wanted

Resolver = Callable[[Wanted, Web], Located]

RESOLVERS: Final[Mapping[str, Resolver]] = {
    "": local.resolve,
    "file": local.resolve,
    "http": address.resolve,
    "https": address.resolve,
    "mlflow": mlflow.resolve,
    "oci": oci.resolve,
    "s3": s3.resolve,
}
"""By the scheme of the reference; a plain path has none."""


def resolve(wanted: Wanted, web: Web) -> Located:
    """Find where the bytes of `wanted` are.

    Raises SourceError where its source cannot be reached, and ModelError where it is refused or not found.
    """
    scheme, separator, _ = wanted.reference.partition("://")
    resolver = RESOLVERS.get(scheme.lower() if separator else "")
    if resolver is None:
        known = ", ".join(f"{name}://" for name in RESOLVERS if name)
        raise ModelError("source_refused", f"found {scheme}://, expected a path or {known}")
    return resolver(wanted, web)
