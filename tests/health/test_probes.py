"""Every probe keeps the protocol; each reads its source's recordings for what they mean, in our units."""

import copy
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.recorded import NVMLError, RecordedJtop, RecordedNvml, Said, lay_out, recording

from agent.health.probes import Probe, ProbeAbsentError
from agent.health.probes.dummy import DummyProbe
from agent.health.probes.jtop import JtopProbe
from agent.health.probes.nvml import NvmlProbe
from agent.health.probes.psutil import PsutilProbe
from agent.health.probes.sysfs import SysfsProbe
from agent.health.sensors.reading import GpuMemory, Reading, Zone
from agent.messages.errors import TransientError

ORIN = recording("jtop-orin-nx")
MAKERS: dict[str, Callable[[Path], Probe]] = {
    "dummy": lambda _folder: DummyProbe(Reading("dummy", zones={"cpu": Zone(40.0, 90.0)})),
    "jtop, Orin NX": lambda _folder: JtopProbe(lambda: RecordedJtop(ORIN)),
    "jtop, Xavier NX": lambda _folder: JtopProbe(lambda: RecordedJtop(recording("jtop-xavier-nx"))),
    "sysfs, Orin Nano": lambda folder: SysfsProbe(lay_out(recording("sysfs-orin-nano"), folder)),
    "sysfs, mini PC": lambda folder: SysfsProbe(lay_out(recording("sysfs-mini-pc"), folder)),
    "sysfs, nothing there": SysfsProbe,
    "sysfs, this machine": lambda _folder: SysfsProbe(),
    "nvml, two T4": lambda _folder: NvmlProbe(lambda: RecordedNvml(recording("nvml-t4"))),
    "nvml, Thor": lambda _folder: NvmlProbe(lambda: RecordedNvml(recording("nvml-thor"))),
    "psutil, this machine": lambda _folder: PsutilProbe(),
}


@pytest.fixture(params=MAKERS)
def probe(request: pytest.FixtureRequest, tmp_path: Path) -> Probe:
    return MAKERS[request.param](tmp_path)


def test_a_reading_has_plausible_values_in_our_units(probe: Probe) -> None:
    reading = probe.read()
    assert reading.source == probe.name
    assert all(-55 <= zone.celsius <= 150 for zone in reading.zones.values())
    assert all(zone.limit_c is None or 40 <= zone.limit_c <= 150 for zone in reading.zones.values())
    assert reading.gpu_load is None or 0 <= reading.gpu_load <= 1
    assert reading.power_w is None or 0 < reading.power_w < 2000
    assert all(0 <= value < 2000 for value in reading.rails_w.values())


def test_a_probe_reads_again_after_it_was_closed(probe: Probe) -> None:
    first = probe.read()
    probe.close()
    probe.close()
    again = probe.read()
    assert again.zones.keys() == first.zones.keys()
    assert again.board == first.board


def test_jtop_gives_the_board_its_system_and_its_power_in_watts() -> None:
    reading = JtopProbe(lambda: RecordedJtop(ORIN)).read()
    assert reading.board == "NVIDIA Jetson Orin NX (16GB ram)"
    assert reading.system == "L4T 36.4.7, JetPack 6.2.1"
    assert reading.power_mode == "15W"
    assert reading.power_w == pytest.approx(7.802)
    assert reading.rails_w == {"VDD_CPU_GPU_CV": pytest.approx(2.103), "VDD_SOC": pytest.approx(2.376)}
    assert reading.gpu_load == pytest.approx(0.345)
    assert reading.slowed is None


def test_jtop_leaves_out_what_is_offline_and_knows_some_limits() -> None:
    zones = JtopProbe(lambda: RecordedJtop(ORIN)).read().zones
    assert zones.keys() == {"cpu", "gpu", "nvme Composite", "tj"}
    assert zones["nvme Composite"] == Zone(44.85, 81.85)
    assert zones["cpu"] == Zone(51.312, None)


@pytest.mark.parametrize(("temp", "power"), [(51312, 7802000), ("51", "7802"), (float("nan"), -5)])
def test_jtop_values_in_another_unit_are_left_out(temp: object, power: object) -> None:
    said = copy.deepcopy(ORIN)
    said["temperature"]["cpu"]["temp"] = temp
    said["power"]["tot"]["power"] = power
    reading = JtopProbe(lambda: RecordedJtop(said)).read()
    assert "cpu" not in reading.zones
    assert "gpu" in reading.zones
    assert reading.power_w is None


def test_jtop_power_that_contradicts_its_own_volts_and_amperes_is_left_out() -> None:
    said = copy.deepcopy(ORIN)
    said["power"]["rail"]["VDD_SOC"]["power"] = 2  # watts, where milliwatts were expected
    assert JtopProbe(lambda: RecordedJtop(said)).read().rails_w.keys() == {"VDD_CPU_GPU_CV"}


def test_jtop_without_optional_parts_still_reads() -> None:
    said: Said = {"board": {"hardware": {}}, "nvpmodel": None, "temperature": {}, "power": {}, "gpu": {}}
    assert JtopProbe(lambda: RecordedJtop(said)).read() == Reading("jtop")


