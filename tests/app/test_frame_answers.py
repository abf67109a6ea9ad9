"""Frame timing of streams, as control knows it from the worker."""

from agent.app.children.frame_answers import Answers
from agent.control.plant import LineRules
from agent.control.state import Line
from agent.messages.children import StreamProgress
from agent.messages.references import ModelReference
from agent.processes.slots.frame_slot import SlotCounters
from agent.settings import StreamSettings

STREAM = StreamSettings(id="cam-1", line="line-1", source="/dev/video0")
MODEL = ModelReference("a", "n", "1")
COUNTERS = {"cam-1": SlotCounters(offered=1, overwritten=0, taken=1, torn=0, last_offered_ns=1)}


def turn_s(answers: Answers) -> float:
    line = Line("line-1", LineRules(MODEL, "n", {}, 30.0))
    line.serving.model = str(MODEL)
    return answers.seen(COUNTERS, [line])["cam-1"].turn_s


def test_a_slow_models_first_frame_may_take_as_long_as_its_warm_up_foretells() -> None:
    answers = Answers((STREAM,))
    assert turn_s(answers) == 0.0
    answers.told([StreamProgress("cam-1", 5, 0, 0, 0, infer_ns=2_500_000_000)])
    assert turn_s(answers) == 2.5
    answers.worker_lost()
    assert turn_s(answers) == 0.0
