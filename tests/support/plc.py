"""A PLC as the agent meets it: any of the clients of the field, in either version of the protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.endpoint.link_settings import LinkSettings, ProtocolVersion


@dataclass(frozen=True)
class Form:
    """One way to say a product: `payload`, and on which of the plant's topics it is understood."""

    name: str
    product: str
    payload: bytes
    path: bool = False


def s7(text: str, size: int, encoding: str = "latin-1", rest: bytes = b"\0") -> bytes:
    """Return an S7 STRING[size] as it lies in a data block: size, length, characters, and what stood there before."""
    data = text.encode(encoding)
    return bytes([size, len(data)]) + data + (rest * size)[: size - len(data)]


FORMS = (
    Form("UTF-8", "Käse", "Käse".encode()),
    Form("UTF-8 with a mark", "bottle-500", b"\xef\xbb\xbfbottle-500"),
    Form("Latin-1", "Käse", "Käse".encode("latin-1")),
    Form("UTF-16 with a mark", "Käse", "Käse".encode("utf-16")),
    Form("UTF-16, little end first", "bottle-500", "bottle-500".encode("utf-16-le")),
    Form("UTF-16, big end first", "bottle-500", "bottle-500".encode("utf-16-be")),
    Form("WSTRING, padded", "bottle-500", "bottle-500".encode("utf-16-le") + bytes(20)),
    Form("NUL padding", "bottle-500", b"bottle-500" + bytes(22)),
    Form("space padding", "bottle-500", b"bottle-500" + b" " * 22),
    Form("line end", "bottle-500", b"bottle-500\r\n"),
    Form("S7 STRING[254]", "bottle-500", s7("bottle-500", 254)),
    Form("S7 STRING[20] with old characters", "bottle-500", s7("bottle-500", 20, rest=b"x")),
    Form("S7 STRING[32], Latin-1", "Käse", s7("Käse", 32)),
    Form("S7 header and no padding", "17", bytes([254, 2]) + b"17"),
    Form("JSON string", "bottle-500", b'"bottle-500"'),
    Form("JSON string, escaped", "Käse", b'"K\\u00e4se"'),
    Form("JSON number", "17", b"17.0"),
    Form("JSON boolean", "true", b"true"),
    Form("JSON object", "17", b'{"value": 17}'),
    Form("JSON object over lines", "17", b'{\n\t"value": "17"\n}'),
    Form("register as text", "17", b"17"),
    Form("register, padded", "17", b"17\0\0\0\0"),
    Form("JSON with a path, text", "bottle-500", b'{"recipe": {"id": "bottle-500"}, "at": 7}', path=True),
    Form("JSON with a path, number", "17", b'{"recipe": {"id": 17.0, "id2": 3}}', path=True),
    Form("JSON with a path, UTF-16", "17", '{"recipe": {"id": "17"}}'.encode("utf-16"), path=True),
)


@contextmanager
def plc(port: int, protocol: ProtocolVersion) -> Iterator[BlockingClient]:
    """Connect as a PLC does, with its own client id."""
    with connected(LinkSettings("127.0.0.1", port, f"plc7-{protocol}", protocol=protocol)) as peer:
        yield peer
