"""`bench tasks` times the decoding of all tasks on outputs that hold the objects it says."""

from agent.bench.tasks import decoding


def test_all_objects_of_each_task_are_decoded() -> None:
    figures = decoding.measure(quick=True)
    assert figures["objects"] == dict.fromkeys(("detect", "segment", "pose", "obb"), 20)
    assert all(time_ms > 0 for time_ms in figures["decode_ms"].values())
