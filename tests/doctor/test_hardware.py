"""Doctor's words on GPU nodes and power modes, on each kind of box, and its recordings."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import boxes

from agent import cli
from agent.doctor.hardware import try_hardware
from agent.doctor.recorder import Recording, cleaned, record
from agent.health.probes.sysfs import SysfsProbe
from agent.power_mode import power_mode, power_modes


@pytest.fixture
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return boxes.build(boxes.read(request.param), tmp_path / request.param)


def on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("box", [name], indirect=True)


def said(box: Path) -> list[str]:
    return [str(finding) for finding in try_hardware(box)]


@on("orin_jp6")
def test_a_jetson_in_a_slow_mode_is_told_the_fastest(box: Path) -> None:
    mode, gpu = said(box)
    assert mode.startswith("note  power mode: 15W, which holds the GPU back: `sudo nvpmodel -m 2` (MAXN_SUPER)")
    assert "jetson_clocks" in mode
    assert gpu == "ok    gpu: the Jetson's GPU: 5 device nodes can be opened"
    assert power_mode(box) == SysfsProbe(box).read().power_mode == "15W"
    assert power_modes(box) == {0: "15W", 1: "25W", 2: "MAXN_SUPER"}


@on("orin_jp6")
def test_a_node_that_the_unit_does_not_allow_is_named(box: Path) -> None:
    (box / "dev" / "host1x-fence").unlink()
    (box / "dev" / "host1x-fence").mkdir()  # as little a file to open as one that a unit keeps closed
    _, gpu = said(box)
    assert gpu.startswith("fail  gpu: this user may not open /dev/host1x-fence (")
    assert "scripts/install --devices" in gpu


@on("thor_jp7")
def test_a_thor_at_its_fastest_is_well(box: Path) -> None:
    mode, gpu = said(box)
    assert mode.startswith("ok    power mode: MAXN;")
    assert gpu.startswith("ok    gpu: the Jetson's GPU")


@on("pc_card")
def test_a_card_whose_nodes_are_there_is_well(box: Path) -> None:
    assert said(box) == ["ok    gpu: the NVIDIA card: 3 device nodes can be opened"]


@on("pc_headless")
def test_a_card_without_a_screen_says_which_node_is_missing_and_what_makes_it(box: Path) -> None:
    (gpu,) = said(box)
    assert gpu.startswith("fail  gpu: no /dev/nvidia-uvm, so CUDA finds no card: `sudo nvidia-modprobe -u -c 0`")


@on("pc_headless")
def test_a_card_without_its_driver_is_a_note(box: Path) -> None:
    (box / "proc/driver/nvidia/version").unlink()
    (gpu,) = said(box)
    assert gpu.startswith("note  gpu: there is an NVIDIA card without its driver")


@on("pc_plain")
def test_other_boxes_hear_nothing_of_it(box: Path) -> None:
    assert said(box) == []
    assert power_mode(box) == ""


@pytest.mark.parametrize("box", boxes.NAMES, indirect=True)
def test_a_recording_of_a_box_holds_what_the_box_was_made_of(box: Path, request: pytest.FixtureRequest) -> None:
    made = boxes.read(request.node.callspec.params["box"])
    again = json.loads(record(box))
    assert again["made"] == "recorded"
    assert {path: text for path, text in again["files"].items() if path != "proc/devices"}.items() <= made.files.items()
    assert again["files"]["proc/devices"] == made.files["proc/devices"]
    kept = {name for name in made.dev if not name.startswith(("i2c", "sd", "mmc", "nvme"))}
    assert set(again["dev"]) == kept
    assert set(again["programs"]) == set(made.programs)


def test_every_box_says_that_it_was_made_by_hand() -> None:
    assert {boxes.read(name).made for name in boxes.NAMES} == {"by hand"}


def test_names_addresses_and_serials_are_left_out() -> None:
    text = (
        "Serial\t\t: 1424419087\nflags : fpu serialize\nGPU UUID: \t GPU-12345678-1234-1234-1234-123456789abc\n"
        "at 48:b0:2d:12:34:56 and 10.0.0.17 and fe80:0:0:0:1:2:3:4, box-7.plant, release 36.4.3\n"
        "id 12345678-1234-1234-1234-123456789abc\n"
    )
    assert cleaned(text, ["box-7.plant", "box-7"]) == (
        "flags : fpu serialize\nat MAC and ADDRESS and ADDRESS, HOST, release 36.4.3\nid UUID\n"
    )


def test_who_built_a_module_and_short_addresses_are_left_out() -> None:
    text = "Release Build  (alice@plant-builder)  Fri; dvs-builder@U16-I1, fe80::1, 2001:db8::7:1"
    assert cleaned(text, []) == "Release Build  (USER@HOST)  Fri; USER@HOST, ADDRESS, ADDRESS"
    assert cleaned("PCI_SLOT_NAME=0000:01:00.0 std::mutex", []) == "PCI_SLOT_NAME=0000:01:00.0 std::mutex"


def test_a_link_is_recorded_without_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box-7.plant")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "video9").symlink_to("/run/box-7.plant/video0")
    (tmp_path / "dev" / "video-entrance-SN123").symlink_to("video9")
    assert json.loads(record(tmp_path))["dev"] == {"video9": "-> /run/HOST/video0"}


def test_a_recording_of_this_device_holds_no_name_of_it(tmp_path: Path) -> None:
    file = tmp_path / "box.json"
    answer = CliRunner().invoke(cli._commands, ["doctor", "--record", str(file)], catch_exceptions=False)
    assert answer.exit_code == 0
    recorded = json.loads(file.read_text())
    assert recorded["v"] == 1
    assert "proc/devices" in recorded["files"]
    assert "Character devices" in recorded["files"]["proc/devices"]
    assert recorded["versions"]["changeover"]
    name = socket.gethostname()
    assert len(name) < 2 or f'"{name}"' not in file.read_text()
    Recording(**recorded)


def test_a_recording_goes_to_standard_output_too() -> None:
    answer = CliRunner().invoke(cli._commands, ["doctor", "--record", "-"], catch_exceptions=False)
    assert json.loads(answer.output)["made"] == "recorded"
