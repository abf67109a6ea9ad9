"""Answers from which a first configuration is made, and its text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.messages.references import ModelReference
from agent.messages.texts.camera_names import is_live
from agent.settings.loading import VERSION

STREAM: Final = "cam-1"


@dataclass(frozen=True)
class Product:
    """One product of the line, and the model that checks it."""

    code: str
    reference: ModelReference
    file: Path | None
    """The model's file; None where the catalog has the model already."""


@dataclass
class Answers:
    """All answers, in the order in which they are asked."""

    line: str = ""
    products: list[Product] = field(default_factory=list)
    camera: str = field(default="", repr=False)
    broker: str = ""
    username: str = ""
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    device: str | None = None

    def tables(self, own: dict[str, dict[str, str]], password_file: str | None) -> dict[str, Any]:
        """Return the configuration's tables; `own` holds more keys by table, as `Place.own` gives them.

        `password_file` is the value of that key; None leaves it out.
        """
        device = {"id": self.device} if self.device else {}
        mqtt = {"url": self.broker}
        if self.username:
            mqtt["username"] = self.username
        if password_file is not None:
            mqtt["password_file"] = password_file
        if self.ca_file is not None:
            mqtt["ca_file"] = str(self.ca_file)
        stream: dict[str, Any] = {"id": STREAM, "line": self.line, "source": self.camera}
        if not is_live(self.camera):
            stream["loop"] = True  # because a line whose film has ended is not ready
        tables: dict[str, Any] = {"version": VERSION}
        tables["device"] = device | own.get("device", {})
        tables["mqtt"] = mqtt
        tables["catalog"] = {"file": "models.toml"} | own.get("catalog", {})
        tables["stream"] = [stream]
        products = {product.code: _named(product.reference, self.products) for product in self.products}
        tables["line"] = {self.line: {"default": next(iter(products.values())), "products": products}}
        return tables


def _named(reference: ModelReference, products: list[Product]) -> str:
    """Return the model's name alone where no other of `products` has that name, else the full reference."""
    others = {str(one.reference) for one in products if one.reference.name == reference.name}
    return reference.name if len(others) == 1 else str(reference)


def text_of(tables: dict[str, Any], example: str) -> str:
    """Return the configuration as TOML; `example` says in a comment where every key is explained."""
    from tomlkit import item  # noqa: PLC0415 - only what writes TOML needs it
    from tomlkit.items import SingleKey  # noqa: PLC0415 - the same

    lines = ["# Written by `changeover init`. Change it, then: changeover check", f"# Every key: {example}", ""]

    def add(header: str, values: dict[str, Any]) -> None:
        lines.extend([header] if values else [])
        lines.extend(f"{SingleKey(key).as_string()} = {item(value).as_string()}" for key, value in values.items())
        lines.extend([""] if values else [])

    lines.extend([f"version = {tables['version']}", ""])
    for name in ("device", "mqtt", "catalog"):
        add(f"[{name}]", tables[name])
    for row in tables["stream"]:
        add("[[stream]]", row)
    for line, table in tables["line"].items():
        name = SingleKey(line).as_string()
        add(f"[line.{name}]", {"default": table["default"]})
        add(f"[line.{name}.products]", table["products"])
    return "\n".join(lines[:-1]) + "\n"
