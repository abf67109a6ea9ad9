"""Artifacts are made in the background, once, and a failure costs nothing but speed."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.tiny_models import write_endless_model

from agent import isolated
from agent.inference.artifacts.artifact_store import ArtifactStore, Made
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import artifact_key
from agent.inference.preparing import background_builder
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.yolo.metadata import FileFacts
from agent.messages.errors import Reason
from agent.messages.references import ModelVersion
from agent.models.preparation import STEP_S, Outcome, Preparation, Request
from agent.processes.scheduling import priorities

DEADLINE_S = 60.0
PLENTY = 1 << 30

NewMaker = Callable[..., BackgroundBuilder]
During = Callable[[], AbstractContextManager[object]]


@pytest.fixture
def new_maker(tmp_path: Path) -> Iterator[NewMaker]:
    with ExitStack() as stack:

        def start(quiet_s: float = 0.0, during: During = nullcontext) -> BackgroundBuilder:
            maker = BackgroundBuilder("cpu", tmp_path / "cache", PLENTY, quiet_s, during)
            maker.start()
            stack.callback(maker.stop)
            return maker

        yield start


@pytest.fixture
def entry(tiny_model: Callable[..., Path], version: Callable[..., ModelVersion], tmp_path: Path) -> ModelVersion:
    path = tiny_model(tmp_path / "tiny.onnx")
    return version(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), backend="openvino")


class Recorder:
    """Stands in for the process: notes what is asked for, and answers `outcome`."""

    def __init__(self, outcome: Outcome) -> None:
        self.requests: list[Request] = []
        self.outcome = outcome

    def __call__(self, request: Request, tell: Callable[[str], None]) -> "Recorder":
        del tell
        self.requests.append(request)
        return self

    def run(self) -> Outcome:
        return self.outcome

    def kill(self) -> None:
        pass


def wait_until(is_there: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_there():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.01)


def test_what_is_asked_for_is_there_a_while_later(new_maker: NewMaker, entry: ModelVersion, tmp_path: Path) -> None:
    pytest.importorskip("agent.inference.backends.openvino")
    new_maker().ask(entry)
    wait_until(lambda: ArtifactStore(tmp_path / "cache").find(artifact_key(entry, "cpu")))


def test_a_failure_is_said_once(
    new_maker: NewMaker, entry: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(Outcome("failed", "No space left on device"))
    monkeypatch.setattr(background_builder, "Preparation", recorder)
    maker = new_maker()
    maker.ask(entry)
    wait_until(lambda: "No space left" in caplog.text)
    maker.ask(entry)
    maker.stop()
    assert len(recorder.requests) == 1
    assert caplog.text.count("No space left") == 1


def test_an_artifact_is_asked_for_again_where_the_power_mode_changed(
    new_maker: NewMaker, entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, key = ArtifactStore(tmp_path / "cache"), artifact_key(entry, "cpu")
    assert key is not None

    def make(profile: Profile, folder: Path) -> Made:
        (folder / "a").write_bytes(b"artifact")
        return Made("a", FileFacts(), (32, 32), ((1, 5, 21),), profile)

    monkeypatch.setattr(background_builder, "power_mode", lambda: "MAXN")
    for profile, asked in (
        (Profile(), 0),
        (Profile(inference_ms=1.0, power_mode="MAXN"), 0),
        (Profile(inference_ms=1.0), 1),
    ):
        recorder = Recorder(Outcome("present", ""))
        monkeypatch.setattr(background_builder, "Preparation", recorder)
        artifacts.add(key, entry.reference, PLENTY, partial(make, profile))
        maker, ended = new_maker(), list[object]()
        maker.ask(entry)
        if asked:
            wait_until(recorder.requests.copy)
        maker.prepare_first(entry, ended.append)
        wait_until(ended.copy)
        maker.stop()
        assert len(recorder.requests) == asked + 1


def test_an_endless_model_is_refused_and_the_next_one_is_built(
    new_maker: NewMaker,
    entry: ModelVersion,
    version: Callable[..., ModelVersion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("agent.inference.backends.openvino")
    path = write_endless_model(tmp_path / "endless.onnx")
    endless = version(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), backend="openvino")

    def request(model: ModelVersion, *rest: Any, **how: Any) -> Request:  # noqa: ANN401 - as `Request`
        return replace(Request(model, *rest, **how), step_s=5.0 if model == endless else STEP_S)

    monkeypatch.setattr(background_builder, "Request", request)
    failures: list[Exception | None] = []
    maker = new_maker()
    maker.prepare_first(endless, failures.append)
    maker.ask(entry)
    maker.prepare_first(endless, failures.append)
    wait_until(lambda: len(failures) == 2)
    assert [getattr(failure, "reason", None) for failure in failures] == ["load_timeout"] * 2
    assert "ended after 5 s" in str(failures[0])
    assert "models prepare tiny:n@1" in str(failures[0])
    wait_until(lambda: ArtifactStore(tmp_path / "cache").find(artifact_key(entry, "cpu")))


@pytest.mark.parametrize(("reason", "runs"), [("load_timeout", 1), ("load_failed", 2)])
def test_a_build_that_ran_out_of_time_is_refused_for_longer_than_one_that_failed(
    new_maker: NewMaker, entry: ModelVersion, monkeypatch: pytest.MonkeyPatch, reason: Reason, runs: int
) -> None:
    recorder = Recorder(Outcome("failed", "", reason))
    monkeypatch.setattr(background_builder, "Preparation", recorder)
    monkeypatch.setattr(background_builder, "_AGAIN_S", 0.0)
    monkeypatch.setattr(background_builder, "_AGAIN_TIMES", 1e9)
    ended: list[object] = []
    maker = new_maker()
    maker.prepare_first(entry, ended.append)
    maker.prepare_first(entry, ended.append)
    wait_until(lambda: len(ended) == 2)
    assert len(recorder.requests) == runs


def test_a_preparation_runs_within_what_it_is_given(
    new_maker: NewMaker, entry: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(Outcome("prepared", ""))
    monkeypatch.setattr(background_builder, "Preparation", recorder)
    seen: list[int] = []

    @contextmanager
    def during() -> Iterator[None]:
        yield
        seen.append(len(recorder.requests))

    new_maker(during=during).ask(entry)
    wait_until(lambda: seen)
    assert seen == [1]


def test_nothing_is_asked_for_what_has_no_artifact(
    new_maker: NewMaker, entry: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(Outcome("prepared", ""))
    monkeypatch.setattr(background_builder, "Preparation", recorder)
    maker = new_maker()
    maker.ask(ModelVersion("tiny", "n", "1", entry.path, "00", backend="ultralytics"))
    maker.ask(entry)
    wait_until(lambda: recorder.requests)
    assert [request.model for request in recorder.requests] == [entry]


def test_a_device_without_memory_is_spared(
    new_maker: NewMaker, entry: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background_builder, "_BYTES_A_FILE_BYTE", 1 << 40)
    recorder = Recorder(Outcome("prepared", ""))
    monkeypatch.setattr(background_builder, "Preparation", recorder)
    new_maker().ask(entry)
    wait_until(lambda: "event=prepare_left_out" in caplog.text)
    assert not recorder.requests


def test_requests_are_bounded(new_maker: NewMaker, entry: ModelVersion) -> None:
    maker = new_maker(quiet_s=DEADLINE_S)
    for number in range(20):
        maker.ask(ModelVersion("tiny", "n", "1", entry.path, f"{number:02}"))
    assert maker.left_out >= 20 - 16 - 1
    maker.stop()


class Held:
    """Stands in for processes that run until the test ends them, or the builder kills them."""

    def __init__(self) -> None:
        self.began: list[Request] = []
        self.hastened: list[ModelVersion] = []
        self.may_die = threading.Event()
        self.may_die.set()
        self._turn = threading.Condition()
        self._ended: set[ModelVersion] = set()

    def __call__(self, request: Request, tell: Callable[[str], None]) -> "HeldRun":
        del tell
        return HeldRun(self, request)

    def end(self, version: ModelVersion) -> None:
        with self._turn:
            self._ended.add(version)
            self._turn.notify_all()


class HeldRun:
    def __init__(self, held: Held, request: Request) -> None:
        self._held = held
        self._request = request
        self._is_killed = False

    def run(self) -> Outcome:
        held, version = self._held, self._request.model
        held.began.append(self._request)
        with held._turn:
            assert held._turn.wait_for(lambda: self._is_killed or version in held._ended, DEADLINE_S)
        assert held.may_die.wait(DEADLINE_S)
        return (
            Outcome("failed", "the process that prepares ended with -9") if self._is_killed else Outcome("present", "")
        )

    def kill(self) -> None:
        with self._held._turn:
            self._is_killed = True
            self._held._turn.notify_all()

    def hasten(self) -> None:
        self._held.hastened.append(self._request.model)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(background_builder, "Preparation", held)
    return held


@pytest.fixture
def other(entry: ModelVersion) -> ModelVersion:
    return replace(entry, name="other")


def test_the_one_of_most_haste_runs_and_what_it_replaced_runs_again(
    new_maker: NewMaker, entry: ModelVersion, held: Held
) -> None:
    background, patient, hurried = (replace(entry, name=name) for name in ("any", "soon", "now"))
    ended: list[str] = []
    maker = new_maker()
    maker.ask(background)
    wait_until(lambda: len(held.began) == 1)
    maker.prepare_first(patient, lambda failure: ended.append(f"patient {failure}"), is_patient=True)
    wait_until(lambda: len(held.began) == 2)
    maker.prepare_first(hurried, lambda failure: ended.append(f"hurried {failure}"))
    wait_until(lambda: len(held.began) == 3)
    for version in (hurried, patient, background):
        held.end(version)
    wait_until(lambda: len(held.began) == 5)
    assert [one.model.name for one in held.began] == ["any", "soon", "now", "soon", "any"]
    assert ended == ["hurried None", "patient None"]
    assert [one.idle_s > 0 for one in held.began] == [False, True, False, True, False]
    assert [one.is_awaited for one in held.began] == [False, True, True, True, False]


def test_a_patient_preparation_that_a_line_needs_goes_on_with_haste(
    new_maker: NewMaker, entry: ModelVersion, other: ModelVersion, held: Held
) -> None:
    ended: list[object] = []
    maker = new_maker()
    maker.prepare_first(entry, ended.append, is_patient=True)
    maker.prepare_first(other, ended.append, is_patient=True)
    wait_until(lambda: held.began)
    maker.hasten(entry)
    assert held.hastened == [entry]
    maker.hasten(other)
    held.end(entry)
    held.end(other)
    wait_until(lambda: len(ended) == 2)
    assert [one.model.name for one in held.began] == ["tiny", "other"], "equal haste kills nothing"
    assert held.began[1].idle_s == 0


def test_a_killed_preparation_that_is_hastened_before_its_end_runs_again(
    new_maker: NewMaker, entry: ModelVersion, other: ModelVersion, held: Held
) -> None:
    ended: list[object] = []
    maker = new_maker()
    maker.prepare_first(entry, ended.append, is_patient=True)
    wait_until(lambda: held.began)
    held.may_die.clear()
    maker.prepare_first(other, ended.append)
    maker.hasten(entry)
    held.may_die.set()
    held.end(entry)
    held.end(other)
    wait_until(lambda: len(ended) == 2)
    assert ended == [None, None]
    assert sorted(one.model.name for one in held.began) == ["other", "tiny", "tiny"]


def test_haste_reaches_a_preparation_that_is_about_to_begin(
    new_maker: NewMaker, entry: ModelVersion, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = new_maker()

    def compute_now(_version: ModelVersion, compute: str) -> str:
        maker.hasten(entry)
        return compute

    monkeypatch.setattr(background_builder, "compute_now", compute_now)
    ended: list[object] = []
    held.end(entry)
    maker.prepare_first(entry, ended.append, is_patient=True)
    wait_until(lambda: ended)
    assert [one.idle_s for one in held.began] == [0.0]


def test_what_a_load_no_longer_waits_for_delays_no_other(new_maker: NewMaker, entry: ModelVersion, held: Held) -> None:
    left, last = replace(entry, name="left"), replace(entry, name="last")
    ended: list[object] = []
    maker = new_maker()
    maker.prepare_first(entry, ended.append, is_patient=True)
    maker.prepare_first(left, lambda _: pytest.fail("its load has left"), is_patient=True)
    maker.prepare_first(last, ended.append, is_patient=True)
    wait_until(lambda: held.began)
    maker.leave(left)
    held.end(entry)
    held.end(last)
    wait_until(lambda: len(ended) == 2)
    assert [one.model.name for one in held.began] == ["tiny", "last"]


def test_a_load_that_comes_back_finds_its_preparation(new_maker: NewMaker, entry: ModelVersion, held: Held) -> None:
    ended: list[object] = []
    maker = new_maker()
    maker.prepare_first(entry, lambda _: pytest.fail("its load has left"), is_patient=True)
    wait_until(lambda: held.began)
    maker.leave(entry)
    maker.prepare_first(entry, ended.append)
    assert held.hastened == [entry]
    held.end(entry)
    wait_until(lambda: ended)
    assert (len(held.began), ended) == (1, [None])


def test_what_a_load_has_skipped_goes_on_in_the_background(
    new_maker: NewMaker, entry: ModelVersion, other: ModelVersion, held: Held
) -> None:
    ended: list[object] = []
    maker = new_maker()
    maker.prepare_first(entry, lambda _: pytest.fail("its load has left"), is_patient=True)
    wait_until(lambda: held.began)
    maker.leave(entry)
    maker.prepare_first(other, ended.append, is_patient=True)
    wait_until(lambda: len(held.began) == 2)
    held.end(other)
    wait_until(lambda: len(held.began) == 3)
    held.end(entry)
    assert [one.model.name for one in held.began] == ["tiny", "other", "tiny"]
    assert [one.is_awaited for one in held.began] == [True, True, False]
    assert ended == [None]


def test_what_a_disk_cannot_keep_is_told_to_the_load(
    new_maker: NewMaker, entry: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_builder, "Preparation", Recorder(Outcome("failed", "full", is_of_disk=True)))
    ended: list[object] = []
    new_maker().prepare_first(entry, ended.append, is_patient=True)
    wait_until(lambda: ended)
    assert isinstance(ended[0], background_builder.ArtifactDiskError)


def test_a_process_that_starves_may_compete_after_a_while(version: Callable[..., ModelVersion], tmp_path: Path) -> None:
    pytest.importorskip("agent.inference.backends.openvino")
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    path = write_endless_model(tmp_path / "endless.onnx")
    endless = version(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), backend="openvino")
    running = Preparation(
        Request(endless, "cpu", str(tmp_path / "cache"), is_awaited=True, idle_s=DEADLINE_S, nice=1), lambda _step: None
    )
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait_until(lambda: (policy(running), nice(running)) == (os.SCHED_IDLE, 11))
        running.hasten()
        wait_until(lambda: policy(running) == os.SCHED_OTHER)
        assert nice(running) == 11
    finally:
        running.kill()
        thread.join()


def test_one_for_which_a_line_comes_to_wait_has_no_nice_value_of_a_workers_start(
    version: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    pytest.importorskip("agent.inference.backends.openvino")
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    path = write_endless_model(tmp_path / "endless.onnx")
    endless = version(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), backend="openvino")
    running = Preparation(Request(endless, "cpu", str(tmp_path / "cache"), nice=1), lambda _step: None)

    def run_lowered() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priorities.LEAST)
        running.run()

    thread = threading.Thread(target=run_lowered)
    thread.start()
    try:
        wait_until(lambda: policy(running) == os.SCHED_IDLE)
        running.hasten()
        wait_until(lambda: policy(running) == os.SCHED_OTHER)
        assert nice(running) == 1
    finally:
        running.kill()
        thread.join()


def test_its_time_at_idle_priority_is_limited(version: Callable[..., ModelVersion], tmp_path: Path) -> None:
    pytest.importorskip("agent.inference.backends.openvino")
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    path = write_endless_model(tmp_path / "endless.onnx")
    endless = version(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), backend="openvino")
    request = Request(endless, "cpu", str(tmp_path / "cache"), is_awaited=True, idle_s=0.1)
    steps: list[str] = []
    running = Preparation(request, steps.append)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait_until(lambda: steps and policy(running) == os.SCHED_OTHER)
    finally:
        running.kill()
        thread.join()


@pytest.mark.parametrize(("sent", "reason"), [(signal.SIGSEGV, "load_failed"), (signal.SIGKILL, None)])
def test_a_crash_of_the_compiler_lies_in_the_model_and_a_kill_does_not(
    entry: ModelVersion, tmp_path: Path, sent: signal.Signals, reason: str | None
) -> None:
    running = Preparation(Request(entry, "cpu", str(tmp_path / "cache")), lambda _step: None)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(running.run()))
    thread.start()
    wait_until(lambda: running._process is not None)
    assert running._process is not None
    running._process.send_signal(sent)
    thread.join()
    assert (outcomes[0].result, outcomes[0].reason) == ("failed", reason)


class Ended(Preparation):
    """One whose process has ended before its request is written."""

    def _begin(self, step: str) -> None:
        super()._begin(step)
        assert self._process is not None
        self._process.wait()


def test_a_compiler_that_ends_before_its_request_is_written_tells_how(
    entry: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(isolated, "command", lambda _module: [sys.executable, "-I", "-S", "-c", crash])
    outcome = Ended(Request(entry, "cpu", str(tmp_path / "cache")), lambda _step: None).run()
    assert (outcome.result, outcome.reason) == ("failed", "load_failed")
    assert "-11" in outcome.detail


def test_a_child_that_has_ended_is_handed_nothing_without_an_error() -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""], stdin=subprocess.PIPE) as process:
        process.wait()
        isolated.hand_over(process, b"{}")
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0


def nice(running: Preparation) -> int:
    process = running._process
    return os.getpriority(os.PRIO_PROCESS, process.pid) if process is not None else -1


def policy(running: Preparation) -> int:
    process = running._process
    return os.sched_getscheduler(process.pid) if process is not None else -1
