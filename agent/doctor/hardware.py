"""Hardware check: a Jetson's power mode, and the device nodes that CUDA opens. Not tested on hardware."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.doctor.finding import Finding, fail, note, ok
from agent.power_mode import power_mode, power_modes

_ROOT: Final = Path("/")
_FASTEST: Final = "MAXN"
_JETSON: Final = "dev/nvmap"
_JETSON_NODES: Final = ("dev/nvmap", "dev/host1x-fence", "dev/nvgpu/igpu0/ctrl", "dev/nvhost-ctrl-gpu", "dev/nvidiactl")
_CARD_NODES: Final = ("dev/nvidiactl", "dev/nvidia0", "dev/nvidia-uvm")
_DISPLAY: Final = "0x03"
_NVIDIA: Final = "0x10de"
_WRITE_ANEW: Final = "`sudo scripts/install --devices`, then restart the service"


def try_hardware(root: Path = _ROOT) -> Iterator[Finding]:
    """Check what only devices with an NVIDIA GPU have; yield nothing on others. `root` stands in for / in tests."""
    mode = power_mode(root)
    if mode:
        yield _mode(mode, power_modes(root))
    if (root / _JETSON).exists():
        yield _nodes("the Jetson's GPU", [root / node for node in _JETSON_NODES if (root / node).exists()], root)
    elif has_nvidia_card(root):
        yield _card(root)


def has_nvidia_card(root: Path = _ROOT) -> bool:
    """Return True where the PCI bus has a display or 3D controller by NVIDIA."""
    return any(
        _text(folder / "vendor") == _NVIDIA and _text(folder / "class").startswith(_DISPLAY)
        for folder in (root / "sys/bus/pci/devices").glob("*")
    )


def _mode(mode: str, modes: dict[int, str]) -> Finding:
    fastest = next((number for number, name in sorted(modes.items()) if name.startswith(_FASTEST)), None)
    if fastest is None or mode.startswith(_FASTEST):
        return ok("power mode", f"{mode}; models are measured anew after a change of it")
    advice = (
        f"`sudo nvpmodel -m {fastest}` ({modes[fastest]}) is the fastest, and `sudo jetson_clocks` keeps its clocks up"
    )
    return note("power mode", f"{mode}, which holds the GPU back: {advice}, where supply and cooling allow it")


def _card(root: Path) -> Finding:
    if not (root / "proc/driver/nvidia/version").exists():
        return note("gpu", "there is an NVIDIA card without its driver: models run on the CPU (docs/gpu.md)")
    missing = [node for node in _CARD_NODES if not (root / node).exists()]
    if missing:
        names = ", ".join(f"/{node}" for node in missing)
        return fail(
            "gpu",
            f"no {names}, so CUDA finds no card: `sudo nvidia-modprobe -u -c 0` now; for each start {_WRITE_ANEW}",
        )
    return _nodes("the NVIDIA card", [root / node for node in _CARD_NODES], root)


def _nodes(what: str, nodes: list[Path], root: Path) -> Finding:
    closed = [f"/{node.relative_to(root)} ({why})" for node in nodes if (why := _why_closed(node))]
    if closed:
        return fail("gpu", f"this user may not open {', '.join(closed)}: groups video and render, and {_WRITE_ANEW}")
    return ok("gpu", f"{what}: {len(nodes)} device nodes can be opened")


def _why_closed(node: Path) -> str:
    """Return why this process cannot open a device node for reading and writing; empty where it can.

    The node is really opened, because a systemd unit may deny it although its permissions allow it.
    """
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
