"""Files that are no models, or not whole, are refused in words at once; honest ones are let through."""

import io
import mmap
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import onnx
import pytest
from onnx import TensorProto, helper
from support.tiny_models import write_tiny_model

from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelReference, ModelVersion
from agent.models import model_files, onnx_file
from agent.models.catalog import Catalog
from agent.models.file_faults import require_sound, verify
from agent.models.keeping.copying import Release
from agent.models.store import Store
from agent.settings import SettingsError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"
SHA = "a" * 64


def tiny(**options: object) -> bytes:
    path = Path(options.pop("folder"), "tiny.onnx")  # type: ignore[arg-type]
    return write_tiny_model(path, **options).read_bytes()  # type: ignore[arg-type]


def taking(sides: list[object], operation: str = "Identity", **facts: str) -> bytes:
    """Build a model that takes a tensor of these sides."""
    graph = helper.make_graph(
        [helper.make_node(operation, ["images"], ["output0"])],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, sides)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {"names": "{0: 'cap'}"} | facts)
    content: bytes = model.SerializeToString()
    return content


def ir(names: str) -> bytes:
    picture = '<layer type="Parameter"><data shape="1,3,64,64"/></layer>'
    return f'<net><layers>{picture}</layers><rt_info><names value="{names}"/></rt_info></net>'.encode()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


CHECKPOINT = zipped(best__data_dot_pkl=pickle.dumps({}, protocol=2), best__data__0=bytes(1 << 16))

