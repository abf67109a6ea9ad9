"""The installer on each kind of box: device patterns, the unit's drop-in, and its words."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import boxes

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "changeover.service"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (the package systemd)"
)

Box = Path


@pytest.fixture
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    """Give the folder of a box, which stands in for /."""
    return boxes.build(boxes.read(request.param), tmp_path / request.param)


def on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("box", [name], indirect=True)


def bash(script: str, box: Box, **more: str) -> str:
    environ = {"PATH": "/usr/bin:/bin", "BOX": str(box), **more}
    libraries = "; ".join(
        f". {ROOT}/scripts/lib/{name}.sh" for name in ("setup", "service", "packages", "devices", "system_python")
    )
    command = ["bash", "-euc", f"{libraries}; {script}"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, cwd=box)
    assert said.returncode == 0, said.stderr
    return said.stdout + said.stderr


def drop_in(box: Box) -> list[str]:
    return bash("device_drop_in", box).splitlines()[1:]


def allowed(box: Box) -> set[str]:
    return {
        line.removeprefix("DeviceAllow=").rpartition(" ")[0] for line in drop_in(box) if line.startswith("DeviceAllow=")
    }


@pytest.mark.parametrize("box", boxes.NAMES, indirect=True)
def test_no_box_opens_disks_input_or_buses(box: Box) -> None:
    for name in allowed(box):
        assert not {"sda", "mmcblk0", "nvme0", "i2c", "input", "mem", "usb_device"} & {name, name.rpartition("/")[2]}, (
            name
        )
        assert "i2c" not in name


@on("orin_jp6")
def test_an_orin_may_open_what_cuda_opens_and_the_decoders(box: Box) -> None:
    names = allowed(box)
    nodes = (
        "nvmap",
        "host1x-fence",
        "nvgpu/igpu0/ctrl",
        "nvgpu/igpu0/nvsched",
        "nvhost-nvsched-gpu",
        "nvhost-ctrl-gpu",
    )
    assert {f"/dev/{one}" for one in nodes} <= names
    assert {"/dev/v4l2-nvdec", "/dev/nvhost-nvdec", "/dev/nvhost-vic", "/dev/nvsciipc", "/dev/nvidiactl"} <= names
    assert {"char-nvidia", "char-drm", "char-capture-vi-channel", "char-nvgpu", "char-nvhost-gpu"} <= names
    assert "PrivateTmp=no" in drop_in(box)  # for Argus


@on("thor_jp7")
def test_a_thor_has_the_cards_driver_and_the_jetsons_nodes(box: Box) -> None:
    names = allowed(box)
    assert {
        "/dev/nvidia-uvm",
        "/dev/nvidia0",
        "/dev/nvidia-caps/nvidia-cap1",
        "/dev/host1x-fence",
        "/dev/nvmap",
    } <= names
    assert {"char-nvidia", "char-nvidia-uvm", "char-nvidia-caps"} <= names


@pytest.mark.parametrize("box", ["pc_card", "pc_headless"], indirect=True)
def test_a_card_of_its_own_is_made_ready_before_the_service_also_without_a_screen(box: Box) -> None:
    lines = drop_in(box)
    service, unit = lines[: lines.index("[Unit]")], lines[lines.index("[Unit]") :]
    assert "ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c 0" in service
    assert {"DeviceAllow=char-nvidia rwm", "DeviceAllow=char-nvidia-uvm rwm"} <= set(service)
    assert "Wants=nvidia-persistenced.service" in unit
    assert any(line.startswith("After=") and "nvidia-persistenced.service" in line for line in unit)
    assert bash("module_list", box).splitlines()[1:] == ["nvidia-uvm"]


@pytest.mark.parametrize("box", ["orin_jp6", "thor_jp7", "pc_plain"], indirect=True)
def test_other_boxes_have_none_of_that(box: Box) -> None:
    text = "\n".join(drop_in(box))
    assert "modprobe" not in text
    assert "persistenced" not in text
    assert "rwm" not in text
    assert bash("has_card && echo a card || echo none", box) == "none\n"


@needs_systemd
@pytest.mark.parametrize("box", boxes.NAMES, indirect=True)
def test_systemd_reads_the_unit_with_each_boxs_drop_in(box: Box, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/changeover/current/bin/changeover", "/bin/true"))
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    (folder / "50-devices.conf").write_text("\n".join(drop_in(box)) + "\n")
    said = subprocess.run(
        ["systemd-analyze", "--no-pager", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert "Unknown" not in said.stderr


# ---- the system's Python packages


def system_python(box: Box, *modules: str) -> Path:
    """Write a stand-in for the system's Python, which has these `MODULE=VERSION`."""
    here = box / "system"
    here.mkdir(exist_ok=True)
    for module in modules:
        name, _, version = module.partition("=")
        text = f"__version__ = {version!r}\n"
        if name == "cv2":
            has = "True" if not version.endswith("-plain") else "False"
            text += f"CAP_GSTREAMER = 1800\nclass videoio_registry:\n    hasBackend = staticmethod(lambda _: {has})\n"
        (here / f"{name}.py").write_text(text)
    return _python(box / "python3", here)


