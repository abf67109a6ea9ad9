"""The demo counts what its PLC hears: objects, and among them outlines and turned boxes."""

import msgspec

from agent.demo.observations import Observations
from agent.messages.payloads import DetectedObject, DetectionsPayload

CLASSES = {"fill-check": frozenset({"full", "short"}), "lay-check": frozenset({"straight", "askew"})}


def heard(model: str, seq: int, *objects: DetectedObject) -> bytes:
    said = DetectionsPayload(
        device="demo",
        line="line-1",
        stream="belt",
        product=None,
        ready=False,
        model=f"{model}:n@1",
        boot="a",
        seq=seq,
        frame=seq,
        captured_at="2026-01-01T06:00:00.000Z",
        latency_ms=1.0,
        width=64,
        height=48,
        objects=list(objects),
    )
    return msgspec.json.encode(said)


def test_outlines_and_turned_boxes_are_counted() -> None:
    box = (0.0, 0.0, 8.0, 8.0)
    plain = DetectedObject(label="full", class_=0, score=0.9, box=box)
    ring = msgspec.structs.replace(plain, polygons=[[0.0, 0.0, 8.0, 0.0, 8.0, 8.0]])
    turned = msgspec.structs.replace(plain, label="askew", angle=0.5, corners=((0, 0), (8, 0), (8, 8), (0, 8)))
    seen = Observations(CLASSES)
    seen.take("x/stream/belt/detections", heard("fill-check", 1, ring, ring))
    seen.take("x/stream/belt/detections", heard("lay-check", 2, turned, plain))
    report = seen.report()
    assert (report["detections"], report["outlined"], report["turned"]) == (4, 2, 1)
    assert report["wrong_model"] == 1, "a label of another model"
