"""Requests are answered beside a stream that takes all the time there is."""

from pathlib import Path

from support.brokers import Mosquitto
from support.gateway_plant import gateway_plant, jpeg

REQUESTS = 20


def test_requests_get_a_share_beside_a_stream_without_a_pace(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with gateway_plant(mosquitto, tmp_path, fps=0) as plant, plant.client() as client:
        plant.agent.until(lambda: len(plant.agent.on("stream/cam-1/detections")) > REQUESTS)
        mark = len(plant.agent.heard)
        for _ in range(REQUESTS):
            assert client.post("/v2/models/alpha/detect", content=jpeg()).status_code == 200
        plant.agent.until(lambda: len(plant.agent.on("stream/cam-1/detections", mark)) > REQUESTS)