REFUSED: list[tuple[str, str, bytes, str]] = [
    ("empty", "m.onnx", b"", "is empty"),
    ("empty checkpoint", "m.pt", b"", "is empty"),
    ("pointer", "m.onnx", POINTER, "Git LFS pointer"),
    ("pointer as checkpoint", "m.pt", POINTER, "Git LFS pointer"),
    ("pointer as engine", "m.engine", POINTER, "Git LFS pointer"),
    ("page", "m.onnx", PAGE, "HTML page"),
    ("page as checkpoint", "m.pt", PAGE, "HTML page"),
    ("page with a mark", "m.onnx", b"\xef\xbb\xbf<HTML>", "HTML page"),
    ("answer", "m.onnx", b'{"error": "unauthorized"}', "JSON text"),
    ("storage's error", "m.onnx", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML text"),
    ("storage's error as IR", "m.xml", b'<?xml version="1.0"?><Error/>', "begins with <Error>"),
    ("cut IR", "m.xml", b"<net><layers>", "is cut"),
    ("checkpoint named onnx", "m.onnx", CHECKPOINT, "PyTorch checkpoint"),
    ("old checkpoint named onnx", "m.onnx", pickle.dumps({}, protocol=2), "PyTorch checkpoint"),
    ("checkpoint named engine", "m.engine", CHECKPOINT, "PyTorch checkpoint"),
    ("cut checkpoint", "m.pt", CHECKPOINT[:30_000], "is cut"),
    ("no checkpoint", "m.pt", zipped(readme_dot_txt=b"hello"), "no PyTorch checkpoint"),
    ("torchscript", "m.pt", zipped(m__data_dot_pkl=b"", m__code__m_dot_py=b""), "TorchScript"),
    ("compiled elsewhere", "m.onnx", taking([1, 3, 64, 64], "EPContext"), "code compiled for one device"),
    ("text as checkpoint", "m.pt", b"hello there", "a text, not a model"),
    ("noise as checkpoint", "m.pt", b"\x01hello there", "neither a zip nor a pickle"),
    ("text", "m.onnx", b"hello there, I am a text", "a text, not a model"),
    ("picture", "m.onnx", b"\x89PNG\r\n\x1a\n" + bytes(100), "no ONNX file"),
    ("tflite", "m.onnx", b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    ("gzip", "m.onnx", b"\x1f\x8b\x08\0" + bytes(50), "gzip"),
    ("cut model", "m.onnx", taking([1, 3, 64, 64], filler="x" * 3_000_000)[:-2_000_000], "is cut"),
    ("batch", "m.onnx", taking([4, 3, 64, 64]), "4 pictures at once"),
    ("odd size", "m.onnx", taking([1, 3, 100, 64]), "multiple of 32"),
    ("odd size of its own stride", "m.onnx", taking([1, 3, 96, 96], stride="64"), "multiple of 64"),
    ("colours last", "m.onnx", taking([1, 64, 64, 3]), "NHWC"),
    ("side of 0", "m.onnx", taking([1, 3, 0, 0]), "(0, 0), expected sides of at most 8192"),
    ("huge side", "m.onnx", taking([1, 3, 64, 65536]), "(64, 65536), expected sides of at most 8192"),
    ("grey", "m.onnx", taking([1, 1, 64, 64]), "1 channels"),
    ("no picture", "m.onnx", taking([1, 64]), "expected a picture"),
    ("no names", "m.onnx", taking([1, 3, 64, 64], names=""), "--classes"),
    *(
        (f"names {names}", "m.onnx", taking([1, 3, 64, 64], names=names), "--classes")
        for names in ("{1:'a',2:'b'}", "a,b", "{0:None,1:'b'}", "{0:'a'", "true", "{1e999:'a'}")
    ),
    ("names of an IR", "m.xml", ir(names="a,b"), "--classes"),
]


@pytest.mark.parametrize(("name", "content", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_model_is_refused_in_words(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / name
    (tmp_path / "m.bin").touch()
    file.write_bytes(content)
    store = Store(tmp_path / "models.toml", tmp_path / "store")
    with pytest.raises(MistakeError) as caught:
        store.add(Release(ModelReference("cap", "n", "1")), file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert not (tmp_path / "models.toml").exists()
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_cut_model_says_how_much_is_there(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g" * 45_000_000, [], [])
    content = helper.make_model(graph).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content[:3_000_000])
    with pytest.raises(ModelError, match=r"3\.0 of 45\.0 MB"):
        model_files.inspect(tmp_path / "m.onnx")


def test_a_model_without_its_last_bytes_says_how_many(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(taking([1, 3, 64, 64], filler="x" * 3_000_000)[:-7])
    with pytest.raises(ModelError, match="7 bytes are missing"):
        model_files.inspect(tmp_path / "m.onnx")


def test_cut_weights_of_an_ir_say_how_much_is_there(tmp_path: Path) -> None:
    picture = '<layer type="Parameter"><data shape="1,3,64,64"/></layer>'
    weights = '<layer type="Const"><data offset="0" size="45000000"/></layer>'
    (tmp_path / "m.xml").write_text(f"<net><layers>{picture}{weights}</layers></net>")
    (tmp_path / "m.bin").write_bytes(bytes(3_000_000))
    with pytest.raises(ModelError, match=r"3\.0 of 45\.0 MB"):
        model_files.inspect(tmp_path / "m.xml")


def in_the_graph(content: bytes) -> bytes:
    """Return the field that adds `content` to a model's graph."""
    size = len(content)
    return b"\x3a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]) + content


@pytest.mark.parametrize(
    "more",
    [
        b"\x72\x00" * (1 << 20),
        in_the_graph(b"\x0a\x00" * (1 << 20)),
        in_the_graph(b"\x0a\x0e\x2a\x0c" + b"\x2a\x00" * 6) * (1 << 17) + b"\x32\x08location",
        b"\x73\x74" * (1 << 19),
    ],
    ids=["metadata", "nodes", "attributes", "groups"],
)
def test_a_file_of_many_empty_fields_is_refused(tmp_path: Path, more: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(taking([1, 3, 64, 64]) + more)
    with pytest.raises(ModelError, match="more than 262144 fields"):
        model_files.inspect(tmp_path / "m.onnx")


@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"half": True}, {"end2end": True}, {"imgsz": 320}])
def test_an_honest_model_is_added(tmp_path: Path, options: dict[str, object]) -> None:
    (tmp_path / "m.onnx").write_bytes(tiny(folder=tmp_path, **options))
    store = Store(tmp_path / "models.toml", tmp_path / "store")
    verify(store.add(Release(ModelReference("cap", "n", "1")), tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    "content",
    [b"404: page", b"\xff\xd8\xff\xe0abc", b"<!-- saved -->\n<html><body></body></html>", taking([1, 3, 64, 64])],
    ids=["text", "picture", "page", "onnx"],
)
def test_an_xml_that_is_no_model_needs_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.xml").write_bytes(content)
    store = Store(tmp_path / "models.toml", tmp_path / "store")
    with pytest.raises(MistakeError, match=r"m\.xml is no OpenVINO \.xml"):
        store.add(Release(ModelReference("cap", "n", "1")), tmp_path / "m.xml")


def test_a_negative_side_is_open_as_a_runtime_reads_it(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(taking([-1, 3, -1, -1]))
    assert onnx_file.read(tmp_path / "m.onnx").inputs[0].sides == (-1, 3, -1, -1)
    model_files.inspect(tmp_path / "m.onnx")


def test_given_names_stand_in_the_entry(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(tiny(folder=tmp_path, metadata=False))
    store = Store(tmp_path / "models.toml", tmp_path / "store")
    assert store.add(Release(ModelReference("cap", "n", "1"), ("a", "b c")), tmp_path / "m.onnx").classes == (
        "a",
        "b c",
    )


def test_an_honest_checkpoint_passes(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(CHECKPOINT)
    assert model_files.inspect(tmp_path / "m.pt").has_names is None


def external(tmp_path: Path, place: Callable[[onnx.ModelProto, onnx.TensorProto], None]) -> Path:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    pair = tensor.external_data.add()
    pair.key, pair.value = "location", "hidden.bin"
    graph = helper.make_graph([], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])], [])
    model = helper.make_model(graph)
    place(model, tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def in_a_subgraph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))


def in_a_sparse_tensor(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(tensor)
    model.graph.sparse_initializer.append(sparse)


def in_a_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], opset))


def in_training(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    training = model.training_info.add()
    training.algorithm.initializer.append(tensor)


PLACES = {
    "initializer": lambda model, tensor: model.graph.initializer.append(tensor),
    "attribute": lambda model, tensor: model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor)),
    "subgraph": in_a_subgraph,
    "sparse": in_a_sparse_tensor,
    "function": in_a_function,
    "training": in_training,
}


@pytest.mark.parametrize("place", PLACES)
def test_external_weights_are_found_wherever_a_tensor_may_stand(tmp_path: Path, place: str) -> None:
    assert onnx_file.read(external(tmp_path, PLACES[place])).external == ("hidden.bin",)


def test_a_file_of_any_bytes_ends_in_words(tmp_path: Path) -> None:
    whole = tiny(folder=tmp_path)
    for at in range(0, len(whole), 97):
        (tmp_path / "cut.onnx").write_bytes(whole[:at] or b"\0")
        try:
            onnx_file.read(tmp_path / "cut.onnx")
        except onnx_file.NotOnnxError as error:
            assert "ONNX" in str(error) or "cut" in str(error)  # noqa: PT017 - many of them in one test


def test_an_ir_without_the_sha256_of_its_weights_is_a_mistake(tmp_path: Path) -> None:
    row = f'[[model]]\nname = "a"\nvariant = "n"\nversion = "1"\nfile = "a.xml"\nsha256 = "{SHA}"\n'
    (tmp_path / "models.toml").write_text(row)
    with pytest.raises(SettingsError, match=r"model\[0\]\.files\.\"a\.bin\": .*a\.bin"):
        Catalog.load(tmp_path / "models.toml")
    for more in (f'weights_sha256 = "{SHA}"', f'files = {{ "a.bin" = "{SHA}" }}'):
        (tmp_path / "models.toml").write_text(row + more)
        (version,) = Catalog.load(tmp_path / "models.toml").versions
        assert [(file.name, file.sha256) for file in version.files] == [("a.bin", SHA)]


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "a/../../b", ""])
def test_a_further_file_lies_beside_its_model(tmp_path: Path, name: str) -> None:
    row = f'[[model]]\nname = "a"\nvariant = "n"\nversion = "1"\nfile = "a.onnx"\nsha256 = "{SHA}"\n'
    (tmp_path / "models.toml").write_text(f'{row}files = {{ "{name}" = "{SHA}" }}')
    with pytest.raises(SettingsError, match="beside `file`"):
        Catalog.load(tmp_path / "models.toml")


