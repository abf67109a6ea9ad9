"""Keep what was measured of the demo's models, and write their catalog and their page from it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import torch

from agent.demo.conveyor import PRODUCTS
from demo_models.verify import BACKENDS, CONFIDENCE, GOLDEN_PICTURES, Scores, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.demo.conveyor import Product


@dataclass(frozen=True)
class Row:
    """One exported model and its measure; `seconds`, `how` and `mode` are of its own training."""

    code: str
    variant: str
    file: str
    scores: Scores
    seconds: float
    how: str
    mode: str
    versions: str

    @property
    def product(self) -> Product:
        """The product whose parts it inspects."""
        return PRODUCTS[self.code]


@dataclass(frozen=True)
class Measured:
    """All that was measured, also in earlier runs of the script."""

    base_s: float
    rows: tuple[Row, ...]


def versions_now() -> str:
    """Return the versions of the libraries that train, export and score."""
    return ", ".join(f"{name} {version(name)}" for name in ("ultralytics", "torch", "onnxruntime", "openvino"))


def mode_now() -> str:
    """Return how this CPU computes in training."""
    with_amx = torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - there is no public word for it
    return "bf16 autocast" if with_amx else "float32, no AMX"


def keep(file: Path, row: Row, base_s: float | None) -> Measured:
    """Enter a row in the file of what was measured, in the order of the products; return all of it."""
    old = msgspec.json.decode(file.read_bytes(), type=Measured) if file.exists() else Measured(0, ())
    others = [one for one in old.rows if (one.code, one.variant) != (row.code, row.variant)]
    order = list(PRODUCTS)
    rows = sorted([*others, row], key=lambda one: (one.variant != "n", order.index(one.code)))
    new = Measured(old.base_s if base_s is None else base_s, tuple(rows))
    file.write_bytes(msgspec.json.format(msgspec.json.encode(new), indent=2) + b"\n")
    return new


def write_catalog(target: Path, measured: Measured, imgsz: int, golden: Callable[[str, str], str]) -> None:
    """Write the models.toml of the demo's line 1."""
    entries = [
        "# The demo's models of line 1, written by scripts/train_demo_models. Paths are relative to this file.\n"
    ]
    for row in measured.rows:
        found = version_of(target.parent / "line-1" / row.file)
        task = f'task = "{row.product.task}"\n' if row.product.task != "detect" else ""
        names = ", ".join(f'"{name}"' for name in row.product.classes)
        entries.append(
            f'[[model]]\nname = "{found.name}"\nvariant = "{found.variant}"\nversion = "{found.version}"\n'
            f'file = "line-1/{row.file}"\nsha256 = "{found.sha256}"\nimgsz = {imgsz}\nconfidence = {CONFIDENCE}\n'
            f'{task}classes = [{names}]\ngolden = "line-1/golden/{golden(found.name, found.variant)}"\n'
        )
    target.write_text("\n".join(entries))


def write_page(target: Path, measured: Measured, facts: Mapping[str, object]) -> None:
    """Write the page of what was measured; `facts` are the options of the run."""
    rows = measured.rows
    target.write_text(
        _PAGE.format(
            products="\n".join(_product_line(row) for row in rows if row.variant == "n"),
            scores="\n".join(_score_line(row, target.parent) for row in rows),
            runtimes="\n".join(_runtime_line(row, backend) for row in rows for backend in BACKENDS),
            agreement="\n".join(_agreement_line(row) for row in rows),
            trainings="\n".join(f"  - `{_reference(row)}`: {row.how}; {row.mode}; {row.versions}" for row in rows),
            base_s=round(measured.base_s),
            confidence=CONFIDENCE,
            golden=GOLDEN_PICTURES,
            **facts,
        )
    )


def _reference(row: Row) -> str:
    name, variant, release = row.file.removesuffix(".onnx").rsplit("-", 2)
    return f"{name}:{variant}@{release}"


def _product_line(row: Row) -> str:
    good, bad = row.product.classes
    return f"| `{row.product.code}` | `{row.product.model}` | {row.product.task} | {good} | {bad} |"


def _score_line(row: Row, folder: Path) -> str:
    scores, size = row.scores, (folder / row.file).stat().st_size / 1e6
    what = {"segment": "masks", "obb": "oriented boxes"}.get(row.product.task, "boxes")
    return (
        f"| `{_reference(row)}` | {what} | {scores.map50:.3f} | {scores.map50_95:.3f} | {scores.frames} "
        f"| {size:.2f} MB | {row.seconds:.0f} s |"
    )


def _runtime_line(row: Row, backend: str) -> str:
    found = row.scores.found[backend]
    return f"| `{_reference(row)}` | {backend} | {found.right} | {found.wrong} | {found.missing} |"


def _agreement_line(row: Row) -> str:
    matched, apart = row.scores.matched, row.scores.apart
    return f"- `{_reference(row)}`: {matched} objects found by both, scores at most {apart:.4f} apart"


_PAGE = """# The models of the demo's line 1

Written by `scripts/train_demo_models`, which renders the frames, trains, exports and measures. Nothing in here comes
from anywhere else: no pretrained weights, no pictures but the project's own (`agent/demo/conveyor`).
The exporter of ultralytics writes "AGPL-3.0 License" and its maker's name into each file's metadata: see "Licences" in
the project's README.

| product | model | task | good | defective |
|---|---|---|---|---|
{products}

`fill-check` outlines what is in the jar: the height of the mask is the level. `lay-check` gives the angle of the tube.

![Jars with what is in them outlined, and tubes in oriented boxes](../../../docs/pictures/line-1-tasks.jpg)

Each file is ONNX with float16 weights, input and output, 320 x 320, class names in its metadata. ONNX Runtime and
OpenVINO both run it on a CPU; they compute in float32 (OpenVINO: bf16 with AMX) and convert where they must.

## On rendered frames that no training saw
mAP by ultralytics' own scorer, on the exported file, with ONNX Runtime. The seeds of training and scoring lie apart:
belts, lamps, noise, speeds and every part differ. A model of another task than boxes is scored by its masks or its
oriented boxes.

| model | scored | mAP50 | mAP50-95 | frames | file | training |
|---|---|---|---|---|---|---|
{scores}

The same frames through the agent's own backends at confidence {confidence}; right means same label, IoU >= 0.5 of
boxes, outlines or oriented boxes. A part counts from the moment that half of what is inspected is inside the picture;
just around that half, model and truth may differ.

| model | backend | right | wrong | missing |
|---|---|---|---|---|
{runtimes}

{agreement}

## How they were made
- A YOLO11n from its YAML learnt good from defective boxes on the products that ask for them: {frames} frames each,
  {base_epochs} epochs, {base_s} s. The nano of each of those was fine-tuned from it: {frames} frames.
- The `s` variant has the architecture of YOLO11s. It grew out of the nano of the same product (each channel twice,
  with a little noise), and was fine-tuned.
- A nano of another task is a YOLO11n-seg or YOLO11n-obb whose backbone and neck begin as those of `seal-check:n` as it
  is exported here: its normalisation is given back by what its layers answer to pictures of the product.
- Epochs, arithmetic, and the libraries of that day:
{trainings}
- Two shared cores; batch 16, AdamW, 320 px. Times are those of a busy machine.
- Again, with the same seeds: `scripts/train_demo_models --frames {frames} --val-frames {val_frames}
  --base-epochs {base_epochs} --epochs {epochs} --small-epochs {small_epochs} --task-epochs {task_epochs}`; one product
  alone with `--only CODE`.
  Arithmetic differs from CPU to CPU and with the number of threads: expect the same scores, not the same sha256.

## Golden pictures
`golden/MODEL/NN.jpg`, {golden} each, beside `NN.json`: what the exported model finds at confidence {confidence}, boxes,
outlines and corners in pixels of the picture, by ONNX Runtime. Both runtimes proved every model on them before this
page was written.
"""
