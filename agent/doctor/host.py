"""Device check: board, runtimes, memory, folders, disk, clock, and addresses to serve."""

import ipaddress
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

from agent.app.children.groups.memory_shares import divided
from agent.app.children.groups.walls import lacking_controllers
from agent.app.children.memory_budget import Budgets, decide, own_bytes
from agent.doctor.finding import Finding, fail, note, ok
from agent.doctor.subprocess_runner import run_apart
from agent.health.clock_sync import is_synchronised
from agent.health.metrics import running_agent
from agent.health.metrics.bind_faults import explain, is_privileged, try_bind
from agent.health.sensors.available_memory import available_bytes
from agent.messages.errors import TransientError
from agent.messages.short_lived.probe_results import ProbedCompute
from agent.processes.package_version import version_of
from agent.processes.walls import missing_walls
from agent.settings import Settings

HOSTS: Final = Path("/etc/hosts")
_BOARDS: Final = ("/proc/device-tree/model", "/sys/class/dmi/id/product_name")
_RUNTIMES: Final = ("openvino", "onnxruntime", "torch", "ultralytics", "tensorrt")
_SERVES: Final = ("starlette", "uvicorn", "wsproto", "grpclib", "protobuf", "pillow")
"""Packages of the extra `web`."""
_COMPUTE_MODULE: Final = "agent.inference.processors.probe_process"
_COMPUTE_DEADLINE_S: Final = 60.0
"""Timeout of the processor check; long, because a driver may load its modules at the first call."""
_SPARE_BYTES: Final = 200 * 2**20
_LEAST_BYTES: Final = 2**20
"""No model fits less."""


def try_host(settings: Settings) -> Iterator[Finding]:
    """Check device, runtimes, memory, permissions, disk and clock."""
    yield _device()
    yield _runtimes()
    yield from _compute(settings.device.compute)
    budgets = decide(settings)
    yield _budget(settings, budgets)
    yield from _groups(settings, budgets)
    yield from _folders(settings)
    yield _clock(settings)


def try_binds(settings: Settings) -> Iterator[Finding]:
    """Try to listen on each configured address; one that this device's running agent serves is right, too."""
    for key, bind in {"http.bind": settings.http.bind}.items():
        if not bind:
            yield note(key, "nothing is served")
        elif running_agent.ask(bind, settings.device.id) is not None:
            yield ok(key, f"{bind} is served by the running agent")
        else:
            yield _bind(key, bind)
    is_running = bool(settings.http.bind) and running_agent.ask(settings.http.bind, settings.device.id) is not None
    binds = {"web.bind": settings.web.bind, "web.grpc_bind": settings.web.grpc_bind}
    yield from names_in_binds(binds)
    for key, bind in binds.items():
        if bind and is_running:
            yield note(key, f"{bind} is the running agent's matter: the alert web_unavailable says what is wrong")
        elif bind:
            yield _bind(key, bind)
    yield from _web(settings)


def _web(settings: Settings) -> Iterator[Finding]:
    """Yield what keeps `[web]` from being served, or clients from being let in."""
    missing = [name for name in _SERVES if not version_of(name)]
    if settings.web.is_on and missing:
        yield fail("web", f"the extra `web` lacks {', '.join(missing)}: pip install 'changeover[web]'")
    if settings.web.is_on and (lacking := missing_walls()):
        yield note("web", f"a wall around the web process is missing: {'; '.join(lacking.values())}")
    if settings.web.is_on and settings.web.gateway and not settings.web.client:
        yield note("web", "the gateway lets nobody in: there is no [[web.client]] (docs/gateway.md)")


