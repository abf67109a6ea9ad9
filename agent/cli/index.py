"""Commands of `changeover index`, for whoever runs the plant's models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import FILE, classes_option, rank_option, reference
from agent.cli.signing import asker, keys_option, needs_extra, new_password, password_option
from agent.messages.errors import MistakeError

if TYPE_CHECKING:
    from agent.messages.references import ModelReference
    from agent.trust.authoring.index_folder import IndexFolder
    from agent.trust.authoring.key_folder import KeyFolder

_INDEX = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
_PASSWORD = click.option("--password", is_flag=True, help="Ask for a password that encrypts each new key.")


@click.group()
def index() -> None:
    """Make and sign the index of a plant's models: a folder that any web server, bucket or stick can serve."""


def _opened(folder: Path, keys: Path, password_file: Path | None) -> "tuple[IndexFolder, KeyFolder]":
    key_folder = _key_folder(keys, password_file)
    from agent.trust.authoring.index_folder import IndexFolder

    if keys.absolute().is_relative_to(folder.absolute()):
        raise MistakeError(f"{keys} lies in {folder}, which is served to everybody: keep the keys elsewhere")
    return IndexFolder(folder, key_folder), key_folder


def _key_folder(keys: Path, password_file: Path | None) -> "KeyFolder":
    with needs_extra():
        from agent.trust.authoring.key_folder import KeyFolder

    return KeyFolder(keys, asker(password_file))


