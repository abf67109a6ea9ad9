"""Requests of any shape: none is answered with 500, none ends the process, and memory stays as it was."""

import asyncio
import http.client
import json
import random
import socket
import struct
from collections.abc import Callable
from contextlib import closing

import httpx
import psutil
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryUnaryMethod
from support.gateway_plant import TOKENS, GatewayPlant, jpeg
from support.waiting import until

from agent.web.gateway.grpc.schema import METHODS, SERVICE, Messages, Untyped

MESSAGES = Messages()
FEW, MANY = 300, 10_000
GROWTH_BYTES = 10 << 20
SOON_S = 20.0
"""Less than a body may take, after which a request ends by itself."""
PATHS = (
    "alpha",
    "alpha:n",
    "affine",
    "encoder",
    "none",
    "..",
    "%2e%2e",
    "alpha/versions/1",
    "alpha/versions/x",
    "a" * 300,
)
VERBS = ("", "/infer", "/detect", "/ready", "/load", "/unload", "/infer/", "/config")
WORDS = ("name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id", "x", "k", "image", "tokens")
VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**63,
    2**70,
    1e308,
    "",
    "FP32",
    "INT64",
    "UINT8",
    "BYTES",
    "BF16",
    "é\0",
    [],
    [1, 4],
    [4],
    [-1],
    [1 << 33, 1 << 33],
    [[1, 2], [3]],
    {},
)


def value(chance: random.Random, depth: int = 0) -> object:
    """Return any JSON value, or one that nearly is a request's."""
    kind = chance.randrange(4 if depth < 4 else 1)
    if kind == 0:
        return chance.choice(VALUES)
    if kind == 1:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(WORDS): value(chance, depth + 1) for _ in range(chance.randrange(6))}


def nearly(chance: random.Random) -> object:
    """Return a right request with something changed."""
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    k = {"name": "k", "shape": [4], "datatype": "INT64", "data": [1, 2, 3, 4]}
    chance.choice((x, k))[chance.choice(WORDS)] = value(chance, 2)  # type: ignore[assignment] # wrong on purpose
    body = {"inputs": [x, k]}
    if chance.random() < 0.3:
        body[chance.choice(WORDS)] = value(chance, 2)  # type: ignore[assignment] # the same
    return body


def body(chance: random.Random) -> bytes:
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        picture = bytearray(jpeg(kind=chance.choice((".jpg", ".png", ".webp"))))
        for _ in range(chance.randrange(6)):
            picture[chance.randrange(len(picture))] = chance.randrange(256)
        return bytes(picture[: chance.randrange(1, len(picture) + 1)])
    return json.dumps(nearly(chance) if kind > 2 else value(chance)).encode()


def ask(client: httpx.Client, chance: random.Random) -> int:
    method = chance.choice(("GET", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS"))
    start = chance.choice(
        ("/v2/models/", "/v2/models/", "/v2/models/", "/v2/repository/models/", "/v2/", "/v2/health/")
    )
    path = start + chance.choice(PATHS) + chance.choice(VERBS)
    headers = {}
    if chance.random() < 0.2:
        headers["Inference-Header-Content-Length"] = chance.choice(("0", "10", "999999", "-1", "x"))
    if chance.random() < 0.2:
        headers["Content-Encoding"] = chance.choice(("gzip", "deflate", "br", "identity"))
    query = chance.choice(("", "", "?confidence=0.5", "?iou=-1", "?confidence=1e999", "?imgsz=7.5"))
    return client.request(method, path + query, content=body(chance), headers=headers).status_code


def over_http(plant: GatewayPlant, count: int, seed: int) -> None:
    chance = random.Random(seed)
    with plant.client() as client:
        for _ in range(count):
            status = ask(client, chance)
            # 307: the console's, where `..` leads out of /v2
            assert status in {200, 307, 400, 404, 405, 413, 415, 429, 501, 503}, (seed, status)


def over_grpc(plant: GatewayPlant, count: int, seed: int) -> None:
    chance = random.Random(seed)

    async def run() -> None:
        metadata = {"authorization": f"Bearer {TOKENS['mes']}"}
        async with Channel("127.0.0.1", plant.grpc_port) as channel:
            for _ in range(count):
                name = chance.choice((*METHODS, "ModelInfer", "ModelInfer", "ModelInfer"))
                method: UnaryUnaryMethod[Untyped, Untyped] = UnaryUnaryMethod(
                    channel, f"/{SERVICE}/{name}", _Raw, MESSAGES[f"{name}Response"]
                )
                status = Status.OK
                try:
                    await method(_Raw(message(chance, name)), metadata=metadata, timeout=60)
                except GRPCError as error:
                    status = error.status
                assert status not in {Status.INTERNAL, Status.UNKNOWN}, (seed, name)

    asyncio.run(run())


class _Raw:
    """Bytes that are sent as a message, whatever they are."""

    def __init__(self, content: bytes = b"") -> None:
        self._content = content

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return self._content


def message(chance: random.Random, name: str) -> bytes:
    """Return any bytes, or a request with a few bytes changed."""
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(100))
    made = MESSAGES[f"{name}Request"]()
    if name == "ModelInfer":
        made.model_name = chance.choice(("affine", "alpha", "encoder", "none"))
        for _ in range(chance.randrange(4)):
            one = made.inputs.add(name=chance.choice(WORDS), datatype=str(chance.choice(VALUES))[:8])
            one.shape.extend(chance.choice(([1, 4], [4], [], [-1], [1 << 40], [0])))
            if chance.random() < 0.5:
                one.contents.fp32_contents.extend([1.0] * chance.randrange(6))
        for _ in range(chance.randrange(4)):
            made.raw_input_contents.append(chance.randbytes(chance.choice((0, 4, 16, 32))))
    content = bytearray(made.SerializeToString())
    for _ in range(chance.randrange(3) if content else 0):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def over_wire(plant: GatewayPlant, count: int, seed: int) -> None:
    """Send bytes that are no HTTP, and go away in the midst of a body."""
    chance = random.Random(seed)
    head = f"POST /v2/models/alpha/detect HTTP/1.1\r\nAuthorization: Bearer {TOKENS['mes']}\r\nHost: x\r\n".encode()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", chance.choice((plant.port, plant.grpc_port))), 10) as one:
            if chance.random() < 0.5:
                one.sendall(chance.randbytes(chance.randrange(1, 200)))
            else:
                one.sendall(head + b"Content-Length: %d\r\n\r\n" % chance.randrange(100_000) + jpeg()[:200])
            if chance.random() < 0.5:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def memory_bytes(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.soak)])