def names_in_binds(binds: dict[str, str]) -> Iterator[Finding]:
    """Yield a note for each address of `[web]` whose name only DNS knows, because the web process may not ask it."""
    known = {name.lower() for line in _read(str(HOSTS)).splitlines() for name in line.partition("#")[0].split()[1:]}
    for key, bind in binds.items():
        name = bind.rpartition(":")[0].strip("[]").lower()
        if name and not _is_address(name) and name not in known:
            yield note(key, f"{bind}: the web process asks no DNS; give an address, or enter the name in {HOSTS}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _bind(key: str, bind: str) -> Finding:
    try:
        try_bind(bind)
    except OSError as error:
        return fail(key, explain(bind, error))
    if is_privileged(bind):
        return note(key, f"{bind} is a privileged port: root can serve it, the service may not; choose another")
    return ok(key, f"{bind} can be served")


def _device() -> Finding:
    board = next((name for path in _BOARDS if (name := _read(path))), "unknown board")
    memory = psutil.virtual_memory().total / 1e9
    return ok("device", f"{board}, {platform.machine()}, {os.cpu_count()} cores, {memory:.1f} GB")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _runtimes() -> Finding:
    found = [f"{name} {version}" for name in _RUNTIMES if (version := version_of(name))]
    if not {"openvino", "onnxruntime", "torch"} & {one.split()[0] for one in found}:
        return fail("runtime", "none is installed: install the package again, or its extra onnxruntime or ultralytics")
    return ok("runtime", ", ".join(found))


def _compute(setting: str) -> Iterator[Finding]:
    """Report which processor the setting `compute` selects, why, and what its GPU lacks."""
    try:
        said = run_apart(_COMPUTE_MODULE, [setting], b"", _COMPUTE_DEADLINE_S)
    except TransientError as error:
        yield fail("compute", f"{setting}: {error}; the GPU's driver does not answer: restart the device")
        return
    chosen = msgspec.json.decode(said, type=ProbedCompute)
    text = f"{setting}: models run on {chosen.compute}, because {chosen.reason}"
    if chosen.missing and chosen.compute != "cpu":
        lacks = "; ".join(chosen.missing)
        yield fail("compute", f"{setting}: {chosen.compute} cannot start, and models are refused: {lacks}")
    elif chosen.missing:
        yield note("compute", f"{text}: {'; '.join(chosen.missing)}")
    else:
        yield ok("compute", text)
    if chosen.old_runtime is not None:
        yield note("compute", f"{chosen.old_runtime}: install a newer one")


def _budget(settings: Settings, budgets: Budgets) -> Finding:
    free_bytes = available_bytes()
    own = own_bytes(settings)
    text = f"{budgets.of_models / 1e6:.0f} MB for models (memory_budget {settings.device.memory_budget})"
    if budgets.device is not None:
        text += f"; host {budgets.host / 1e6:.0f} MB, GPU {budgets.device / 1e6:.0f} MB"
    text += f", of {free_bytes / 1e6:.0f} MB that are free"
    if not budgets.models_in_device and budgets.host + own > free_bytes:
        advice = f"lower device.memory_budget, the agent's own processes take up to {own / 1e6:.0f} MB"
        return fail("memory", f"{text}: {advice}")
    return ok("memory", text)


def _groups(settings: Settings, budgets: Budgets) -> Iterator[Finding]:
    """Report what several groups are guaranteed, and whether the kernel can hold them to it."""
    if len(settings.groups) == 1:
        return
    wanted = {name: group.memory for name, group in settings.groups.items()}
    parts = divided(wanted, budgets.of_models)
    text = f"{', '.join(f'{name} {size_bytes / 1e6:.0f} MB' for name, size_bytes in parts.items())} guaranteed"
    empty = [name for name, size_bytes in parts.items() if size_bytes < _LEAST_BYTES]
    if empty:
        yield fail("groups", f"{text}: no model fits {', '.join(empty)}, so lower [group.*] memory of the others")
    elif any(parts[name] < one.resolve(budgets.of_models, 0) for name, one in wanted.items()):
        yield note("groups", f"{text}, less than [group.*] memory asks for, which together is more than the budget")
    else:
        yield ok("groups", text)
    lacking = lacking_controllers()
    if lacking:
        yield note("groups", f"the kernel has no walls for them ({lacking}): their own ledger alone keeps them apart")
    else:
        yield ok("groups", "the kernel can wall them; `meta` says whether the running service's unit lets it")


def _folders(settings: Settings) -> Iterator[Finding]:
    needs_bytes = settings.outbox.max_bytes + _SPARE_BYTES
    for key, folder in (
        ("device.state_dir", settings.device.state_dir),
        ("catalog.store_dir", settings.catalog.store_dir),
    ):
        error = _unwritable(folder)
        if error:
            yield fail(
                "permissions",
                f"{folder} ({key}) {error}: give it to the user that runs the agent (this one is {_user()})",
            )
        else:
            yield ok("permissions", f"{folder} ({key}) can be written by {_user()}")
    free_bytes = shutil.disk_usage(_existing(settings.device.state_dir)).free
    text = f"{free_bytes / 1e9:.1f} GB free at {settings.device.state_dir}"
    if free_bytes < needs_bytes:
        yield fail("disk", f"{text}, less than outbox.max_bytes and something to spare: make room, or lower it")
    else:
        yield ok("disk", text)


def picture_folder(settings: Settings) -> Path:
    """Return a writable folder for pictures of cameras: in the state folder, else a temporary one."""
    folder = settings.device.state_dir / "doctor"
    return folder if not _unwritable(folder) else temporary_folder()


def temporary_folder() -> Path:
    """Return the folder for pictures that leave nothing in the state folder."""
    return Path(tempfile.gettempdir()) / f"changeover-doctor-{os.getuid()}"


def _unwritable(folder: Path) -> str:
    """Return why `folder` is not writable, or an empty text; for a missing one, its nearest existing parent counts."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return ""
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _existing(folder: Path) -> Path:
    while not os.path.isdir(folder):  # noqa: PTH112 - pathlib's raises for a folder closed to this user
        folder = folder.parent
    return folder


def _user() -> str:
    try:
        return psutil.Process().username()
    except KeyError:
        return str(os.getuid())


def _clock(settings: Settings) -> Finding:
    zones = sorted({rule.timezone for rule in settings.schedule})
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}{', schedules in ' + ', '.join(zones) if zones else ''}"
    if is_synchronised():
        return ok("clock", f"{text}, synchronised")
    advice = "not synchronised (yet): see `timedatectl`; times in messages and schedules may be wrong until it is"
    return note("clock", f"{text}, {advice}")
