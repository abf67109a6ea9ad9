"""The transfer of one file: resumed, bounded, and refused where its server lies."""

import os
import random
import time
from pathlib import Path

import pytest
from support.fetches import HASTY, Fetches, content_of, entry
from support.file_server import FileServer, Served

from agent.messages.errors import ChangeoverError, ModelError
from agent.models.keeping.room import NoRoomError
from agent.supply.errors import SourceError

SIZE = 300_000
CONTENT = content_of(SIZE)


def reason_of(error: ChangeoverError) -> str:
    assert isinstance(error, (SourceError, NoRoomError, ModelError))
    return error.reason


def test_a_file_comes_whole(server: FileServer, fetches: Fetches) -> None:
    server.files["/m/cap.onnx"] = Served(CONTENT)
    [found] = fetches.fetch(entry(server.url("/m/cap.onnx"), CONTENT))
    assert Path(found["file"]).read_bytes() == CONTENT
    fetches.require_only(CONTENT)
    assert (fetches.told[-1].bytes, fetches.told[-1].total) == (SIZE, SIZE)


def test_what_is_there_is_not_fetched_again(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    first = fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert fetches.fetch(entry(server.url("/cap.onnx"), CONTENT)) == first
    assert server.sent_bytes == SIZE


def test_a_damaged_file_of_the_store_is_fetched_again(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    [found] = fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    Path(found["file"]).write_bytes(CONTENT[:-1])
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_twenty_cuts_at_random_places_cost_no_byte_twice(server: FileServer, fetches: Fetches) -> None:
    chance = random.Random(20)
    places = sorted(chance.sample(range(1, SIZE), 20))
    cuts = [after - before for before, after in zip([0, *places], places, strict=False)]
    server.files["/cap.onnx"] = Served(CONTENT, cuts=cuts)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)
    assert server.sent_bytes <= 1.02 * SIZE
    assert len(server.requests) == 21


def test_a_job_goes_on_where_an_earlier_process_ended(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, cuts=[SIZE // 2, 0, 0, 0, 0])
    with pytest.raises(SourceError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "cut_off"
    assert len(fetches.leftovers()) == 2
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)
    assert server.sent_bytes == SIZE


def test_what_a_cut_import_left_goes_after_a_week(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    now_s = time.time()
    for name, age_s in (("stick-old", 8 * 86400.0), ("stick-new", 3600.0)):
        folder = fetches.store_dir / ".parts" / name
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"half")
        os.utime(folder, (now_s - age_s, now_s - age_s))
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert fetches.leftovers() == [".parts/stick-new"]


def test_a_server_without_ranges_is_read_from_the_beginning(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, cuts=[SIZE // 2], ranges=False)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_a_server_that_names_no_version_is_resumed(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, cuts=[SIZE // 2], etag="")
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)
    assert server.sent_bytes == SIZE


@pytest.mark.parametrize("etag", ['"2"', ""])
def test_a_file_that_changes_midway_is_begun_again(server: FileServer, fetches: Fetches, etag: str) -> None:
    older = content_of(SIZE, seed=2)
    server.files["/cap.onnx"] = Served(older, cuts=[SIZE // 2, 0, 0, 0, 0], etag='"1"' if etag else "")
    with pytest.raises(SourceError):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    server.files["/cap.onnx"] = Served(CONTENT, etag=etag)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_a_file_that_changes_at_each_look_is_refused(server: FileServer, fetches: Fetches) -> None:
    class Changing(Served):
        @property
        def etag(self) -> str:
            return f'"{len(server.requests)}"'

        @etag.setter
        def etag(self, _value: str) -> None:
            return

    server.files["/cap.onnx"] = Changing(CONTENT, cuts=[1000] * 50)
    with pytest.raises(ModelError, match="changes again and again"):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only()


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (Served(content_of(SIZE, seed=3)), "hash_mismatch"),
        (Served(CONTENT, claims=SIZE - 100), "hash_mismatch"),
        (Served(CONTENT, encoding="gzip"), "source_refused"),
        (Served(CONTENT, status=403), "source_refused"),
        (Served(CONTENT, status=503), "source_refused"),
        (Served(CONTENT, status=404), "not_found"),
    ],
    ids=["other-file", "claims-less", "gzip", "denied", "busy", "gone"],
)
def test_a_bad_server_is_refused_with_a_reason(
    server: FileServer, fetches: Fetches, served: Served, reason: str
) -> None:
    server.files["/cap.onnx"] = served
    with pytest.raises(ChangeoverError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert reason_of(refused.value) == reason
    assert not list(fetches.store_dir.glob("sha256/*"))


@pytest.mark.parametrize(
    "served", [Served(CONTENT, hangs_after=0), Served(CONTENT, pause_s=0.1, chunk_bytes=1)], ids=["hangs", "drips"]
)
def test_a_server_that_sends_next_to_nothing_is_given_up(server: FileServer, tmp_path: Path, served: Served) -> None:
    fetches = Fetches(tmp_path, pace=HASTY)
    server.files["/cap.onnx"] = served
    with pytest.raises(SourceError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "source_hung"
    assert not list(fetches.store_dir.glob("sha256/*"))


def test_a_server_that_claims_too_many_bytes_is_seen_through(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, claims=SIZE + 100)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_a_stream_without_a_size_is_taken(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, is_chunked=True, cuts=[SIZE // 2])
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_an_endless_stream_ends_at_the_limit_of_the_store(server: FileServer, tmp_path: Path) -> None:
    fetches = Fetches(tmp_path, max_bytes=9 << 20)
    server.files["/cap.onnx"] = Served(content_of(20 << 20), is_chunked=True, chunk_bytes=1 << 20)
    with pytest.raises(NoRoomError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "no_space"
    fetches.require_only()


@pytest.mark.parametrize("host", ["\u2028", "a" * 300, "xn--\udcff"])
def test_a_host_that_is_none_is_refused(fetches: Fetches, host: str) -> None:
    with pytest.raises(ChangeoverError) as refused:
        fetches.fetch(entry(f"http://{host}/cap.onnx", CONTENT))
    assert reason_of(refused.value) in {"source_refused", "not_understood", "cut_off"}


def test_nobody_listens(fetches: Fetches) -> None:
    with pytest.raises(SourceError) as refused:
        fetches.fetch(entry("http://127.0.0.1:9/cap.onnx", CONTENT))
    assert refused.value.reason == "cut_off"


def test_a_job_has_an_end(server: FileServer, fetches: Fetches) -> None:
    server.files["/cap.onnx"] = Served(CONTENT, pause_s=0.2)
    with pytest.raises(SourceError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT), max_s=0.5)
    assert refused.value.reason == "timeout"
    server.files["/cap.onnx"] = Served(CONTENT)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)
    assert server.sent_bytes < 1.5 * SIZE


def test_a_path_and_a_mount_are_copied(fetches: Fetches, tmp_path: Path) -> None:
    place = tmp_path / "nas" / "cap 1.onnx"
    place.parent.mkdir()
    place.write_bytes(CONTENT)
    for reference in (str(place), f"file://{tmp_path}/nas/cap%201.onnx"):
        [found] = fetches.fetch(entry(reference, CONTENT))
        assert Path(found["file"]).read_bytes() == CONTENT
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry(str(place.parent / "other.onnx"), b"x"))
    assert refused.value.reason == "not_found"


def test_all_files_of_a_model_come_together(server: FileServer, fetches: Fetches) -> None:
    weights = content_of(50_000, seed=4)
    server.files["/m/cap.xml"] = Served(CONTENT)
    server.files["/m/cap.bin"] = Served(weights)
    model = entry(server.url("/m/cap.xml"), CONTENT, files={"cap.bin": entry("", weights)["sha256"]})
    [found] = fetches.fetch(model)
    path = Path(found["file"])
    assert (path.name, path.read_bytes()) == ("model.xml", CONTENT)
    assert path.with_name("model.bin").read_bytes() == weights
    assert found["files"] == {"model.bin": entry("", weights)["sha256"]}
    assert fetches.leftovers() == []
    fetches.fetch(model)
    assert server.sent_bytes == SIZE + len(weights)


@pytest.mark.parametrize("name", ["other.bin", "other.xml"])
def test_two_files_of_one_name_in_the_store_are_refused_before_a_byte(
    fetches: Fetches, tmp_path: Path, name: str
) -> None:
    files = dict.fromkeys(("cap.bin", name), entry("", CONTENT)["sha256"])
    with pytest.raises(ModelError, match=r"other\.(bin|xml)") as refused:
        fetches.fetch(entry(tmp_path / "cap.xml", CONTENT, files=files))
    assert refused.value.reason == "not_understood"


def test_a_rate_limit_is_kept(server: FileServer, tmp_path: Path) -> None:
    fetches = Fetches(tmp_path, max_kbps=2000)
    content = content_of(500_000)
    server.files["/cap.onnx"] = Served(content)
    fetches.fetch(entry(server.url("/cap.onnx"), content))
    told = [one for one in fetches.told if one.bytes > 100_000 and one.state == "downloading"]
    assert told
    assert max(one.kbps for one in told) < 2600
