"""Checks keys against each other before validation, so that one bad value hides no other mistake."""

from collections.abc import Iterator
from typing import Any

from agent.settings.fields import PRODUCT, canonical_product
from agent.settings.findings import Finding
from agent.settings.mistakes import shown
from agent.settings.model import DEFAULT_GROUP, LineSettings
from agent.settings.tables.web import is_loopback

Raw = dict[str, Any]


def crosschecks(raw: Raw) -> Iterator[Finding]:
    """Yield a finding for each contradiction between keys of `raw`, the configuration's unvalidated tables."""
    yield from _streams(raw)
    yield from _products(raw)
    yield from _lines_named(raw)
    yield from _groups(raw)
    yield from _bindings(raw)
    yield from _rules(raw)
    yield from _mqtt(raw)
    yield from _catalog(raw)
    yield from _supply(raw)
    yield from _web(raw)


def _rows(raw: Raw, name: str) -> Iterator[tuple[int, Raw]]:
    rows = raw.get(name)
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, dict):
            yield index, row


def _lines(raw: Raw) -> dict[str, Any]:
    lines = raw.get("line")
    return lines if isinstance(lines, dict) else {}


def _streams(raw: Raw) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, row in _rows(raw, "stream"):
        name = row.get("id")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield Finding(("stream", index, "id"), shown(name), f"an id that stream[{first[name]}] does not have")
        source = row.get("source")
        if row.get("ca_file") and isinstance(source, str) and source.lower().startswith(("rtsp://", "http://")):
            expected = "rtsps:// or https://, since ca_file is set"
            yield Finding(("stream", index, "source"), "a URL without TLS", expected)
    served = {row["line"] for _, row in _rows(raw, "stream") if isinstance(row.get("line"), str)}
    readable = isinstance(raw.get("stream", []), list)
    for line in _lines(raw):
        if readable and line not in served:
            yield Finding(("line", line), "no stream", f'at least one [[stream]] with line = "{line}"')


def _products(raw: Raw) -> Iterator[Finding]:
    for line, table in _lines(raw).items():
        products = table.get("products") if isinstance(table, dict) else None
        first: dict[str, str] = {}
        for key, value in products.items() if isinstance(products, dict) else ():
            if _is_misplaced(key, value, table):
                yield Finding(
                    ("line", line, "products", key), f"a key of [line.{line}]", f"it above [line.{line}.products]"
                )
            product = canonical_product(key)
            if product is not None and first.setdefault(product, key) != key:
                yield Finding(
                    ("line", line, "products", key), f"the product {product} again", f"{PRODUCT}, each of them once"
                )


def _is_misplaced(key: str, value: object, line: Raw) -> bool:
    """Return True where a key of the line itself stands below the heading of its products."""
    is_key = key in LineSettings.model_fields and key not in line
    is_size = isinstance(value, str) and len(value) == 1  # a variant, which is no model's name
    return is_key and (not isinstance(value, str) or key.endswith("_s") or key == "default" or is_size)


def _lines_named(raw: Raw) -> Iterator[Finding]:
    known = ", ".join(_lines(raw)) or "none is configured"
    for name in ("stream", "binding", "schedule", "bandwidth"):
        for index, row in _rows(raw, name):
            line = row.get("line")
            if isinstance(line, str) and line not in _lines(raw):
                yield Finding((name, index, "line"), shown(line), f"a configured line ({known})")


def _groups(raw: Raw) -> Iterator[Finding]:
    groups, web = raw.get("group", {}), raw.get("web", {})
    if not isinstance(groups, dict):
        return
    lines = [(("line", line), table) for line, table in _lines(raw).items() if isinstance(table, dict)]
    clients = [(("web", "client", index), row) for index, row in _rows(web if isinstance(web, dict) else {}, "client")]
    of_lines = {table.get("group", DEFAULT_GROUP) for _, table in lines if isinstance(table.get("group", ""), str)}
    has_default = not groups or DEFAULT_GROUP in {*groups, *of_lines}
    known = dict.fromkeys((*((DEFAULT_GROUP,) if has_default else ()), *groups))
    for path, table in (*lines, *clients):
        group = table.get("group", DEFAULT_GROUP)
        if isinstance(group, str) and group not in known:
            yield Finding((*path, "group"), shown(group), f"a configured group ({', '.join(known)})")
    used = {table.get("group") for _, table in (*lines, *clients) if isinstance(table.get("group"), str)}
    for group in groups:
        if group not in used and group != DEFAULT_GROUP:
            yield Finding(("group", group), "no line", f'at least one [line.ID] with group = "{group}"')


