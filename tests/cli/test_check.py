"""`changeover check`: every mistake in one run, one line each, and 2 as its answer."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from agent.app.configuration.check import check

Command = Callable[..., CompletedProcess[str]]


def test_a_good_configuration_is_summed_up(changeover: Command, config: Path) -> None:
    answer = changeover("check", "--config", str(config))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("ok: 1 line, 1 stream, 1 product, 1 model ")


def test_mistakes_of_all_files_come_in_one_run(changeover: Command, config: Path) -> None:
    config.write_text(config.read_text().replace("cap-check:n@3", "cap-check:m") + "[mqtt]\nprotocol = '9'\n")
    catalog = config.with_name("models.toml")
    catalog.write_text(catalog.read_text() + 'golden = "pictures"\n')
    config.with_name("cap.onnx").write_bytes(b"another model")
    answer = changeover("check", CHANGEOVER_CONFIG=str(config), CHANGEOVER_HTTP__BIND="x")
    assert answer.returncode == 2
    starts = [line.split(": found ")[0] for line in answer.stdout.splitlines()]
    assert sorted(starts) == sorted(
        [
            f"{config}: mqtt.protocol",
            "environment: CHANGEOVER_HTTP__BIND",
            f"{config}: line.line-1.products.17",
            f"{catalog}: model[0].sha256",
            f"{catalog}: model[0].golden",
        ]
    )
    assert "expected one of cap-check:n@3" in answer.stdout


def test_a_broken_catalog_is_reported_beside_the_configuration(config: Path) -> None:
    config.write_text(config.read_text() + "[mqtt]\nprotocol = '9'\n")
    catalog = config.with_name("models.toml")
    catalog.write_text("[[model]]\nname =\n")
    where = [(mistake.file, mistake.key) for mistake in check(config, {}).mistakes]
    assert where == [(str(config), "mqtt.protocol"), (f"{catalog}:2", "")]


def test_missing_files_are_named_by_their_keys(config: Path) -> None:
    config.with_name("cap.onnx").unlink()
    config.write_text(config.read_text() + "[mqtt]\nusername = 'u'\npassword_file = 'hunter2'\n")
    mistakes = check(config, {}).mistakes
    assert [mistake.key for mistake in mistakes] == ["mqtt.password_file", "model[0].file"]
    assert "hunter2" not in "\n".join(map(str, mistakes))
    config.with_name("models.toml").unlink()
    assert "catalog.file" in [mistake.key for mistake in check(config, {}).mistakes]


def test_an_authority_that_cannot_be_read_is_named_by_its_key(config: Path) -> None:
    changed = config.read_text().replace("[[stream]]\n", '[[stream]]\nca_file = "nowhere.pem"\n')
    config.write_text(changed)
    assert [mistake.key for mistake in check(config, {}).mistakes] == ["stream[0].ca_file"]


def test_a_variant_without_a_place_among_the_others_is_a_mistake(config: Path) -> None:
    rules = [
        '[[schedule]]\nline = "line-1"\nfrom = "22:00"\nto = "06:00"\nvariant = "night"\n',
        '[[bandwidth]]\nline = "line-1"\nbelow_kbps = 500\nmax_variant = "small"\n',
        '[[bandwidth]]\nline = "line-1"\nbelow_kbps = 300\nmax_variant = "n-int8"\n',
    ]
    config.write_text(config.read_text().replace('default = "cap', 'variant = "mm"\ndefault = "cap') + "".join(rules))
    mistakes = check(config, {}).mistakes
    wanted = ["line.line-1.variant", "schedule[0].variant", "bandwidth[0].max_variant"]
    assert [mistake.key for mistake in mistakes] == wanted
    assert mistakes[0].found == '"mm"'
    assert mistakes[0].expected.startswith("n, s, m, l, x,")
    catalog = config.with_name("models.toml")
    catalog.write_text(catalog.read_text().replace('variant = "n"', 'variant = "mm"\nrank = 7'))
    config.write_text(config.read_text().replace("cap-check:n@3", "cap-check"))
    assert [mistake.key for mistake in check(config, {}).mistakes] == wanted[1:]


def test_models_that_nobody_can_trust_are_a_mistake(config: Path) -> None:
    config.write_text(config.read_text().replace("[catalog]", f"[catalog]\ntrusted_keys = ['{'ab' * 32}']"))
    (mistake,) = check(config, {}).mistakes
    assert mistake.key == "catalog.trusted_keys"


@pytest.mark.parametrize("arguments", [["check", "--config", "none.toml"], ["run", "--config", "none.toml"], ["check"]])
def test_no_configuration_is_a_mistake(changeover: Command, arguments: list[str]) -> None:
    answer = changeover(*arguments, CHANGEOVER_CONFIG="none-either.toml")
    assert answer.returncode == 2
    assert "no such file" in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