@pytest.mark.parametrize("trouble", ["silent", "raises"])
def test_jtop_is_opened_anew_by_a_new_object_after_trouble(trouble: str) -> None:
    made: list[RecordedJtop] = []

    def make() -> RecordedJtop:
        made.append(RecordedJtop(ORIN))
        return made[-1]

    probe = JtopProbe(make)
    probe.read()
    probe.read()
    if trouble == "silent":
        made[0].is_ok = False
    else:
        made[0].error = RuntimeError("Lost connection with jtop server")
    with pytest.raises((TransientError, RuntimeError)):
        probe.read()
    assert probe.read().board
    assert [(one.started, one.closed) for one in made] == [(1, 1), (1, 0)]


def test_without_jetson_stats_the_source_is_absent() -> None:
    with pytest.raises(ProbeAbsentError, match="not installed"):
        JtopProbe().read()


def test_sysfs_reads_a_jetson_without_jetson_stats(tmp_path: Path) -> None:
    reading = SysfsProbe(lay_out(recording("sysfs-orin-nano"), tmp_path)).read()
    assert reading.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert reading.system == "L4T 36.4.3, JetPack 6"
    assert reading.power_mode == "25W"
    assert reading.zones == {"cpu": Zone(50.562, 99.0), "gpu": Zone(48.875, 94.5)}
    assert reading.gpu_load == pytest.approx(0.612), "the GPU's, not the video engine's"
    assert reading.power_w == pytest.approx(5.573, abs=0.001)
    assert reading.rails_w == {"VDD_CPU_GPU_CV": pytest.approx(1.331, abs=0.001)}
    assert reading.slowed == ("gpu-throttle-alert",)


def test_sysfs_takes_no_placeholder_for_a_limit_and_no_fan_for_slowing(tmp_path: Path) -> None:
    reading = SysfsProbe(lay_out(recording("sysfs-mini-pc"), tmp_path)).read()
    assert reading.board == "Intel(R) Client Systems NUC11TNKi5"
    assert reading.zones == {"acpitz": Zone(27.8, 109.0), "x86_pkg_temp": Zone(63.0, None)}
    assert reading.slowed == ()
    assert reading.power_w is None


def test_an_unknown_power_mode_and_release_are_named_by_number(tmp_path: Path) -> None:
    files = recording("sysfs-orin-nano")
    files["var/lib/nvpmodel/status"] = "pmode:0007\n"
    files["etc/nv_tegra_release"] = "# R52 (release), REVISION: 1.0, GCID: 1\n"
    reading = SysfsProbe(lay_out(files, tmp_path)).read()
    assert (reading.power_mode, reading.system) == ("mode 7", "L4T 52.1.0")


def test_nvml_reads_every_card_and_why_one_is_slowed() -> None:
    reading = NvmlProbe(lambda: RecordedNvml(recording("nvml-t4"))).read()
    assert reading.zones == {"gpu": Zone(67.0, 93.0), "gpu1": Zone(91.0, 93.0)}
    assert reading.rails_w == {"gpu": 41.25, "gpu1": 69.9}
    assert reading.power_w == pytest.approx(111.15)
    assert reading.gpu_load == 1.0
    assert reading.slowed == ("gpu: power", "gpu1: heat")
    assert reading.system == "NVIDIA driver 580.95.05"
    assert reading.gpu == GpuMemory(11_000_000_000, 16_106_127_360, {4242: 1_200_000_000})


def test_nvml_leaves_out_what_a_card_does_not_support() -> None:
    reading = NvmlProbe(lambda: RecordedNvml(recording("nvml-thor"))).read()
    assert reading.zones == {"gpu": Zone(45.0, None)}
    assert reading.power_w is None
    assert reading.gpu_load == pytest.approx(0.12)
    assert reading.gpu is None, "its memory is the processor's"


def test_nvml_starts_anew_after_an_error_and_is_absent_without_a_driver() -> None:
    library = RecordedNvml(recording("nvml-t4"))
    probe = NvmlProbe(lambda: library)
    probe.read()
    library.error = NVMLError("GPU is lost")
    with pytest.raises(NVMLError):
        probe.read()
    assert library.running == 0
    library.error = None
    probe.read()
    assert library.running == 1
    with pytest.raises(ProbeAbsentError, match="driver"):
        NvmlProbe(lambda: RecordedNvml({}, has_driver=False)).read()


def test_nvml_on_a_machine_without_a_card_is_absent() -> None:
    with pytest.raises(ProbeAbsentError):
        NvmlProbe().read()


def test_psutil_takes_the_warning_mark_or_stays_below_the_critical_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sensor:
        def __init__(self, label: str, current: float, high: float | None, critical: float | None) -> None:
            self.label, self.current, self.high, self.critical = label, current, high, critical

    said = {
        "k10temp": [Sensor("Tctl", 61.5, None, None)],
        "coretemp": [Sensor("Package id 0", 70.0, 80.0, 100.0), Sensor("", 69.0, 100.0, 100.0)],
        "odd": [Sensor("", 65261.85, 0.0, 0.0)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: said)
    reading = PsutilProbe().read()
    assert reading.zones == {
        "k10temp_Tctl": Zone(61.5, None),
        "coretemp_Package id 0": Zone(70.0, 80.0),
        "coretemp_1": Zone(69.0, 90.0),
    }
    assert reading.fallback
