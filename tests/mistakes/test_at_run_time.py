"""Each row of docs/mistakes.md, "At run time": the message names the cause and the cure."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from support.brokers import free_port
from support.camera_answers import OPTIONS, Answering, rtsp_answer
from support.plant_bench import BASE, Bench, acks, alerts, plant
from support.tiny_models import write_tiny_model

from agent.app.children import cameras
from agent.app.configuration.model_changes import after_adding, require_unused
from agent.app.observability.systemd_status import SystemdStatus
from agent.app.outbound.refusals import Refusals
from agent.capture.source import Patience
from agent.capture.sources import create
from agent.capture.video import device
from agent.control.events import StreamChanged
from agent.control.state import Now, State
from agent.doctor.host import try_binds
from agent.doctor.service import RunningService, try_service
from agent.files import file_sha256
from agent.health.systemd import Notifier
from agent.messages.errors import ChangeoverError, MistakeError
from agent.messages.events import Received
from agent.messages.references import ModelReference
from agent.messages.texts.camera_names import CameraFormat
from agent.models.keeping.copying import Release
from agent.models.store import Store
from agent.mqtt.endpoint.connect_errors import login_advice
from agent.settings import Settings, load

PAGE: Final = Path(__file__).parents[2] / "docs" / "mistakes.md"
Test = TypeVar("Test", bound=Callable[..., None])
HELD: Final[set[str]] = set()


def row(number: str) -> Callable[[Test], Test]:
    """Mark the test of one row."""

    def marked(test: Test) -> Test:
        assert number not in HELD
        HELD.add(number)
        return test

    return marked


def refused(bench: Bench, topic: str, payload: bytes, *, retained: bool = False) -> str:
    """Send a command that is refused; return the reason and what people read of it."""
    (ack,) = acks(bench.give(Received(f"{BASE}/{topic}", payload, retained)))
    assert ack.result == "rejected"
    told: list[bytes] = []
    refusals = Refusals(told.append, BASE)
    refusals.add(ack)
    refusals.tick(Now(1.0, 1.7e9))
    (one,) = json.loads(told[0])
    assert one["topic"] == topic
    return f"{one['reason']}: {one['detail']}"


def holds(text: str, *words: str) -> None:
    for word in words:
        assert word in text, text


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.start()
    return made


# ---- commands


@row("R1")
def test_a_wrong_line_is_told_with_the_lines_that_there_are(bench: Bench) -> None:
    holds(refused(bench, "line/line-9/product/set", b"17"), "unknown_line", "'line-9'", "known lines: line-1, line-2")


@row("R2")
def test_an_unknown_product_is_told_with_those_that_are_known(bench: Bench) -> None:
    said = refused(bench, "line/line-1/product/set", b"bottle_500")
    holds(said, "unknown_product", "'bottle_500'", "known products: bottle-500, bottle-330, 17, big")
    (alert,) = bench.state.alerts.values()
    holds(alert.detail or "", "'bottle_500'", "bottle-330")


@row("R3")
def test_a_number_in_binary_is_told_with_how_to_send_it(bench: Bench) -> None:
    holds(refused(bench, "line/line-1/product/set", b"\0\0\0\x31"), "not_understood", "in binary", "send it as text")


@row("R4")
def test_a_retained_command_is_told_to_be_cleared(bench: Bench) -> None:
    holds(refused(bench, "cmd/reload", b'{"id":"a"}', retained=True), "retained", "clear it")


@row("R5")
def test_a_model_that_is_not_in_the_catalog_is_told_with_where_to_look(bench: Bench) -> None:
    holds(refused(bench, "line/line-1/model/set", b"capcheck"), "unknown_model", "'capcheck'", "changeover models list")


@row("R6")
def test_an_unknown_verb_is_told_with_those_that_there_are(bench: Bench) -> None:
    holds(refused(bench, "cmd/restart", b"{}"), "not_understood", "rollback, reload, cancel, log")


@row("R7")
def test_a_command_without_its_line_is_told_which_there_are(bench: Bench) -> None:
    holds(refused(bench, "cmd/rollback", b"{}"), "unknown_line", "say which line", "line-1, line-2")


@row("R8")
def test_a_wrong_log_level_is_told_with_the_right_ones(bench: Bench) -> None:
    said = refused(bench, "cmd/log", b'{"level":"trace"}')
    holds(said, "not_understood", "debug, info, warning", '{"level": "debug", "for_s": 600}')


@row("R9")
def test_a_command_that_came_too_late_is_told_so(bench: Bench) -> None:
    old = b'{"value":"17","at":"2020-01-01T00:00:00Z","ttl_s":30}'
    holds(refused(bench, "line/line-1/product/set", old), "expired", "time to live")


@row("R10")
def test_a_line_that_waits_for_a_product_says_on_which_topic(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        status = SystemdStatus(State.of(plant()), Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
        status.tick(0.0, {"worker": 0.1}, link_up=True)
        said = [manager.recv(4096).decode() for _ in range(2)]
        status.close()
    (line,) = [one for one in said if one.startswith("STATUS=")]
    holds(line, f"line-1 waits for a product on {BASE}/line/line-1/product/set", "1 more wait")


# ---- cameras


def failure(source: str, *, patience: Patience = Patience(5.0, 2.0)) -> str:  # noqa: B008 - frozen
    made = None
    try:
        made = create(source, lambda _text: None, patience)
        made.open()
        made.grab()
    except ChangeoverError as error:
        return str(error)
    finally:
        if made is not None:
            made.close()
    raise AssertionError(f"{source} can be read")


@row("R11")
def test_a_camera_whose_name_does_not_resolve() -> None:
    holds(failure("rtsp://no-such-camera.invalid/stream"), "resolve", "check the name in `source`", "DNS")


@row("R12")
def test_a_camera_that_refuses_the_connection() -> None:
    holds(failure(f"rtsp://127.0.0.1:{free_port()}/stream"), "refused", "check address and port")


@pytest.mark.parametrize(("status", "words"), [("401 Unauthorized", "check user and password")])
@row("R13")
def test_a_camera_that_wants_another_password(status: str, words: str) -> None:
    with closing(Answering({"*": rtsp_answer(status), "OPTIONS": OPTIONS})) as server:
        holds(failure(f"rtsp://{server.place}/stream"), "401", words)


@row("R14")
def test_a_camera_without_this_path() -> None:
    with closing(Answering({"*": rtsp_answer("404 Not Found"), "OPTIONS": OPTIONS})) as server:
        holds(failure(f"rtsp://{server.place}/stream"), "404", "check the path in `source`")


@row("R15")
def test_a_camera_that_sends_no_frame() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        holds(failure(f"rtsp://{place}/stream", patience=Patience(1.0, 1.0)), "no frame", "is it on, is it sending")


@row("R16")
def test_a_camera_that_is_not_there() -> None:
    holds(failure("/dev/video99"), "there is no /dev/video99", "plugged in", "ls /dev/video*")


@row("R17")
def test_a_camera_that_another_program_uses_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    code = "import sys, time; held = open(sys.argv[1]); print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        os.close(theirs)
        monkeypatch.setattr("cv2.VideoCapture", _Closed)  # a terminal is no camera, busy or not
        with pytest.raises(ChangeoverError) as caught:
            device(name, CameraFormat()).open()
        holds(str(caught.value), "in use by", f"(process {holder.pid})", "one program at a time")
    finally:
        holder.kill()
        holder.communicate()
        os.close(ours)


class _Closed:
    """The capture that cv2 gives for a device that it cannot open."""

    def __init__(self, *_: Any) -> None: ...  # noqa: ANN401 - cv2's own

    def isOpened(self) -> bool:  # noqa: N802 - cv2's name
        return False


@row("R18")
def test_a_file_that_ended_names_loop(bench: Bench) -> None:
    actions = bench.give(StreamChanged("cam-1", "ended", cameras.ENDED))
    (alert,) = alerts(actions)
    assert (alert.code, alert.on, alert.stream) == ("camera", True, "cam-1")
    holds(alert.detail or "", "came to its end", "`loop = true`")


# ---- broker


@row("R19")
def test_a_changed_password_that_the_service_cannot_read_again() -> None:
    said = login_advice(
        "the broker refused: Not authorized", "box", "/run/credentials/changeover.service/mqtt-password"
    )
    holds(said, "systemd's copy of /etc/changeover/credentials/mqtt-password", "systemctl restart changeover")


@row("R20")
def test_a_wrong_password_in_a_file_of_ones_own() -> None:
    said = login_advice("the broker refused: Bad user name or password", "box", "/etc/changeover/password")
    holds(said, "mqtt.username", "/etc/changeover/password", "read again")


@row("R21")
def test_a_broker_that_wants_a_user_and_gets_none() -> None:
    holds(login_advice("the broker refused: Not authorized", None, None), "mqtt.username is not set", "password_file")


@row("R22")
def test_the_doctor_says_that_the_service_holds_an_earlier_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "mqtt-password").write_text("old")
    (tmp_path / "mqtt-password").write_text("new")
    running = RunningService(os.getpid(), "changeover", credentials=tmp_path / "held")
    said = [str(one) for one in try_service(running, [f"LoadCredential=mqtt-password:{tmp_path}/mqtt-password"])]
    (failed,) = [one for one in said if one.startswith("fail")]
    holds(failed, "credential mqtt-password", "was changed", "holds the earlier one", "systemctl restart changeover")
    assert not [one for one in said if "old" in one.split() or "new" in one.split()]


# ---- what is served


def bind_of(bind: str) -> str:
    settings = Settings.model_validate({"device": {"id": "box"}, "http": {"bind": bind}})
    (finding,) = try_binds(settings)
    return str(finding)


@row("R23")
def test_a_port_that_is_taken_names_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = bind_of(f"127.0.0.1:{taken.getsockname()[1]}")
    holds(said, "fail", "http.bind", "is in use by", f"(process {os.getpid()})", "choose another port")


@row("R24")
def test_an_address_of_another_machine_is_told_with_those_of_this_one() -> None:
    holds(bind_of("203.0.113.7:9108"), "fail", "no address of this device", "127.0.0.1")


@row("R25")
def test_a_privileged_port_is_told_as_one() -> None:
    holds(bind_of("127.0.0.1:1"), "http.bind", "privileged port", "the service may not", "choose")


# ---- models


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_tiny_model(tmp_path / "cap.onnx")
    sha256 = file_sha256(tmp_path / "cap.onnx")
    rows = [
        f'[[model]]\nname = "cap"\nvariant = "n"\nversion = "{number}"\nfile = "cap.onnx"\nsha256 = "{sha256}"\n'
        for number in (1, 2)
    ]
    (tmp_path / "models.toml").write_text("".join(rows))
    (tmp_path / "changeover.toml").write_text(
        f'[http]\nbind = "127.0.0.1:{free_port()}"\n[line.line-1]\ndefault = "cap"\nproducts = {{ "17" = "cap:n" }}\n'
        '[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "one.avi"\n'
    )
    return load(tmp_path / "changeover.toml", {})


@row("R26")
def test_a_model_in_use_is_not_removed(settings: Settings) -> None:
    with pytest.raises(MistakeError) as caught:
        require_unused(settings, ModelReference("cap", "n", "2"))
    holds(str(caught.value), "cap:n@2 is in use by", "the default of line-1", "product '17' of line-1", "--force")
    require_unused(settings, ModelReference("cap", "n", "1"))


@row("R27")
def test_a_model_that_was_added_says_whether_a_reload_is_needed(settings: Settings, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "new.onnx")
    store = Store(settings.catalog.file, tmp_path / "store")
    added = store.add(Release(ModelReference("cap", "n", "3")), tmp_path / "new.onnx")
    holds(after_adding(settings, added), "read at the next start", "the default of line-1", "mean it")
    silent = settings.model_copy(update={"http": settings.http.model_copy(update={"bind": ""})})
    holds(after_adding(silent, added), "needs a reload", "systemctl reload changeover")


@row("R28")
@pytest.mark.parametrize("content", [b"\0" * 10_000, b"any bytes", b"\x10\0\0\0" + b'{"a": "b"}      ' + b"x" * 9000])
def test_an_engine_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "best.engine").write_bytes(content)
    with pytest.raises(MistakeError) as caught:
        Store(tmp_path / "models.toml", tmp_path / "store").add(
            Release(ModelReference("cap", "n", "1"), ("cap",)), tmp_path / "best.engine"
        )
    holds(str(caught.value), "best.engine", "no TensorRT plan", "trtexec")


def test_each_row_of_the_page_has_its_test() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## At run time")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (R\d+) \|", section, re.MULTILINE)
    assert len(rows) == len(set(rows)) >= 20
    assert set(rows) == HELD
