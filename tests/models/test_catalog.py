"""Version that a reference means, and mistakes in a catalog."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.messages.references import ModelReference, ModelVersion, Preprocess
from agent.models.catalog import Catalog
from agent.settings import SettingsError

Writer = Callable[..., Catalog]
SHA = "a" * 64


def found(catalog: Catalog, text: str, default: str = "n") -> str | None:
    reference = ModelReference.parse(text)
    assert reference is not None
    version = catalog.find(reference, default)
    return None if version is None else version.reference


def test_the_highest_version_is_by_natural_sort(written: Writer) -> None:
    catalog = written(("cap", "n", "9"), ("cap", "n", "10"), ("cap", "n", "1.2"), ("cap", "s", "11"))
    assert found(catalog, "cap") == "cap:n@10"
    assert found(catalog, "cap@9") == "cap:n@9"
    assert found(catalog, "cap:s") == "cap:s@11"
    assert found(catalog, "cap", default="s") == "cap:s@11"


def test_what_is_not_there_is_none(written: Writer) -> None:
    catalog = written(("cap", "n", "3"))
    assert found(catalog, "label") is None
    assert found(catalog, "cap:m") is None
    assert found(catalog, "cap@4") is None
    assert found(catalog, "Cap") is None


def test_variants_come_in_order(written: Writer) -> None:
    rows = [("cap", variant, "1") for variant in ("x", "m", "n", "l-fp16", "s", "m-int8", "l")]
    catalog = written(*rows, ("cap", "tiny", "1", "rank = 0.5"), ("other", "n", "1"))
    assert catalog.variants("cap") == ("tiny", "n", "s", "m-int8", "m", "l-fp16", "l", "x")
    assert catalog.variants("nobody") == ()
    assert catalog.names() == ("cap", "other")


@pytest.mark.parametrize(("default", "variant"), [("n", "s"), ("m", "s"), ("l-int8", "s"), ("x", "l")])
def test_a_reference_without_variant_takes_the_nearest_that_there_is(
    written: Writer, default: str, variant: str
) -> None:
    catalog = written(("cap", "s", "1"), ("cap", "l", "1"))
    assert found(catalog, "cap", default) == f"cap:{variant}@1"


def test_preprocessing_reaches_the_version_and_its_mistakes_are_told(written: Writer) -> None:
    said = 'preprocess = { resize = "stretch", colours = "bgr", scale = 1.0, mean = [1, 2, 3], std = [4, 5, 6] }'
    (version,) = written(("cap", "n", "3", said)).versions
    assert version.preprocess == Preprocess("stretch", "bgr", 1.0, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    for wrong in ('resize = "crop"', "std = [0, 1, 1]", "mean = [1]", "scale = 0", "gamma = 2"):
        with pytest.raises(SettingsError, match="preprocess"):
            written(("cap", "n", "3", f"preprocess = {{ {wrong} }}"))


def test_every_key_reaches_the_version(written: Writer, tmp_path: Path) -> None:
    more = (
        'backend = "onnxruntime"\nimgsz = 320\nconfidence = 0.3\niou = 0.5\nclasses = ["cap", "no-cap"]\ngolden = "g"'
    )
    (version,) = written(("cap", "n", "3", more)).versions
    assert version.path == str(tmp_path / "cap-n-3.onnx")
    assert (version.backend, version.imgsz, version.confidence, version.iou) == ("onnxruntime", 320, 0.3, 0.5)
    assert version.classes == ("cap", "no-cap")
    assert version.golden == str(tmp_path / "g")


def test_the_largest_input_is_known_only_where_every_version_states_its_own() -> None:
    def catalog(*sides: int | None) -> Catalog:
        versions = (
            ModelVersion(name="cap", variant="n", version=str(number), path="", sha256=SHA, imgsz=side)
            for number, side in enumerate(sides)
        )
        return Catalog(Path("models.toml"), tuple(versions))

    assert catalog(320, 640, 480).largest_side == 640
    assert catalog(320, None).largest_side == 0
    assert catalog().largest_side == 0


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    text = f'[[model]]\nname="a"\nvariant="n"\nversion=3\nfile="file:///models/a%20b.onnx"\nsha256="{SHA.upper()}"\n'
    (tmp_path / "models.toml").write_text(text)
    (version,) = Catalog.load(tmp_path / "models.toml").versions
    assert (version.path, version.version, version.sha256) == ("/models/a b.onnx", "3", SHA)


def test_all_mistakes_come_in_one_run(tmp_path: Path) -> None:
    rows = [
        f'name = "a b"\nvariant = "n"\nversion = "1"\nfile = "a.onnx"\nsha256 = "{SHA}"',
        'name = "a"\nvariant = "n"\nversion = "1"\nfile = "a.onnx"\nsha256 = "abc"',
        f'name = "a"\nvariant = "n"\nversion = "1"\nfile = "a.tflite"\nsha256 = "{SHA}"\nbackend = "magic"',
        f'name = "a"\nvariant = "big"\nversion = "1"\nfile = "ftp://host/a.onnx"\nsha256 = "{SHA}"',
        f'name = "b"\nvariant = "n"\nversion = "1"\nfile = "b.pt"\nsha256 = "{SHA}"\nconfidence = 2\nclasses = [""]',
        'name = "c"\nvariant = "n"\nbogus = 1',
    ]
    file = tmp_path / "models.toml"
    file.write_text("extra = 1\n" + "".join(f"[[model]]\n{row}\n" for row in rows))
    with pytest.raises(SettingsError) as caught:
        Catalog.load(file)
    mistakes = {mistake.key: str(mistake) for mistake in caught.value.mistakes}
    assert set(mistakes) == {
        "extra",
        "model[0].name",
        "model[1].sha256",
        "model[2].file",
        "model[2].backend",
        "model[2].version",
        "model[3].rank",
        "model[3].file",
        "model[4].confidence",
        "model[4].classes[0]",
        "model[5].bogus",
        "model[5].version",
        "model[5].file",
        "model[5].sha256",
    }
    assert "s3://BUCKET/KEY" in mistakes["model[3].file"]
    assert "model[1]" in mistakes["model[2].version"]
    assert all(text.startswith(f"{file}: ") for text in mistakes.values())


def test_no_model_is_unsafe_unless_its_entry_says_so(written: Writer) -> None:
    catalog = written(("a", "n", "1"), ("a", "n", "2", "unsafe = true"))
    assert [version.unsafe for version in catalog.versions] == [False, True]


def test_class_names_that_no_message_carries_are_a_mistake(written: Writer) -> None:
    names = ", ".join(f'"class number {number}"' for number in range(6000))
    with pytest.raises(SettingsError, match="at most 65536 characters together"):
        written(("cap", "n", "3", f"classes = [{names}]"))


def test_the_home_of_nobody_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        f'[[model]]\nname = "b"\nvariant = "n"\nversion = "1"\nfile = "~no-one-here/b.onnx"\nsha256 = "{SHA}"\n'
    )
    with pytest.raises(SettingsError, match="without ~"):
        Catalog.load(file)


REMOTE = [
    "https://host/a.onnx",
    "http://host:8080/a.onnx?x=1",
    "s3://models/cap/a.onnx",
    "oci://host/cap:4",
    "mlflow://host/cap@champion",
]


@pytest.mark.parametrize("reference", REMOTE)
def test_a_fetched_file_lies_in_the_store_under_its_sha256(tmp_path: Path, reference: str) -> None:
    text = f'[[model]]\nname="a"\nvariant="n"\nversion=3\nfile="{reference}"\nsha256="{SHA}"\n'
    (tmp_path / "models.toml").write_text(text)
    store = tmp_path / "store"
    (version,) = Catalog.load(tmp_path / "models.toml", store).versions
    assert (version.path, version.source) == (str(store / "sha256" / SHA / "model.onnx"), reference)


def test_a_fetched_file_is_found_by_the_suffix_that_it_has(tmp_path: Path) -> None:
    text = f'[[model]]\nname="a"\nvariant="n"\nversion=3\nfile="oci://host/cap:4"\nsha256="{SHA}"\n'
    (tmp_path / "models.toml").write_text(text)
    held = tmp_path / "store" / "sha256" / SHA / "model.pt"
    held.parent.mkdir(parents=True)
    held.touch()
    (version,) = Catalog.load(tmp_path / "models.toml", tmp_path / "store").versions
    assert version.path == str(held)


@pytest.mark.parametrize(
    "reference",
    [
        "https:///a.onnx",
        "https://user:pw@host/a.onnx",
        "https://host/a.txt",
        "s3://bucket/",
        "oci://host",
        "https://host:0/a.onnx",
        "file://nas/a.onnx",
        "https://host/a b.onnx",
    ],
)
def test_a_reference_that_nothing_can_fetch_is_a_mistake(tmp_path: Path, reference: str) -> None:
    text = f'[[model]]\nname="a"\nvariant="n"\nversion=3\nfile="{reference}"\nsha256="{SHA}"\n'
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"model\[0\].file"):
        Catalog.load(tmp_path / "models.toml")


def test_a_signature_is_looked_for_where_the_file_lies(tmp_path: Path) -> None:
    row = f'[[model]]\nname = "cap"\nvariant = "n"\nsha256 = "{SHA}"\n'
    (tmp_path / "models.toml").write_text(
        f'{row}version = "1"\nfile = "kept/cap.onnx"\nsignature = "signed/cap.minisig"\n'
        f'{row}version = "2"\nfile = "https://models.example/cap.onnx"\nsignature = "https://models.example/cap.minisig"\n'
        f'{row}version = "3"\nfile = "kept/cap.onnx"\n'
    )
    versions = Catalog.load(tmp_path / "models.toml", tmp_path / "store").versions
    assert [one.signature for one in versions] == [str(tmp_path / "kept/signed/cap.minisig"), "", ""]
