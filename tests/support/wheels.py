"""Small wheels, and wheels of what is installed here."""

import base64
import hashlib
import zipfile
from importlib.metadata import distribution
from pathlib import Path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheel(  # noqa: PLR0913 - what a wheel consists of
    folder: Path,
    name: str,
    version: str,
    *,
    requires: str = "",
    tag: str = "py3-none-any",
    files: dict[str, str] | None = None,
) -> Path:
    """Write the smallest wheel that pip installs."""
    info = f"{name}-{version}.dist-info"
    content = {
        **(files or {f"{name}.py": f"version = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in content.items()]
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in content.items():
            archive.writestr(inside, text)
        archive.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))
    return path


def installed_wheel(folder: Path, name: str) -> Path:
    """Pack an installed package of plain Python into a wheel again."""
    found = distribution(name)
    path = folder / f"{name}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                archive.write(str(file.locate()), str(file))
    return path


def own_wheel(folder: Path, root: Path, version: str) -> Path:
    """Pack this project's code into a wheel, without a build."""
    files = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in (root / "agent").rglob("*.py")}
    files[f"changeover-{version}.dist-info/entry_points.txt"] = "[console_scripts]\nchangeover = agent.__main__:main\n"
    return wheel(folder, "changeover", version, files=files)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
