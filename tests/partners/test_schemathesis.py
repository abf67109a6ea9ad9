"""Schemathesis sends what the OpenAPI document allows, and what it forbids; no request is answered with 500."""

import logging
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.gateway_plant import TOKENS, GatewayPlant, jpeg, own_gateway_plant
from support.partners import FOLDER

pytestmark = [pytest.mark.partners, pytest.mark.timeout(3000)]
_LOG = logging.getLogger(__name__)
PROGRAM = FOLDER / "triton" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 501, 503]
"""
GROWTH_BYTES = 10 << 20


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPlant]:
    if not PROGRAM.exists():
        pytest.skip("scripts/partners brings schemathesis")
    with own_gateway_plant(tmp_path_factory) as made:
        yield made


def run(plant: GatewayPlant, folder: Path, examples: int) -> int:
    """Return the number of requests that were sent, none of which was answered against the document."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [str(PROGRAM), "--config-file", "schemathesis.toml", "run", f"{plant.url}/v2/openapi.json"]
    command += ["--header", f"Authorization: Bearer {TOKENS['mes']}", "--checks", CHECKS, "--seed", "1"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", str(examples), "--no-shrink", "--max-failures", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2800, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-6000:]
    return sum(int(found) for found in re.findall(r"(\d+) generated", done.stdout))


@pytest.mark.parametrize("examples", [20, pytest.param(900, marks=pytest.mark.soak)])
def test_nothing_that_is_sent_is_answered_with_500(plant: GatewayPlant, tmp_path: Path, examples: int) -> None:
    process = psutil.Process(plant.agent.child("agent.web.web_process").pid)
    run(plant, tmp_path, 20)  # what is imported and cached at first
    before_bytes = process.memory_full_info().uss
    sent = run(plant, tmp_path, examples)
    grown = process.memory_full_info().uss - before_bytes
    _LOG.info("event=sent requests=%d grown_bytes=%d", sent, grown)
    assert sent > 10 * examples
    assert grown < GROWTH_BYTES
    assert "event=request_crashed" not in plant.agent.log()
    with plant.client() as client:
        assert client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200
