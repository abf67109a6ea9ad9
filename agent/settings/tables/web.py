"""The table `[web]`: console and inference requests, and who may send them."""

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from agent.settings import fields
from agent.settings.fields import sources
from agent.settings.tables.base import Group

_PATTERN: Final = re.compile(r"[A-Za-z0-9._*?\[\]!:-]{1,128}")
_PATTERN_EXPECTED: Final = 'a pattern of model names such as "cap-*", or "cap-check:n" for one variant'


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise ValueError(_PATTERN_EXPECTED)
    return value


ModelPattern = Annotated[str, AfterValidator(_pattern)]


class WebClientSettings(Group):
    """One `[[web.client]]`: who may send inference requests, proven by exactly one of `token_file` and `subject`."""

    name: fields.Id = Field(description=fields.ID)
    token_file: sources.OptionalSecret = None
    """File with `sha256:HEX` of the token, or with the token itself."""
    subject: str = ""
    """Subject of a client certificate, such as "CN=mes" or "CN=mes,O=plant"."""
    models: tuple[ModelPattern, ...] = ("*",)
    """Patterns of the models that exist for this client."""
    requests_per_s: Annotated[float, Field(gt=0, le=100_000)] = 20.0
    max_inflight: Annotated[int, Field(ge=1, le=64)] = 2
    group: fields.Id = "default"

    def may_see(self, name: str, variant: str) -> bool:
        """Return True where a pattern matches the model's name, or NAME:VARIANT."""
        return any(fnmatchcase(text, one) for one in self.models for text in (name, f"{name}:{variant}"))


class WebSettings(Group):
    """`[web]`: a process of its own for console and gateway; nothing runs while both binds are empty."""

    bind: fields.Bind = ""
    """HOST:PORT of console and HTTP requests, or "" for none."""
    grpc_bind: fields.Bind = ""
    """HOST:PORT of requests over gRPC, or "" for none."""
    cert_file: sources.OptionalSecret = None
    key_file: sources.OptionalSecret = None
    client_ca_file: sources.OptionalSecret = None
    """Authority of client certificates, which are then asked for."""
    insecure: bool = False
    """Allows a bind beyond loopback without TLS."""
    console: bool = True
    gateway: bool = True
    client: tuple[WebClientSettings, ...] = ()

    @property
    def is_on(self) -> bool:
        """True where something is served."""
        return bool(self.bind or self.grpc_bind)

    @property
    def has_console(self) -> bool:
        """True where the console is served."""
        return bool(self.bind) and self.console


def is_loopback(bind: str) -> bool:
    """Return True for HOST:PORT whose host only this device reaches."""
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