def _table(text: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise MistakeError(f"--preprocess: found {text!r}, expected a table as JSON")
    return table


def _tell(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


@index.command()
@_INDEX
@keys_option
@click.option("--threshold", type=click.IntRange(1, 8), default=1, help="Root keys that must sign a new root; 1.")
@_PASSWORD
@password_option
def init(folder: Path, keys: Path, threshold: int, password_file: Path | None, *, password: bool) -> None:
    """Begin an index in FOLDER: make its keys, its first root.json for the devices, and an empty list."""
    opened, key_folder = _opened(folder, keys, password_file)
    from agent.trust.authoring.changes import begin

    _tell(begin(opened, key_folder, new_password(password_file, is_wanted=password), threshold))


@index.command()
@click.argument("name")
@keys_option
@_PASSWORD
@password_option
def key(name: str, keys: Path, password_file: Path | None, *, password: bool) -> None:
    """Make a key pair NAME.key and NAME.pub: for a colleague's machine, or to sign files with `models sign`."""
    key_folder = _key_folder(keys, password_file)
    public = key_folder.make(name, new_password(password_file, is_wanted=password)(name))
    click.echo(f"wrote {keys / name}.key and {keys / name}.pub\t{public.line}")


@index.command()
@_INDEX
@click.argument("ref", callback=reference)
@click.argument("file", type=click.Path(path_type=Path))
@keys_option
@click.option("--as", "role", metavar="ROLE", help="Sign as this delegate; else as the index's own list.")
@classes_option
@rank_option
@click.option(
    "--imgsz", type=click.IntRange(32, 8192), help="Side of the model's input in pixels; else the model's own."
)
@click.option("--confidence", type=click.FloatRange(0, 1), help="Least score of an object; 0.25.")
@click.option("--iou", type=click.FloatRange(0, 1), help="Overlap above which two boxes are one object; 0.7.")
@click.option("--layout", help="The layout of a file that could be of two.")
@click.option("--task", help="The task of a file that does not say it.")
@click.option("--preprocess", metavar="JSON", help='The catalog\'s table, such as {"resize": "stretch"}.')
@click.option("--backend", help="The runtime: openvino, onnxruntime or ultralytics; else the device chooses.")
@password_option
def add(  # noqa: PLR0913, PLR0917 - one parameter an argument and option
    folder: Path,
    ref: "ModelReference",
    file: Path,
    keys: Path,
    role: str | None,
    password_file: Path | None,
    **told: Any,  # noqa: ANN401 - one parameter an option
) -> None:
    """Copy FILE, or an exported OpenVINO folder, into the index and sign it as REF (in full: NAME:VARIANT@VERSION)."""
    opened, _ = _opened(folder, keys, password_file)
    from agent.models.keeping.copying import Release
    from agent.trust.authoring.changes import Details
    from agent.trust.authoring.changes import add as add_model

    entry = {name: value for name, value in told.items() if value not in {None, ()}}
    if told["preprocess"] is not None:
        entry["preprocess"] = _table(told["preprocess"])
    may_be_tensors = not (told["task"] or told["layout"])  # because a device may serve it to requests alone
    release = Release(ref, told["classes"], told["rank"], may_be_tensors)
    _tell(add_model(opened, file, Details(release, entry), role or "targets"))


@index.command()
@_INDEX
@click.argument("role")
@keys_option
@click.option("--models", "patterns", multiple=True, required=True, help="A pattern of model names such as 'cap-*'.")
@click.option(
    "--public", "publics", multiple=True, required=True, type=FILE, help="The delegate's NAME.pub; repeatable."
)
@password_option
def delegate(  # noqa: PLR0913, PLR0917 - one parameter an argument and option
    folder: Path,
    role: str,
    keys: Path,
    patterns: tuple[str, ...],
    publics: tuple[Path, ...],
    password_file: Path | None,
) -> None:
    """Let another key sign the models whose names fit: ROLE names it. Again: change its patterns and keys."""
    opened, _ = _opened(folder, keys, password_file)
    from agent.trust.authoring.changes import delegate as delegate_to
    from agent.trust.authoring.key_folder import read_public

    _tell(delegate_to(opened, role, patterns, tuple(map(read_public, publics))))


@index.command()
@_INDEX
@click.argument("use", type=click.Choice(["root", "models", "publish"]))
@keys_option
@click.option(
    "--add", "added", multiple=True, type=FILE, help="A NAME.pub to add; else a new key replaces all of them."
)
@click.option("--remove", "removed", multiple=True, type=FILE, help="A NAME.pub to remove, as one that was lost.")
@click.option("--threshold", type=click.IntRange(1, 8), help="How many of the keys must sign from now on.")
@_PASSWORD
@password_option
def rotate(  # noqa: PLR0913, PLR0917 - one parameter an argument and option
    folder: Path,
    use: str,
    keys: Path,
    added: tuple[Path, ...],
    removed: tuple[Path, ...],
    threshold: int | None,
    password_file: Path | None,
    *,
    password: bool,
) -> None:
    """Change the keys of the root, the models or the publication; devices follow when they next see the index."""
    opened, key_folder = _opened(folder, keys, password_file)
    from agent.trust.authoring import changes
    from agent.trust.authoring.key_folder import read_public

    gone = tuple(read_public(path).raw for path in removed)
    new = tuple(map(read_public, added))
    if not (gone or new or threshold):
        gone = changes.current_keys(opened, use)
        name = key_folder.new_name(use)
        new = (key_folder.make(name, new_password(password_file, is_wanted=password)(name)),)
    _tell(changes.rotate(opened, use, new, gone, threshold))


@index.command()
@_INDEX
@click.argument("what", metavar="REF-OR-SHA256")
@keys_option
@password_option
def revoke(folder: Path, what: str, keys: Path, password_file: Path | None) -> None:
    """Revoke a model for ever: NAME@VERSION with all variants, NAME:VARIANT@VERSION, or a file's sha256."""
    opened, _ = _opened(folder, keys, password_file)
    from agent.trust.authoring.changes import revoke as revoke_model

    _tell(revoke_model(opened, what))


@index.command()
@_INDEX
@keys_option
@click.option("--days", type=click.IntRange(1, 3650), default=400, help="Days until devices tell that it is old; 400.")
@password_option
def publish(folder: Path, keys: Path, days: int, password_file: Path | None) -> None:
    """Sign the state of all lists, so that devices take it; before it, they see nothing of a change."""
    opened, _ = _opened(folder, keys, password_file)
    from agent.trust.authoring.changes import publish as publish_index

    _tell(publish_index(opened, days))


@index.command()
@_INDEX
@keys_option
@password_option
def sign(folder: Path, keys: Path, password_file: Path | None) -> None:
    """Add the signatures of the keys here to what still needs some."""
    opened, _ = _opened(folder, keys, password_file)
    done = opened.sign_pending()
    _tell([*map(str, done)] or [f"nothing in {folder} needs a signature"])
