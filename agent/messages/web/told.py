"""The part of `meta` that describes the web process."""

import msgspec


class MetaWeb(msgspec.Struct, frozen=True):
    """The walls around the web process; `lacking` says which one this device cannot build, and why.

    `files`: it reads and writes nothing that it need not; `calls`: it starts no program and connects to nobody.
    """

    walls: list[str]
    lacking: str | None = None
