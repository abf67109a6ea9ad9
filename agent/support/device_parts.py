"""Parts of the archive that need a valid configuration: doctor, health, topics and files."""

import time
from pathlib import Path
from typing import Final

import msgspec

from agent.doctor import doctor_command
from agent.health.metrics import running_agent
from agent.messages.errors import ChangeoverError
from agent.messages.topics import Topics
from agent.mqtt.blocking_client import BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import for_client
from agent.settings import Settings
from agent.support.archive import Archive

_TOPICS_S: Final = 6.0
"""Time to listen; enough for all retained messages and one `health` report."""
_FILES: Final = 2000


def doctor(archive: Archive, settings: Settings) -> None:
    """Add the findings of `doctor`; takes as long as its checks."""
    said: list[str] = []
    try:
        doctor_command.run(settings, said.append, inside=False)
    except ChangeoverError as error:
        archive.lacks("doctor.txt", error)
    archive.text("doctor.txt", "\n".join(said) + "\n")


def health(archive: Archive, settings: Settings) -> None:
    """Add the pages `/healthz` and `/metrics` of the running agent."""
    bind = settings.http.bind
    for path, name in (("/healthz", "healthz.json"), ("/metrics", "metrics.txt")):
        text = running_agent.fetch(bind, path) if bind else None
        if text is None:
            archive.lacks(name, f"no agent answers on {bind or 'http.bind, which is empty'}")
        else:
            archive.text(name, text)


def topics(archive: Archive, settings: Settings) -> None:
    """Add the newest value of each topic that the device itself publishes; of others only the size."""
    if settings.mqtt.embedded:
        archive.lacks("topics.json", "the broker is embedded: its port is known to the agent alone")
        return
    names = Topics(settings.mqtt.root, settings.device.id)
    own = set(names.published(settings.line, [stream.id for stream in settings.stream]))
    found: dict[str, object] = {}
    try:
        with connected(for_client(settings.mqtt)) as peer:
            peer.subscribe([f"{names.base}/#"])
            until_s = time.monotonic() + _TOPICS_S
            while (left_s := until_s - time.monotonic()) > 0:
                arrival = peer.receive(left_s)
                if arrival is not None:
                    name = arrival.topic.removeprefix(f"{names.base}/")
                    size = f"{len(arrival.payload)} bytes, not shown"
                    found[name] = _value(arrival.payload) if arrival.topic in own else size
    except (BlockingClientError, ChangeoverError) as error:
        archive.lacks("topics.json", error)
    if found:
        archive.document("topics.json", found)


def files(archive: Archive, settings: Settings) -> None:
    """Add names and sizes, not the content, of all files in the state folder, cache included, and the model store."""
    folders = (settings.device.state_dir, settings.catalog.store_dir)
    lines = [line for folder in folders for line in _listing(archive, folder)]
    if lines:
        archive.text("files.txt", "\n".join(lines) + "\n")


def _listing(archive: Archive, folder: Path) -> list[str]:
    try:
        next(folder.iterdir(), None)  # because a walk hides that the folder itself is closed
        return [_line(path) for path in sorted(folder.rglob("*"))[:_FILES]]
    except OSError as error:
        archive.lacks(f"files.txt of {folder}", error.strerror)
        return []


def _line(path: Path) -> str:
    status = path.lstat()
    changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_mtime))
    return f"{status.st_mode:o} {status.st_uid} {status.st_size:>12} {changed} {path}"


def _value(payload: bytes) -> object:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode("utf-8", "replace")
