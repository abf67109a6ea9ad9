"""TLS of the gateway: a client's certificate proves who it is, over HTTP and gRPC."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryUnaryMethod
from support.brokers import Mosquitto
from support.certificates import Authority
from support.gateway_plant import TOKENS, GatewayPlant, gateway_plant

from agent.messages.web.control import Serving, WebSetup
from agent.web.gateway.grpc.schema import SERVICE, Messages, Untyped
from agent.web.serving import walls

if TYPE_CHECKING:
    from agent.processes.child import Child

MESSAGES = Messages()


class Certificates:
    """The server's authority, that of clients, and one of a stranger."""

    def __init__(self, folder: Path) -> None:
        self.servers = Authority(folder / "servers", "servers")
        self.clients = Authority(folder / "clients", "clients")
        self.strangers = Authority(folder / "strangers", "clients")  # of the same name, with another key
        self.server = self.servers.issue("box")

    def context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a client's context, with its key and certificate where it has them."""
        context = ssl.create_default_context(cafile=str(self.servers.certificate))
        if pair is not None:
            context.load_cert_chain(pair[1], pair[0])
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[GatewayPlant]:
    """Run an agent whose gateway asks for certificates, and knows the subject CN=plc."""
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), persistence=False, more=())
    broker.start()
    key, certificate = certificates.server
    web = {"cert_file": str(certificate), "key_file": str(key), "client_ca_file": str(certificates.clients.certificate)}
    more = [{"name": "plc", "subject": "CN=plc", "requests_per_s": 1000, "max_inflight": 8}]
    try:
        trusted = str(certificates.servers.certificate)
        with gateway_plant(broker, tmp_path_factory.mktemp("agent"), web, more, trusted=trusted) as made:
            yield made
    finally:
        broker.kill()


def status(plant: GatewayPlant, context: ssl.SSLContext, token: str = "", origin: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Origin": origin} if origin else {}
    return httpx.get(f"{plant.url}/v2/health/ready", headers=headers, verify=context, trust_env=False).status_code


def test_a_certificate_or_a_token_lets_a_client_in(secured: GatewayPlant, certificates: Certificates) -> None:
    plc, other = certificates.clients.issue("plc"), certificates.clients.issue("other")
    assert status(secured, certificates.context(plc)) == 200
    assert status(secured, certificates.context(other)) == 401
    assert status(secured, certificates.context()) == 401
    assert status(secured, certificates.context(), TOKENS["mes"]) == 200
    assert status(secured, certificates.context(plc), "wrong" * 8) == 401
    assert status(secured, certificates.context(plc), origin="https://evil.example") == 401, "a page's request"
    assert status(secured, certificates.context(plc), TOKENS["mes"], "https://evil.example") == 200


def test_certificates_of_others_end_in_the_handshake(secured: GatewayPlant, certificates: Certificates) -> None:
    for pair in (certificates.strangers.issue("plc"), certificates.clients.issue("plc-old", days=-1)):
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            status(secured, certificates.context(pair))


@pytest.mark.soak
def test_ten_thousand_foreign_certificates_let_nobody_in(secured: GatewayPlant, certificates: Certificates) -> None:
    ours, theirs = certificates.clients, certificates.strangers
    foreign = [theirs.issue("plc"), theirs.issue("box"), ours.issue("plc-old", days=-1), ours.issue("other")]
    contexts = [certificates.context(pair) for pair in foreign]
    for number in range(10_000):
        with suppress(httpx.TransportError, ssl.SSLError):  # most end in the handshake
            assert status(secured, contexts[number % len(contexts)]) == 401


def test_plain_http_is_not_answered(secured: GatewayPlant) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{secured.port}/v2", trust_env=False)


async def cut_off() -> None:
    """Close the connections that are still open, because a channel does not wait for the goodbye of TLS."""
    for transport in list(vars(asyncio.get_running_loop())["_transports"].values()):
        transport.abort()
    await asyncio.sleep(0)  # lets the loop close them


def test_a_certificate_lets_a_client_in_over_grpc(secured: GatewayPlant, certificates: Certificates) -> None:
    async def ready(context: ssl.SSLContext) -> Untyped:
        context.set_alpn_protocols(["h2"])
        taken, given = MESSAGES["ServerReadyRequest"], MESSAGES["ServerReadyResponse"]
        async with Channel("127.0.0.1", secured.grpc_port, ssl=context) as channel:
            method: UnaryUnaryMethod[Untyped, Untyped] = UnaryUnaryMethod(
                channel, f"/{SERVICE}/ServerReady", taken, given
            )
            try:
                return await method(taken(), timeout=60)
            finally:
                await cut_off()

    assert asyncio.run(ready(certificates.context(certificates.clients.issue("plc")))).ready
    with pytest.raises(GRPCError) as refused:
        asyncio.run(ready(certificates.context()))
    assert refused.value.status is Status.UNAUTHENTICATED


class Waiting:
    """A child that waits: what it was told to send, and what mends a file meanwhile."""

    def __init__(self, mend: Callable[[], object]) -> None:
        self.sent: list[Serving] = []
        self._mend = mend

    def send(self, message: Serving) -> None:
        self.sent.append(message)

    def wait(self, _seconds: float) -> None:
        self._mend()


def test_a_key_that_cannot_be_used_is_told_and_tried_again(certificates: Certificates, tmp_path: Path) -> None:
    key, certificate = certificates.server
    wrong = tmp_path / "server.key"
    wrong.write_bytes(certificates.servers.issue("other")[0].read_bytes())
    child = Waiting(lambda: wrong.write_bytes(key.read_bytes()))
    setup = WebSetup(
        device="box",
        base="changeover/v1/box",
        state_dir=str(tmp_path),
        bind="127.0.0.1:1",
        grpc_bind="",
        cert_file=str(certificate),
        key_file=str(wrong),
        client_ca_file="",
        console=False,
        gateway=True,
        clients=(),
        links=(),
    )
    contexts = walls.contexts_of(cast("Child[Any]", child), setup)
    assert list(contexts) == ["bind"]
    assert [one.port for one in child.sent] == [0]
    assert child.sent[0].detail.startswith("web.bind 127.0.0.1:1 cannot be served: ")
