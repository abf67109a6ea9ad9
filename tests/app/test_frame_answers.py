"""Frame timing of streams, as control knows it from the worker."""

from agent.app.children.frame_answers import Answers
from agent.control.events import Seen
from agent.control.plant import LineRules
from agent.control.state import Line
from agent.messages.children import Detections, StageTimes, StreamProgress
from agent.messages.references import ModelReference
from agent.processes.slots.frame_slot import SlotCounters
from agent.settings import StreamSettings

STREAM = StreamSettings(id="cam-1", line="line-1", source="/dev/video0")
GROUPS = {"line-1": "default"}
MODEL = ModelReference("a", "n", "1")
COUNTERS = {"cam-1": SlotCounters(offered=1, overwritten=0, taken=1, torn=0, last_offered_ns=1)}


def seen(answers: Answers, model: str = str(MODEL)) -> Seen:
    line = Line("line-1", LineRules(MODEL, "n", {}, 30.0))
    line.serving.model = model
    return answers.seen(COUNTERS, [line])["cam-1"]


def turn_s(answers: Answers, model: str = str(MODEL)) -> float:
    return seen(answers, model).turn_s


def answer(model: str, infer_s: float) -> Detections:
    return Detections("cam-1", model, 1, 1, b"", (), StageTimes(infer=infer_s * 1000))


def test_a_slow_models_first_frame_may_take_as_long_as_its_warm_up_foretells() -> None:
    answers = Answers((STREAM,), GROUPS)
    assert turn_s(answers) == 0.0
    answers.told([StreamProgress("cam-1", 5, 0, 0, 0, infer_ns=2_500_000_000)])
    assert turn_s(answers) == 2.5
    answers.worker_lost(["cam-1"])
    assert turn_s(answers) == 0.0


def test_a_fast_model_does_not_inherit_the_time_of_the_slow_one_before_it() -> None:
    answers = Answers((STREAM,), GROUPS)
    answers.answered(answer("slow:x@1", 4.0))
    assert turn_s(answers, "slow:x@1") == 4.0
    answers.told([StreamProgress("cam-1", 5, 5, 0, 0, infer_ns=20_000_000)])
    assert turn_s(answers) == 0.02
    answers.answered(answer("slow:x@1", 4.0))  # it was in flight when the line changed over
    assert turn_s(answers) == 0.02
    answers.answered(answer(str(MODEL), 0.03))
    assert turn_s(answers) == 0.03


def test_a_turn_is_told_apart_from_one_inference() -> None:
    streams = tuple(StreamSettings(id=f"cam-{number}", line="line-1", source="/dev/video0") for number in range(10))
    line = Line("line-1", LineRules(MODEL, "n", {}, 30.0))
    line.serving.model = str(MODEL)
    answers = Answers(streams, GROUPS)
    answers.told([StreamProgress(one.id, 5, 5, 0, 0, infer_ns=250_000_000) for one in streams])
    shown = answers.seen({one.id: COUNTERS["cam-1"] for one in streams}, [line])["cam-1"]
    assert (shown.turn_s, shown.infer_s) == (2.5, 0.25)
    assert answers.turns_s() == {"default": 2.5}