def _python(path: Path, *folders: Path, prefix: Path | None = None) -> Path:
    own = f"sys.prefix = {str(prefix)!r}; " if prefix else ""
    start = f"import sys; {own}sys.path[:0] = {[str(one) for one in folders]!r}; code = sys.argv.pop(1); exec(code)"
    path.write_text(
        f"""#!/bin/sh
[ "$3" = -c ] || {{ echo "$*" >>{path}.log; exit 0; }}
shift 3
exec /usr/bin/python3 -I -B -c "{start}" "$@"
"""
    )
    path.chmod(0o755)
    return path


def left(box: Box, python: Path) -> str:
    return bash("left_out", box, SYSTEM_PYTHON=str(python))


@on("orin_jp6")
def test_torch_and_onnxruntime_of_a_jetsons_system_are_not_hidden_by_pips(box: Box, tmp_path: Path) -> None:
    python = system_python(box, "torch=2.5.0a0", "onnxruntime=1.23.0")
    assert left(box, python).split() == ["torch", "torchvision", "triton", "onnxruntime"]
    work = tmp_path / "work"
    work.mkdir()
    script = f"WORK={work}; HERE={ROOT}; EXTRAS=ultralytics,onnxruntime; lock_files | without_left_out"
    said = bash(script, box, SYSTEM_PYTHON=str(python)).splitlines()
    assert (
        said.pop() == "bash: left out, since the system's Python has its own: torch, torchvision, triton, onnxruntime"
    )
    files = [line for line in said if line.startswith("/")]
    names = {
        line.partition("==")[0] for file in files for line in Path(file).read_text().splitlines() if line[:1].isalpha()
    }
    assert {"ultralytics", "openvino", "onnx"} <= names
    assert not {"torch", "torchvision", "onnxruntime"} & names
    text = next(Path(file) for file in files if file.endswith("/ultralytics.txt")).read_text()
    before = (ROOT / "lock" / "jetpack" / "ultralytics.txt").read_text()
    assert before.count("--hash=") > text.count("--hash=") > 100  # their hashes went with them, the others are there
    assert all(line.startswith(("    --hash=", "\t")) or "==" in line for line in text.splitlines() if line.strip())


@on("orin_jp6")
def test_where_the_system_has_no_torch_pips_is_installed(box: Box) -> None:
    assert left(box, system_python(box)) == ""


@on("pc_card")
def test_a_pcs_venv_does_not_see_the_system_so_pips_torch_stays(box: Box) -> None:
    assert left(box, system_python(box, "torch=2.9.1")) == ""