def _bindings(raw: Raw) -> Iterator[Finding]:
    first: dict[tuple[str, str], int] = {}
    for index, row in _rows(raw, "binding"):
        topic, line = row.get("topic"), row.get("line")
        if not isinstance(topic, str) or not isinstance(line, str):
            continue
        if first.setdefault((topic, line), index) != index:
            yield Finding(("binding", index), "the same topic and line again", f"only binding[{first[topic, line]}]")


def _rules(raw: Raw) -> Iterator[Finding]:
    for index, row in _rows(raw, "schedule"):
        if ("variant" in row) == ("model" in row):
            found = "both variant and model" if "variant" in row else "neither variant nor model"
            yield Finding(("schedule", index), found, "one of the two")
    for index, row in _rows(raw, "bandwidth"):
        if "max_variant" not in row and "publish" not in row:
            yield Finding(("bandwidth", index), "neither max_variant nor publish", "at least one of the two")


def _mqtt(raw: Raw) -> Iterator[Finding]:
    mqtt = raw.get("mqtt")
    if not isinstance(mqtt, dict):
        return
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file"), ("password_file", "username")):
        if mqtt.get(one) and not mqtt.get(other):
            yield Finding(("mqtt", other), "nothing", f"a value, since mqtt.{one} is set")
    url = mqtt.get("url")
    for key in ("ca_file", "cert_file"):
        if mqtt.get(key) and isinstance(url, str) and url.startswith("mqtt://"):
            yield Finding(("mqtt", "url"), "mqtt://, which is not encrypted", f"mqtts://, since mqtt.{key} is set")


def _catalog(raw: Raw) -> Iterator[Finding]:
    catalog = raw.get("catalog")
    if not isinstance(catalog, dict):
        return
    if catalog.get("index") and not catalog.get("root"):
        wanted = "the index's root.json, from whoever runs it, since catalog.index is set"
        yield Finding(("catalog", "root"), "nothing", wanted)
    if catalog.get("root") and catalog.get("trusted_keys"):
        wanted = "an empty list, since catalog.root is set and the index says whom to trust"
        yield Finding(("catalog", "trusted_keys"), "keys", wanted)


def _supply(raw: Raw) -> Iterator[Finding]:
    supply = raw.get("supply")
    hosts = supply.get("host") if isinstance(supply, dict) else None
    for name, host in hosts.items() if isinstance(hosts, dict) else ():
        if not isinstance(host, dict):
            continue
        for one, other in (("access_key_file", "secret_key_file"), ("secret_key_file", "access_key_file")):
            if host.get(one) and not host.get(other):
                wanted = f"a file, since {one} is set: the two go together"
                yield Finding(("supply", "host", name, other), "nothing", wanted)


def _web(raw: Raw) -> Iterator[Finding]:
    web = raw.get("web")
    if not isinstance(web, dict):
        return
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file"), ("client_ca_file", "cert_file")):
        if web.get(one) and not web.get(other):
            yield Finding(("web", other), "nothing", f"a file, since web.{one} is set")
    for key in ("bind", "grpc_bind"):
        bind = web.get(key)
        is_open = isinstance(bind, str) and bool(bind) and not is_loopback(bind)
        if is_open and not web.get("cert_file") and web.get("insecure") is not True:
            wanted = "web.cert_file and web.key_file for TLS, a loopback address, or insecure = true"
            yield Finding(("web", key), f"{shown(bind)} without TLS, which other machines reach", wanted)
    bind = web.get("bind")
    if isinstance(bind, str) and bind and bind == web.get("grpc_bind") and not bind.endswith(":0"):
        yield Finding(("web", "grpc_bind"), "the address of web.bind", "an address of its own")
    clients = web.get("client")
    yield from _clients(clients if isinstance(clients, list) else [], bool(web.get("client_ca_file")))


def _clients(clients: list[Any], asks_certificates: bool) -> Iterator[Finding]:  # noqa: FBT001 - one caller
    first: dict[tuple[str, str], int] = {}
    for index, row in enumerate(clients):
        if not isinstance(row, dict):
            continue
        if bool(row.get("token_file")) == bool(row.get("subject")):
            found = "both token_file and subject" if row.get("subject") else "neither token_file nor subject"
            yield Finding(("web", "client", index), found, "one of the two")
        if row.get("subject") and not asks_certificates:
            wanted = "web.client_ca_file, the authority of client certificates"
            yield Finding(("web", "client", index, "subject"), "a subject without an authority", wanted)
        for key in ("name", "subject"):
            value = row.get(key)
            if isinstance(value, str) and value and first.setdefault((key, value), index) != index:
                yield Finding(("web", "client", index, key), shown(value), f"a {key} that no other client has")
