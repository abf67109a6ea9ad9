"""Copies of a model's files under the store's names, with their hashes and signatures."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.files import open_regular, replace_file, stream_sha256
from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelFile, ModelReference
from agent.models import model_files
from agent.models.catalog_entry import SUFFIXES, kept_name
from agent.models.model_files import SIGNATURE_SUFFIX

_SIGNATURE_BYTES: Final = 4096


@dataclass(frozen=True)
class Release:
    """Arguments of `models add` for a file."""

    reference: ModelReference
    classes: tuple[str, ...] = ()
    """Class names; empty: the file has them."""
    rank: float | None = None
    """Rank of the variant by size; None: the variant's name implies one."""
    may_be_tensors: bool = False
    """True where the model need take no picture and name no classes, because it may be for requests alone."""


def inspect_source(source: Path) -> Path:
    """Find the model's file in `source`, a file or folder, and check it. Raises MistakeError where it is unusable."""
    file = model_in(source)
    _require_suffix(file)
    try:
        with open_regular(file):
            model_files.inspect(file)
    except OSError as error:
        raise MistakeError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    return file


def copy_model(source: Path, folder: Path, release: Release) -> tuple[ModelFile, ...]:
    """Copy the model in `source` into an empty folder under the store's names; return each file's sha256, main first.

    Raises MistakeError where it is no usable model, and OSError.
    """
    file = model_in(source)
    require_model_file(file)
    files = bring(file, folder)
    require_sound(folder, files, file, release)
    return files


def require_model_file(file: Path) -> None:
    """Raise MistakeError for a path that no model's file can have, and where there is no file."""
    _require_suffix(file)
    if not file.is_file():
        raise MistakeError(f"{file}: no such file")


def _require_suffix(file: Path) -> None:
    if file.suffix.lower() not in SUFFIXES:
        raise MistakeError(f"{file}: expected a file that ends in {', '.join(SUFFIXES)}")


def model_in(source: Path) -> Path:
    """Return the model's file: `source` itself, or the only .xml in an exported folder. Raises MistakeError."""
    if not source.is_dir():
        return source
    found = sorted(source.glob("*.xml"))
    if len(found) != 1:
        raise MistakeError(f"{source} is a folder with {len(found)} .xml files, expected an OpenVINO export with one")
    return found[0]


def bring(file: Path, draft: Path) -> tuple[ModelFile, ...]:
    """Copy a model's files into `draft` under the store's names; return each with its sha256, the main file first."""
    main = f"model{file.suffix.lower()}"  # because runtimes choose by a lower-case suffix
    files = [ModelFile(main, _copy(file, draft / main))]
    model_files.require_kind(file)
    for name in model_files.companions(file):
        source = file.parent / name
        if not source.is_file():
            model_files.inspect(file)  # because a file that is no model needs none beside it
            raise ModelError("file_missing", f"{file} needs {name} beside it")
        kept = kept_name(str(file), name)
        if kept == main:
            raise ModelError("load_failed", f"{file} keeps weights in a file named {name}: rename that")
        (draft / kept).parent.mkdir(parents=True, exist_ok=True)
        files.append(ModelFile(kept, _copy(source, draft / kept)))
        _bring_signature(source, draft / kept)
    _bring_signature(file, draft / main)
    return tuple(files)


def _bring_signature(file: Path, copy: Path) -> None:
    """Take a file's signature along, as it is; whoever loads the file verifies it."""
    signature = file.with_name(file.name + SIGNATURE_SUFFIX)
    if signature.is_file():
        with open_regular(signature) as stream:
            content = stream.read(_SIGNATURE_BYTES)
        replace_file(copy.with_name(copy.name + SIGNATURE_SUFFIX), content, sync=True, mode=0o644)


def require_sound(draft: Path, files: tuple[ModelFile, ...], source: Path, release: Release) -> None:
    """Inspect the copied files. Raises ModelError that names the user's file instead of the copy."""
    copy = draft / files[0].name
    try:
        found = model_files.inspect(copy, is_tensors=release.may_be_tensors)
        if copy.suffix == ".engine":
            model_files.require_plan(copy)
    except ModelError as error:
        words = str(error).replace(str(copy.with_suffix("")), str(source.with_suffix("")))
        raise ModelError(error.reason, words) from None
    if set(model_files.companions(copy)) != {file.name for file in files[1:]}:
        raise ModelError("load_failed", f"{source} changed while it was read: try again")
    if found.has_names is False and not release.classes and not release.may_be_tensors:
        raise ModelError("load_failed", f"{source} names no classes that can be read: give them, --classes cap,no-cap")


def why_no_picture(file: Path) -> str:
    """Return why no line can use a sound model, but requests with its tensors; empty where it takes a picture."""
    try:
        model_files.inspect(file)
    except ModelError as error:
        return str(error)
    return ""


def _copy(source: Path, target: Path) -> str:
    """Copy a file, sync it to disk, and return the sha256 of the copied bytes."""
    with open_regular(source) as origin, target.open("xb") as copy:
        sha256 = stream_sha256(origin, copy)
        copy.flush()
        os.fchmod(copy.fileno(), 0o644)
        os.fsync(copy.fileno())
    return sha256
