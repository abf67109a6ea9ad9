"""Amounts, the pools that they are charged to, and how both are told."""

from pathlib import Path

from click.testing import CliRunner

from agent.cli import _commands
from agent.inference.memory.eviction import Eviction, Standby
from agent.inference.memory.footprints import Footprint, Footprints
from agent.inference.memory.pools import Amount, Budget, is_gpu, is_in_device
from agent.settings import load

MIB = 1 << 20


def test_one_pool_is_short_of_the_sum_and_two_of_each() -> None:
    needed = Amount(60, 50)
    assert Budget(100).shortage(needed) == Amount(10)
    assert Budget(100, 40).shortage(needed) == Amount(-40, 10)
    assert [Budget(100).shortage(needed).missing_bytes, Budget(100, 40).shortage(needed).missing_bytes] == [10, 10]
    assert not Budget(60, 50).shortage(needed).is_short
    assert Budget(59, 50).shortage(needed).is_short
    assert Budget(60, 49).shortage(needed).is_short


def test_the_setting_says_where_models_are_expected() -> None:
    assert [is_gpu(compute) for compute in ("cuda:1", "tensorrt", "CUDA:0", "auto", "cpu")] == [True] * 3 + [False] * 2
    assert is_in_device("onnxruntime", "cuda:0")
    assert is_in_device("tensorrt", "auto")
    assert not is_in_device("openvino", "cuda:0")
    assert not is_in_device("onnxruntime", "auto")


def standby(name: str, host_mib: int, device_mib: int, reload_ms: float = 100.0) -> Standby:
    return Standby(name, host_mib * MIB, reload_ms, device_bytes=device_mib * MIB)


def chosen(candidates: list[Standby], host_mib: int, device_mib: int) -> set[str] | None:
    policy = Eviction()
    for one in candidates:
        policy.used(one.reference)
    found = policy.choose(candidates, host_mib * MIB, device_mib * MIB)
    return None if found is None else set(found)


def test_the_pool_that_is_short_is_freed_and_no_other() -> None:
    few = [standby("host", 100, 0, 1.0), standby("device", 5, 100, 900.0), standby("both", 60, 60, 1000.0)]
    many = [standby(f"spare-{number}", 1, 0, 1.0) for number in range(10)]
    for candidates in (few, few + many):  # every set is compared, and the cheapest are taken one by one
        assert chosen(candidates, 0, 80) == {"device"}
        assert chosen(candidates, 80, -50) == {"host"}
        assert chosen(candidates, 101, 101) in ({"host", "device"}, {"host", "both", "device"})
        assert chosen(candidates, 0, 150) == {"device", "both"}
        assert chosen(candidates, 0, 161) is None
        assert chosen(candidates, -5, 0) == set()


def test_a_versions_list_names_what_it_takes_of_a_gpu(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    file = tmp_path / "n.onnx"
    file.write_bytes(b"12345")
    catalog.write_text(
        f'[[model]]\nname = "cap"\nvariant = "n"\nversion = "1"\nfile = "{file}"\nsha256 = "{"ab" * 32}"\n'
    )
    config = tmp_path / "changeover.toml"
    config.write_text(
        f'[device]\nstate_dir = "{tmp_path}"\ncompute = "cuda:0"\n[catalog]\nfile = "{catalog}"\n'
        '[[stream]]\nid = "cam-1"\nline = "line-1"\nsource = "/dev/video0"\n[line.line-1]\ndefault = "cap"\n'
    )
    listed = CliRunner().invoke(_commands, ["models", "list", "--config", str(config)], catch_exceptions=False)
    assert "takes" not in listed.output

    footprints = Footprints(load(config, {}).device.cache_dir)
    footprints.remember(f"{'ab' * 32}/onnxruntime/cpu/own", Footprint(7_000_000))
    footprints.remember(f"{'ab' * 32}/onnxruntime/cuda:0/own", Footprint(2_000_000, device_bytes=30_000_000))
    listed = CliRunner().invoke(_commands, ["models", "list", "--config", str(config)], catch_exceptions=False)
    assert "\ttakes: host 2.0 MB, device 30.0 MB\t" in listed.output
