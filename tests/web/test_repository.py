"""The model-repository extension, beside a line whose model no request has asked for yet."""

import httpx
from support.gateway_plant import GatewayPlant, jpeg


def unload(client: httpx.Client, model: str) -> httpx.Response:
    return client.post(f"/v2/repository/models/{model}/unload")


def test_a_line_keeps_a_model_that_no_request_has_asked_for(plant: GatewayPlant) -> None:
    with plant.client() as client:
        for path in ("alpha", "alpha:n"):
            kept = unload(client, path)
            assert (kept.status_code, "line-1" in kept.json()["error"]) == (400, True), kept.text
    assert plant.resident()["alpha:n@1"] == "READY"


def test_what_nobody_has_loaded_is_unloaded_already(plant: GatewayPlant) -> None:
    with plant.client() as client:
        assert unload(client, "beta").status_code == 200


def test_older_versions_go_with_their_model(plant: GatewayPlant) -> None:
    older, newer = "delta:n@1", "delta:n@2"
    with plant.client() as client:
        for version in ("1", "2"):
            assert client.post(f"/v2/models/delta/versions/{version}/detect", content=jpeg()).status_code == 200
        assert {older, newer} <= plant.resident().keys()
        assert unload(client, "delta").status_code == 200
        assert not {older, newer} & plant.resident().keys()
        assert client.post("/v2/models/delta/versions/1/detect", content=jpeg()).status_code == 200
        assert unload(client, "delta").status_code == 200, "of which the highest version is not in memory"
        assert older not in plant.resident()
