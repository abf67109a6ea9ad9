"""Clients apart: nobody gets in without proof, nobody sees or takes what is another's."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.gateway_plant import TOKENS, GatewayPlant, jpeg

ROUTES = (
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/alpha"),
    ("GET", "/v2/models/alpha/ready"),
    ("POST", "/v2/models/alpha/infer"),
    ("POST", "/v2/models/alpha/versions/1/infer"),
    ("POST", "/v2/models/alpha/detect"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/alpha/load"),
    ("POST", "/v2/repository/models/alpha/unload"),
    ("GET", "/v2/anything"),
    ("DELETE", "/v2/models/alpha"),
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("authorization", ["", "Bearer " + "x" * 40, "Basic bWVzOm0=", f"Token {TOKENS['mes']}"])
def test_no_route_answers_without_a_token(plant: GatewayPlant, method: str, path: str, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.request(method, plant.url + path, headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_client_sees_its_own_models_only(plant: GatewayPlant) -> None:
    with plant.client("narrow") as client:
        index = client.post("/v2/repository/index").json()
        assert {row["name"] for row in index} == {"alpha:n"}
        hidden = [client.get(f"/v2/models/{name}") for name in ("affine", "beta", "gamma:n", "no-such-model")]
        hidden += [client.post(f"/v2/repository/models/{name}/load") for name in ("affine", "no-such-model")]
        assert client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200
    assert {answer.status_code for answer in hidden} == {404}
    assert hidden[0].json()["error"].replace("affine", "") == hidden[3].json()["error"].replace("no-such-model", "")


def test_too_many_requests_are_told_when_to_come_again(plant: GatewayPlant) -> None:
    with plant.client("slow") as client:
        answers = [client.get("/v2/health/live") for _ in range(3)]
    assert 429 in [answer.status_code for answer in answers]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_64_requests_at_once_for_a_cold_model_load_it_once(plant: GatewayPlant) -> None:
    with plant.client() as client:
        assert client.post("/v2/repository/models/gamma/unload").status_code == 200
        before = len(re.findall(r"event=measured model=gamma:n@1 ", plant.agent.log()))
        picture = jpeg()
        with ThreadPoolExecutor(64) as pool:
            asked = [pool.submit(client.post, "/v2/models/gamma/detect", content=picture) for _ in range(64)]
            statuses = [one.result().status_code for one in asked]
    assert statuses == [200] * 64
    assert len(re.findall(r"event=measured model=gamma:n@1 ", plant.agent.log())) == before + 1


def test_nothing_secret_is_logged(plant: GatewayPlant) -> None:
    with plant.client("narrow") as client:
        client.get("/v2/models/affine")
    log = plant.agent.log()
    for name, token in TOKENS.items():
        assert token not in log
        assert (plant.agent.folder / f"{name}.token").read_text().strip() not in log


def test_a_lost_worker_is_a_refusal_and_the_next_one_answers(plant: GatewayPlant) -> None:
    worker = plant.agent.child("agent.inference.process")
    with plant.client() as client:
        assert client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200
        worker.kill()
        answer = client.post("/v2/models/alpha/detect", content=jpeg())
        assert answer.status_code in {200, 503}
        plant.until_open()
        _until_answered(client)


def test_a_lost_web_process_comes_back(plant: GatewayPlant) -> None:
    served = re.compile(r"event=web_serving port=[1-9]")
    mark, before = len(plant.agent.heard), len(served.findall(plant.agent.log()))
    plant.agent.child("agent.web.web_process").send_signal(9)
    plant.agent.until(lambda: any(b"web_unavailable" in one.payload for one in plant.agent.on("alert", mark)))
    plant.agent.until(lambda: len(served.findall(plant.agent.log())) > before)
    plant.agent.until(lambda: plant.agent.value("alerts") == "[]")
    again = GatewayPlant(plant.agent)
    again.until_open()
    with again.client() as client:
        _until_answered(client)
    plant.port, plant.grpc_port, plant.url = again.port, again.grpc_port, again.url


def _until_answered(client: httpx.Client) -> None:
    deadline_s = time.monotonic() + 60
    while client.post("/v2/models/alpha/detect", content=jpeg()).status_code != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