@pytest.mark.parametrize("send", [over_http, over_grpc, over_wire])
def test_requests_of_any_shape(plant: GatewayPlant, send: Callable[[GatewayPlant, int, int], None], count: int) -> None:
    process, worker = (plant.agent.child(module) for module in ("agent.web.web_process", "agent.inference.process"))
    send(plant, FEW, 1)  # what is imported and cached at first
    before_bytes = memory_bytes(process)
    send(plant, count, 2)
    assert memory_bytes(process) - before_bytes < GROWTH_BYTES
    assert process.is_running()
    assert worker.is_running()
    assert "event=request_crashed" not in plant.agent.log()
    with plant.client() as client:  # whose requests that went away in their midst have left no trace
        until(lambda: client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200, SOON_S)


@pytest.mark.soak
def test_ten_thousand_wrong_tokens_let_nobody_in(plant: GatewayPlant) -> None:
    chance = random.Random(3)
    right = TOKENS["mes"]
    with plant.client("") as client:
        for _ in range(MANY):
            at = chance.randrange(1, len(right))
            wrong = chance.choice(
                (right[:at], right + "x", right[:at] + "z" + right[at + 1 :], chance.randbytes(20).hex())
            )
            headers = {"Authorization": f"Bearer {wrong}"}
            assert client.get("/v2/models/alpha", headers=headers).status_code == 401


PLACES = (
    *(
        "affine",
        "Affine",
        "%61ffine",
        "affine%00",
        "affine%20",
        "affine:n",
        "affine:N",
        "affine;alpha",
        "encoder",
        "gamma",
    ),
    *("alpha/../affine", "alpha%2f..%2faffine", "./affine", "/affine", "..%2fmodels%2faffine", "alpha%3a%3aaffine"),
    *("affine/versions/1", "affine/versions/1/../1", "alpha/versions/1/../../../affine", "%2e%2e/models/affine"),
)
"""Ways to a model that is another client's."""
BEHIND = ("", "/ready", "/infer", "/detect", "?", "?x=alpha", "#alpha", "/", "//infer")


@pytest.mark.soak
def test_ten_thousand_ways_to_models_of_others_lead_nowhere(plant: GatewayPlant) -> None:
    chance = random.Random(4)
    headers = {"Authorization": f"Bearer {TOKENS['narrow']}"}
    with closing(http.client.HTTPConnection("127.0.0.1", plant.port, timeout=60)) as line:
        for _ in range(MANY):
            start = chance.choice(("/v2/models/", "/v2/repository/models/", "/v2/../v2/models/", "//v2/models/"))
            behind = chance.choice(BEHIND if "repository" not in start else ("/load", "/unload"))
            path = start + chance.choice(PLACES) + behind
            method = chance.choice(("GET", "POST"))
            line.request(method, path, b"" if method == "POST" else None, headers)  # as it is, nothing made shorter
            answer = line.getresponse()
            answer.read()
            assert answer.status in {400, 404, 405, 415}, (method, path)
