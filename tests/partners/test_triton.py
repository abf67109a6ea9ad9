"""Triton's own clients ask the gateway everything that the protocol has."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gateway_plant import TOKENS, GatewayPlant, jpeg, own_gateway_plant
from support.partners import FOLDER

pytestmark = [pytest.mark.partners, pytest.mark.timeout(300)]
PYTHON = FOLDER / "triton" / "bin" / "python"
CALLS = Path(__file__).with_name("triton_calls.py")
REFUSED = {"http": ("404", "400", "401"), "grpc": ("NOT_FOUND", "INVALID_ARGUMENT", "UNAUTHENTICATED")}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPlant]:
    if not PYTHON.exists():
        pytest.skip("scripts/partners brings Triton's client")
    with own_gateway_plant(tmp_path_factory) as made:
        yield made


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_every_call_of_tritons_client(plant: GatewayPlant, tmp_path: Path, kind: str) -> None:
    (tmp_path / "picture.jpg").write_bytes(jpeg(256, 192))
    port = plant.port if kind == "http" else plant.grpc_port
    command = [str(PYTHON), str(CALLS), kind, f"127.0.0.1:{port}", TOKENS["mes"], str(tmp_path / "picture.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    given: dict[str, Any] = json.loads(done.stdout)
    assert (given["live"], given["ready"], given["loaded"], given["unloaded"]) == (True, True, True, False)
    assert given["server"]["name"] == "changeover"
    assert given["model"]["inputs"][0]["name"] == "x"
    index = given["index"] if kind == "http" else given["index"]["models"]
    assert {"affine:n", "alpha:n"} <= {row["name"] for row in index}
    y = [[12, 24, 36, 48]]
    assert (given["y_True"], given["id"]) == (y, "7")
    assert given["all"] == {"y": y, "kk": [20, 40, 60, 80]}
    if kind == "http":
        assert (given["y_False"], given["packed"], given["async"]) == (y, y, y)
    else:
        assert given["stream"] == y[0]
    assert given["boxes"] == [[32, 32, 160, 160]]
    assert given["labels"] == ["a-good"]
    for said, word in zip((given["none"], given["wrong"], given["nobody"]), REFUSED[kind], strict=True):
        assert word in said
