"""Folders that stand in for / of a recorded box: its files, device nodes and programs."""

from pathlib import Path

import msgspec

from agent.doctor.recorder import Recording

FOLDER = Path(__file__).parents[1] / "boxes"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def read(name: str) -> Recording:
    """Return a recording."""
    return msgspec.json.decode((FOLDER / f"{name}.json").read_bytes(), type=Recording)


def build(recording: Recording, folder: Path) -> Path:
    """Write what the recording holds below `folder`; every node is a link to /dev/null, which can be opened."""
    for path, text in recording.files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            file.write_text(text, encoding="utf-8")
    for name in recording.dev:
        node = folder / "dev" / name
        node.parent.mkdir(parents=True, exist_ok=True)
        node.symlink_to("/dev/null")
    for name in recording.programs:
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    return folder