def test_further_files_of_an_ir_that_is_fetched_have_names_of_their_own_in_the_store(tmp_path: Path) -> None:
    row = '[[model]]\nname = "a"\nvariant = "n"\nversion = "1"\n'
    row += f'file = "https://host/a.xml"\nsha256 = "{SHA}"\n'
    (tmp_path / "models.toml").write_text(f'{row}files = {{ "a.bin" = "{SHA}", "b.bin" = "{SHA}" }}')
    with pytest.raises(SettingsError, match=r'model\[0\]\.files\."b\.bin": .*"model\.bin"'):
        Catalog.load(tmp_path / "models.toml")
    (tmp_path / "models.toml").write_text(f'{row}files = {{ "a.bin" = "{SHA}", "metadata.yaml" = "{SHA}" }}')
    assert [file.name for file in Catalog.load(tmp_path / "models.toml").versions[0].files] == [
        "model.bin",
        "metadata.yaml",
    ]


class _Searched(mmap.mmap):
    """A mapped file that records how many bytes each search may hold the GIL for."""

    spans: ClassVar[list[int]] = []

    def find(self, word: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else end
        self.spans.append(min(end, len(self)) - start)
        return super().find(word, start, end)


def test_a_large_file_is_searched_in_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, part = tmp_path / "m.onnx", 1 << 18
    before = taking([1, 3, 64, 64], filler="x" * part).index(b"xxx")
    monkeypatch.setattr(mmap, "mmap", _Searched)
    for at in (0, *range(part - before - 10, part - before + 2), 3 * part):
        file.write_bytes(taking([1, 3, 64, 64], filler="x" * at + "EPContext" + "x" * (1 << 20)))
        with pytest.raises(onnx_file.NotOnnxError, match="compiled"):
            onnx_file.read(file)
        assert max(_Searched.spans) < 1 << 19


def test_a_load_reads_its_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_tiny_model(tmp_path / "m.onnx")
    read: list[Path] = []
    really_read = onnx_file.read

    def noted(path: Path) -> onnx_file.OnnxFile:
        read.append(path)
        return really_read(path)

    monkeypatch.setattr(onnx_file, "read", noted)
    require_sound(ModelVersion("m", "n", "1", str(file), SHA))
    assert read == [file]