@pytest.mark.parametrize(
    ("version", "answer"), [("4.8.0", "yes"), ("4.10.0-dev", "yes"), ("4.6.0", ""), ("4.8.0-plain", "")]
)
@on("orin_jp6")
def test_the_systems_opencv_is_used_where_it_is_new_enough_and_has_gstreamer(
    version: str, answer: str, box: Box
) -> None:
    python = system_python(box, f"cv2={version}")
    assert bash("has_better_opencv && echo yes || true", box, SYSTEM_PYTHON=str(python)).strip() == answer


@on("orin_jp6")
def test_the_installer_says_what_the_venv_imports_and_from_where(box: Box) -> None:
    python = system_python(box, "cv2=4.8.0", "tensorrt=10.3.0")
    venv = box / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "lib").mkdir()
    (venv / "lib" / "torch.py").write_text("__version__ = '2.9.1'\n")
    seen = _python(venv / "bin" / "python", venv / "lib", box / "system", prefix=venv)
    said = bash(f"prefer_system {venv}", box, SYSTEM_PYTHON=str(python))
    assert "cv2: 4.8.0 of the system" in said
    assert "tensorrt: 10.3.0 of the system" in said
    assert "torch: 2.9.1 from pip" in said
    assert "onnxruntime: not there" in said
    assert Path(f"{seen}.log").read_text() == "-I -m pip uninstall --yes opencv-python\n"


@on("orin_jp6")
def test_a_system_opencv_that_is_too_old_leaves_pips_in_place_and_says_so(box: Box) -> None:
    python = system_python(box, "cv2=4.6.0")
    (box / "venv" / "bin").mkdir(parents=True)
    _python(box / "venv" / "bin" / "python", box / "system", prefix=box / "venv")
    said = bash(f"prefer_system {box}/venv", box, SYSTEM_PYTHON=str(python))
    assert "older than 4.7 or has no GStreamer: pip's is used" in said
    assert not (box / "venv" / "bin" / "python.log").exists()


def dry_run(box: Box, *arguments: str) -> str:
    python = system_python(box, "cv2=4.8.0", "torch=2.5.0")
    environ = os.environ | {"BOX": str(box), "SYSTEM_PYTHON": str(python)}
    command = [str(ROOT / "scripts" / "install"), "--dry-run", *arguments]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 0, said.stderr
    return said.stdout + said.stderr


needs_systemctl = pytest.mark.skipif(shutil.which("systemctl") is None, reason="needs systemctl (the package systemd)")


@needs_systemctl
@pytest.mark.parametrize("box", ["orin_jp6", "thor_jp7"], indirect=True)
def test_a_dry_run_on_a_jetson_tells_the_truth_about_torch_and_jtop(box: Box) -> None:
    said = dry_run(box, "--extras", "ultralytics,jetson")
    assert "the venv sees the system's own Python packages" in said
    assert "--system-site-packages" in said
    assert "left out, since the system's Python has its own: torch, torchvision, triton" in said
    assert "torch: 2.5.0 of the system" in said
    assert "tensorrt: not there" in said
    assert "JetPack's torch" not in said
    assert "sysfs is enough" in said
    assert "modules-load.d" not in said


@needs_systemctl
@pytest.mark.parametrize("box", ["pc_card", "pc_headless"], indirect=True)
def test_a_dry_run_on_a_pc_with_a_card_has_its_driver_loaded_when_the_system_starts(box: Box) -> None:
    said = dry_run(box)
    assert "would write: /etc/modules-load.d/changeover.conf" in said
    assert "would write: /etc/systemd/system/changeover.service.d/50-devices.conf" in said
    assert "system-site-packages" not in said
    assert "of the system" not in said


@needs_systemctl
@on("pc_plain")
def test_a_dry_run_on_a_plain_pc_says_nothing_of_gpus(box: Box) -> None:
    said = dry_run(box)
    assert "modules-load.d" not in said
    assert "torch" not in said
