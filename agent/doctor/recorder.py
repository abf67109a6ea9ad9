"""Records what a maintainer needs of a device's hardware, as one JSON document without names, addresses and serials."""

import os
import platform
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from agent import __version__
from agent.processes.package_version import version_of

_ROOT: Final = Path("/")
_FILES: Final = (
    *("etc/os-release", "etc/nv_tegra_release", "etc/nvpmodel.conf", "var/lib/nvpmodel/status"),
    *("proc/devices", "proc/cpuinfo", "proc/meminfo", "proc/device-tree/model", "proc/device-tree/compatible"),
    *("proc/driver/nvidia/version", "proc/driver/nvidia/gpus/*/information", "sys/module/nvidia*/version"),
    *("sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name", "sys/firmware/acpi/platform_profile"),
    *("sys/class/thermal/thermal_zone*/type", "sys/class/thermal/thermal_zone*/temp"),
    *("sys/class/thermal/thermal_zone*/trip_point_*_type", "sys/class/thermal/thermal_zone*/trip_point_*_temp"),
    *("sys/class/thermal/cooling_device*/type", "sys/class/thermal/cooling_device*/*_state"),
    *("sys/class/hwmon/hwmon*/name", "sys/class/hwmon/hwmon*/*_label", "sys/class/hwmon/hwmon*/*_input"),
    *("sys/class/devfreq/*/governor", "sys/class/devfreq/*/*_freq", "sys/class/devfreq/*/device/load"),
    "sys/class/devfreq/*/device/of_node/name",
    *("sys/class/video4linux/video*/name", "sys/class/drm/card*/device/uevent"),
    *("sys/bus/pci/devices/*/vendor", "sys/bus/pci/devices/*/device", "sys/bus/pci/devices/*/class"),
)
_DEV: Final = (
    *("nvidia*", "nvidia-caps/*", "nvhost*", "nvgpu/*", "nvgpu/*/*", "nvmap", "nvsched*", "nvsciipc", "host1x-fence"),
    *(
        "v4l2-nv*",
        "tegra*",
        "capture-*",
        "dri/card*",
        "dri/renderD*",
        "dma_heap/*",
        "accel/*",
        "video[0-9]*",
        "media[0-9]*",
    ),
)
_PROGRAMS: Final = (
    *("usr/sbin/nvargus-daemon", "usr/sbin/nvpmodel", "usr/bin/jetson_clocks", "usr/bin/nvidia-modprobe"),
    *("usr/bin/nvidia-persistenced", "usr/bin/gst-launch-1.0", "usr/lib/systemd/systemd", "usr/bin/nvidia-smi"),
)
_MODULES: Final = (
    *("openvino", "onnxruntime", "tensorrt", "torch", "torchvision", "ultralytics"),
    *("cv2", "numpy", "av", "pynvml", "jtop"),
)
_LIBRARIES: Final = re.compile(
    r"^\s*(lib(?:cuda|cudart|cudnn|cublas|nvinfer|nvonnxparser|nvidia-ml|nvmm)\w*\.so\S*)", re.MULTILINE
)
_ELEMENTS: Final = (
    "nvv4l2decoder",
    "nvvidconv",
    "nvarguscamerasrc",
    "vah264dec",
    "vah265dec",
    "h264parse",
    "h265parse",
)
_MOST_BYTES: Final = 64 << 10
_TIMEOUT_S: Final = 20.0

# Lines that name one device, rather than its kind.
_PRIVATE_LINE: Final = re.compile(
    r"^.*\b(?:serial|uuid|guid|hostname|mac address)\b.*\n?", re.IGNORECASE | re.MULTILINE
)
_ADDRESSES: Final = (
    (re.compile(r"[\w.+-]+@[\w.-]+"), "USER@HOST"),  # who built a driver's module, and where
    (re.compile(r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b"), "MAC"),
    (re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), "ADDRESS"),
    (re.compile(r"\b[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\b"), "UUID"),
    (re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:])"), "ADDRESS"),
    (re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:)+(?::[0-9A-Fa-f]{1,4})+(?![\w:])"), "ADDRESS"),
)


class Recording(msgspec.Struct, frozen=True):
    """Description of one device's hardware; tests use recordings as fixtures."""

    made: str
    """Origin: "recorded" on a device, or "by hand" for a fixture of the tests."""
    files: dict[str, str | None]
    """Content by path relative to /; None for a file that exists and cannot be read."""
    dev: dict[str, str]
    """By name below /dev: kind, mode, number and group of a node, or the target of a link."""
    programs: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    libraries: tuple[str, ...] = ()
    """NVIDIA libraries that the dynamic linker knows (ldconfig)."""
    elements: tuple[str, ...] = ()
    """Installed GStreamer elements that concern hardware."""
    v: int = 1


def record(root: Path = _ROOT) -> bytes:
    """Return the recording as indented JSON; changes nothing, and reads only what this module lists."""
    whole = socket.gethostname()
    names = [one for one in (whole, whole.partition(".")[0]) if len(one) > 1]  # the whole first, because it has both
    recording = Recording(
        made="recorded",
        files={path: cleaned(text, names) for path, text in _files(root)},
        dev={name: cleaned(kind, names) or "" for name, kind in _nodes(root / "dev")},
        programs=tuple(one for one in _PROGRAMS if (root / one).exists()),
        versions={name: cleaned(version, names) or "" for name, version in _versions()},
        libraries=tuple(sorted(set(_LIBRARIES.findall(_said("ldconfig", "-p"))))),
        elements=tuple(one for one in _ELEMENTS if _has_element(one)),
    )
    return msgspec.json.format(msgspec.json.encode(recording, order="sorted")) + b"\n"


def cleaned(text: str | None, names: list[str]) -> str | None:
    """Return `text` without serials, UUIDs, addresses and the host's `names`; None stays None."""
    if text is None:
        return None
    text = _PRIVATE_LINE.sub("", text)
    for pattern, word in _ADDRESSES:
        text = pattern.sub(word, text)
    for name in names:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "HOST", text)
    return text


def _files(root: Path) -> Iterator[tuple[str, str | None]]:
    for pattern in _FILES:
        for path in sorted(root.glob(pattern)):
            yield str(path.relative_to(root)), _text(path)


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None


def _nodes(dev: Path) -> Iterator[tuple[str, str]]:
    for pattern in _DEV:
        for path in sorted(dev.glob(pattern)):
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                yield str(path.relative_to(dev)), f"-> {path.readlink()}"
            elif stat.S_ISCHR(info.st_mode):
                number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
                yield str(path.relative_to(dev)), f"{stat.filemode(info.st_mode)} {number} group {info.st_gid}"


def _versions() -> Iterator[tuple[str, str]]:
    yield "changeover", __version__
    yield "python", platform.python_version()
    yield "kernel", f"{platform.release()} {platform.machine()}"
    yield "systemd", _said("systemctl", "--version").partition("\n")[0]
    yield "gstreamer", _said("gst-launch-1.0", "--version").partition("\n")[0]
    yield from ((name, version) for name in _MODULES if (version := version_of(name)))


def _has_element(name: str) -> bool:
    program = shutil.which("gst-inspect-1.0")
    if program is None:
        return False
    asked = subprocess.run([program, "--exists", name], capture_output=True, check=False, timeout=_TIMEOUT_S)
    return asked.returncode == 0


def _said(program: str, *arguments: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        return ""
    try:
        said = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout
