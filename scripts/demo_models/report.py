"""Write the demo's catalog and the page of what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from demo_models.verify import BACKENDS, CONFIDENCE, GOLDEN_PICTURES, Scores, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from agent.demo.conveyor import Product


@dataclass(frozen=True)
class Row:
    """One exported model and its measure; `seconds` is the time that its own training took."""

    product: Product
    variant: str
    file: Path
    scores: Scores
    seconds: float

    @property
    def reference(self) -> str:
        """The model's name, variant and version."""
        return version_of(self.file).reference


def write_catalog(target: Path, rows: list[Row], imgsz: int, golden: Callable[[str, str], str]) -> None:
    """Write the models.toml of the demo's line 1."""
    entries = [
        "# The demo's models of line 1, written by scripts/train_demo_models. Paths are relative to this file.\n"
    ]
    for row in rows:
        found = version_of(row.file)
        names = ", ".join(f'"{name}"' for name in row.product.classes)
        entries.append(
            f'[[model]]\nname = "{found.name}"\nvariant = "{found.variant}"\nversion = "{found.version}"\n'
            f'file = "line-1/{row.file.name}"\nsha256 = "{found.sha256}"\nimgsz = {imgsz}\nconfidence = {CONFIDENCE}\n'
            f'classes = [{names}]\ngolden = "line-1/golden/{golden(found.name, found.variant)}"\n'
        )
    target.write_text("\n".join(entries))


def write_page(target: Path, rows: list[Row], work: Path, facts: Mapping[str, object]) -> None:
    """Write the page of what was measured; `facts` are the options of the run, and `again`, its second rounds."""
    base_s = float((work / "done" / "base.seconds").read_text())
    with_amx = torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - there is no public word for it
    versions = ", ".join(f"{name} {version(name)}" for name in ("ultralytics", "torch", "onnxruntime", "openvino"))
    target.write_text(
        _PAGE.format(
            products="\n".join(_product_line(row) for row in rows if row.variant == "n"),
            scores="\n".join(_score_line(row) for row in rows),
            runtimes="\n".join(_runtime_line(row, backend) for row in rows for backend in BACKENDS),
            agreement="\n".join(_agreement_line(row) for row in rows),
            versions=versions,
            base_s=round(base_s),
            mode="bf16 autocast" if with_amx else "float32, no AMX",
            confidence=CONFIDENCE,
            golden=GOLDEN_PICTURES,
            **facts,
        )
    )


def _product_line(row: Row) -> str:
    good, bad = row.product.classes
    return f"| `{row.product.code}` | `{row.product.model}` | {good} | {bad} |"


def _score_line(row: Row) -> str:
    scores, size = row.scores, row.file.stat().st_size / 1e6
    return (
        f"| `{row.reference}` | {scores.map50:.3f} | {scores.map50_95:.3f} | {scores.frames} "
        f"| {size:.2f} MB | {row.seconds:.0f} s |"
    )


def _runtime_line(row: Row, backend: str) -> str:
    found = row.scores.found[backend]
    return f"| `{row.reference}` | {backend} | {found.right} | {found.wrong} | {found.missing} |"


def _agreement_line(row: Row) -> str:
    return (
        f"- `{row.reference}`: {row.scores.matched} objects found by both, scores at most {row.scores.apart:.4f} apart"
    )


_PAGE = """# The models of the demo's line 1

Written by `scripts/train_demo_models`, which renders the frames, trains, exports and measures. Nothing in here comes
from anywhere else: no pretrained weights, no pictures but the project's own (`agent/demo/conveyor`).
The exporter of ultralytics writes "AGPL-3.0 License" and its maker's name into each file's metadata: see "Licences" in
the project's README.

| product | model | good | defective |
|---|---|---|---|
{products}

Each file is ONNX with float16 weights, input and output, 320 x 320, class names in its metadata. ONNX Runtime and
OpenVINO both run it on a CPU; they compute in float32 (OpenVINO: bf16 with AMX) and convert where they must.

## On rendered frames that no training saw
mAP by ultralytics' own scorer, on the exported file, with ONNX Runtime. The seeds of training and scoring lie apart:
belts, lamps, noise, speeds and every part differ.

| model | mAP50 | mAP50-95 | frames | file | training |
|---|---|---|---|---|---|
{scores}

The same frames through the agent's own backends at confidence {confidence}; right means same label, IoU >= 0.5. A
part counts from the moment that half of what is inspected is inside the picture; just around that half, model and
truth may differ.

| model | backend | right | wrong | missing |
|---|---|---|---|---|
{runtimes}

{agreement}

## How they were made
- A YOLO11n from its YAML learnt good from defective on all three products: {frames} frames each, {base_epochs} epochs,
  {base_s} s. Each product's nano was fine-tuned from it: {frames} frames, {epochs} epochs with the first layers frozen;
  then {again} more epochs with all layers.
- The `s` variant has the architecture of YOLO11s. It grew out of the nano of the same product (each channel twice,
  with a little noise), and was fine-tuned for {small_epochs} epochs.
- {versions};
  two shared cores, {mode}; batch 16, AdamW, 320 px. Times are those of a busy machine.
- Again, with the same seeds: `scripts/train_demo_models --frames {frames} --val-frames {val_frames}
  --base-epochs {base_epochs} --epochs {epochs} --small-epochs {small_epochs}`.
  Arithmetic differs from CPU to CPU and with the number of threads: expect the same scores, not the same sha256.

## Golden pictures
`golden/MODEL/NN.jpg`, {golden} each, beside `NN.json`: what the exported model finds at confidence {confidence}, boxes
in pixels of the picture, by ONNX Runtime. Both runtimes proved every model on them before this page was written.
"""
