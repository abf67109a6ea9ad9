"""Records the signatures of NVIDIA's own Python bindings, without a GPU and without TensorRT.

    pip download --no-deps --only-binary :all: tensorrt_cu12_bindings==10.3.0   # and unpack the wheel
    python -m support.fake_gpu.record_signatures FOLDER... > support/fake_gpu/signatures.json

The bindings are imported over empty libraries, which needs a C compiler; nothing of TensorRT can run over those, but
its classes and docstrings are there. Only what the fake has is recorded.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.fake_gpu.tensorrt_module import fake_tensorrt

_EMPTY = """
static void *table[256]; static void *registry = table;
static long nothing(void) { return 0; }
__attribute__((constructor)) static void fill(void) { for (int i = 0; i < 256; i++) table[i] = (void *)nothing; }
void *getPluginRegistry(void) { return &registry; }
void *getBuilderPluginRegistry(void) { return &registry; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createInferBuilder_INTERNAL(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
"""
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
_SET_LATER = {
    "IBuilderConfig": ("max_aux_streams", "builder_optimization_level", "progress_monitor"),
    "Runtime": ("gpu_allocator",),
}


def main(folders: list[str]) -> None:
    recorded: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as libraries:
        source = Path(libraries, "empty.c")
        source.write_text(_EMPTY, encoding="ascii")
        for name in _LIBRARIES:
            for major in (10, 11):
                soname = f"lib{name}.so.{major}"
                command = [
                    "cc",
                    "-shared",
                    "-fPIC",
                    f"-Wl,-soname,{soname}",
                    "-o",
                    f"{libraries}/{soname}",
                    str(source),
                ]
                subprocess.run(command, check=True)
        for folder in folders:
            environment = os.environ | {"LD_LIBRARY_PATH": libraries}
            command = [sys.executable, "-m", "support.fake_gpu.record_signatures", "--one", folder]
            out = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE).stdout
            recorded |= json.loads(out)
    sys.stdout.write(_as_lines(recorded))


def _as_lines(recorded: dict[str, dict[str, Any]]) -> str:
    """One line a class."""
    versions = []
    for version, classes in recorded.items():
        lines = ",\n".join(f'  "{name}": {json.dumps(members)}' for name, members in classes.items())
        versions.append(f' "{version}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(versions) + "\n}\n"


def record_one(folder: str) -> dict[str, Any]:
    sys.path.insert(0, folder)
    import tensorrt_bindings  # type: ignore[import-not-found]  # noqa: PLC0415 - of that folder

    found = {}
    for name, members in _names().items():
        real = getattr(tensorrt_bindings, name, None)
        if real is not None:
            found[name] = {member: _described(real, member) for member in members if hasattr(real, member)}
    return {tensorrt_bindings.__version__: found}


def _names() -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for version in ("10.3.0", "11.4.0"):
        for name, one in vars(fake_tensorrt(version)).items():
            if isinstance(one, type):
                own = list(getattr(one, "__members__", [])) or [key for key in vars(one) if not key.startswith("_")]
                names[name] = list(dict.fromkeys((*names.get(name, ()), *own, *_SET_LATER.get(name, ()))))
    return names


def _described(real: Any, member: str) -> Any:
    found = next(base.__dict__[member] for base in real.__mro__ if member in base.__dict__)
    if isinstance(found, property):
        return "property" if found.fset else "property (read only)"
    if member in getattr(real, "__members__", {}):
        return "member"
    signatures = re.findall(
        rf"(?:^|\d+\. ){member}\((.*?)\)(?: -> .*)?$", getattr(real, member).__doc__ or "", re.MULTILINE
    )
    taken = [re.split(r", (?=\w+:)", one) for one in signatures if one != "*args, **kwargs"]
    words = [[part.partition(":")[0].strip() + ("=" if " = " in part else "") for part in one] for one in taken]
    return words or "value"


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        sys.stdout.write(json.dumps(record_one(sys.argv[2])))
    else:
        main(sys.argv[1:])
