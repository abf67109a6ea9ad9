"""Stream states by the counters of their slots, on a clock of the test's own."""

import time
from collections.abc import Callable, Iterator
from typing import Literal, cast

import pytest

from agent.app.children.cameras import Cameras
from agent.messages.children import CameraOpened, CameraSetup
from agent.processes.loop import Loop
from agent.processes.slots.frame_slot import SlotWriter
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import StreamSettings


class Watched:
    """One stream without a camera process; the test offers its frames."""

    def __init__(self, settings: StreamSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.restarts = 0
        self.loop = Loop()
        supervisor = Supervisor(self.loop, lambda _child, _message: None)
        self.streams = Cameras((settings,), supervisor, lambda _stream, status, _detail: self.said.append(status))
        self._now_ns = time.monotonic_ns()
        monkeypatch.setattr(supervisor, "restart", self._restarted)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self._now_ns)
        self.writer = SlotWriter(self.streams.slots()[settings.id].descriptors())
        self.streams.take(f"camera {settings.id}", CameraOpened(settings.id, 4, 4, 0.0, "a camera"))

    def _restarted(self, _child: str, _detail: str) -> None:
        self.restarts += 1

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.1)):
            self._now_ns += 100_000_000
            self.streams.tick()

    def offer(self) -> None:
        self.writer.buffer(4, 4)
        self.writer.offer(self._now_ns, self._now_ns)

    def close(self) -> None:
        self.streams.close()
        self.loop.close()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(fps: float = 15, stall_s: float = 3) -> Watched:
        settings = StreamSettings(id="cam-1", line="line-1", source="rtsp://10.0.0.5/x", fps=fps, stall_s=stall_s)
        made.append(Watched(settings, monkeypatch))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_stream_without_a_frame_stalls_within_the_time_that_it_is_given(watch: Callable[..., Watched]) -> None:
    stream = watch()
    stream.pass_s(0.1)
    stream.offer()
    stream.pass_s(2.5)
    assert stream.said == ["online"]
    stream.pass_s(0.4)
    assert (stream.said[-1], stream.restarts > 0) == ("stalled", True)


def test_a_stream_that_is_to_bring_a_frame_now_and_then_does_not_stall_in_between(
    watch: Callable[..., Watched],
) -> None:
    stream = watch(fps=0.2)
    for _ in range(5):
        stream.pass_s(5.2)
        stream.offer()
    stream.pass_s(0.1)
    assert (stream.said, stream.restarts) == (["online"], 0)
    stream.pass_s(7)
    assert stream.said[-1] == "stalled"


def test_a_triggered_stream_is_online_once_it_is_open_and_never_stalls(watch: Callable[..., Watched]) -> None:
    stream = watch(stall_s=0)
    stream.pass_s(60)
    assert (stream.said, stream.restarts) == (["online"], 0)


def test_a_larger_model_restarts_the_cameras_whose_frames_are_scaled_and_no_others(
    watch: Callable[..., Watched],
) -> None:
    stream = watch()
    stream.streams.models_changed(640)
    stream.streams.take("camera cam-1", CameraOpened("cam-1", 1920, 1080, 25.0, "a camera", "FFmpeg (why)"))
    stream.streams.models_changed(1280)
    assert stream.restarts == 0
    assert stream.streams.decoders() == {"cam-1": "FFmpeg (why)"}
    opened = CameraOpened("cam-1", 1920, 1080, 25.0, "a camera", "nvv4l2decoder", is_scaled=True)
    stream.streams.take("camera cam-1", opened)
    assert stream.streams.decoders() == {"cam-1": "nvv4l2decoder"}
    stream.streams.models_changed(640)
    assert stream.restarts == 0
    stream.streams.models_changed(960)
    assert stream.restarts == 1
    stream.streams.models_changed(0)
    assert stream.restarts == 2
    stream.streams.models_changed(640)
    assert stream.restarts == 2


@pytest.mark.parametrize(("hwdec", "wanted"), [("auto", True), ("off", False)])
def test_a_camera_process_hears_whether_to_decode_in_hardware_and_for_which_model(
    hwdec: Literal["auto", "off"], wanted: object
) -> None:
    settings = StreamSettings(id="cam-1", line="line-1", source="rtsp://10.0.0.5/x", hwdec=hwdec)
    started: list[CameraSetup] = []

    class Starting:
        def start(self, spec: ChildSpec) -> None:
            started.append(cast("CameraSetup", spec.setup()))

    streams = Cameras((settings,), cast("Supervisor", Starting()), lambda *_: None, 640)
    streams.start()
    streams.models_changed(320)
    streams.start()
    streams.close()
    assert [(one.hwdec, one.model_side) for one in started] == [(wanted, 640), (wanted, 320)]
