"""Root's `check` of the service's configuration judges as the service's user would."""

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent.app.configuration import service_access as module
from agent.app.configuration.service_access import Service, service_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for one in (tmp_path, *tmp_path.parents):
        if one.is_relative_to(tempfile.gettempdir()) and one != Path(tempfile.gettempdir()):
            one.chmod(one.stat().st_mode | 0o111)  # pytest's own folders are closed
    return tmp_path


@pytest.fixture
def service(folder: Path) -> Service:
    hidden = ((folder / "home", "ProtectHome=yes"),)
    return Service("nobody", NOBODY.pw_uid, NOBODY.pw_gid, (), hidden, (folder / "home" / "shown",), (folder / "data",))


def do(command: str) -> None:
    """Run a command that was given as the cure."""
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True)


def cure(text: str) -> str:
    return text.partition("`")[2].rpartition("`")[0]


@pytest.mark.parametrize("name", ["model.onnx", "a model's file.onnx"])
def test_a_closed_file_is_named_and_its_cure_works(folder: Path, service: Service, name: str) -> None:
    file = folder / name
    file.write_text("x")
    file.chmod(0o600)
    fault = service.unreadable(file)
    assert fault is not None
    assert "mode 0600, root:root" in fault.found
    do(cure(fault.expected).replace("chgrp nobody", f"chgrp {NOBODY.pw_gid}"))
    assert service.unreadable(file) is None
    assert os.geteuid() == 0, "root is itself again"


def test_a_closed_folder_above_is_what_is_opened(folder: Path, service: Service) -> None:
    file = folder / "a" / "b" / "clip.avi"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    (folder / "a").chmod(0o700)
    fault = service.unreadable(file)
    assert fault is not None
    assert fault.found.startswith(f"{folder / 'a'},")
    do(cure(fault.expected).replace("chgrp nobody", f"chgrp {NOBODY.pw_gid}"))
    assert service.unreadable(file) is None


def test_a_folder_of_pictures_is_opened_with_all_that_is_in_it(folder: Path, service: Service) -> None:
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "1.png").write_text("x")
    (pictures / "1.png").chmod(0o600)
    assert (service.unreadable(pictures) or ("",))[0].startswith(f"{pictures / '1.png'},")
    pictures.chmod(0o700)
    fault = service.unreadable(pictures)
    assert fault is not None
    do(cure(fault.expected).replace("chgrp -R nobody", f"chgrp -R {NOBODY.pw_gid}"))
    assert service.unreadable(pictures) is None


def test_what_only_the_service_s_user_may_read_is_well(folder: Path, service: Service) -> None:
    file = folder / "own"
    file.write_text("x")
    file.chmod(0o400)
    os.chown(file, NOBODY.pw_uid, 0)
    assert service.unreadable(file) is None


def test_an_access_list_counts(folder: Path, service: Service) -> None:
    file = folder / "listed"
    file.write_text("x")
    file.chmod(0o600)
    try:
        subprocess.run(["setfacl", "-m", "u:nobody:r", str(file)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs setfacl and a file system with access lists")
    assert service.unreadable(file) is None


def test_what_the_unit_hides_is_moved(folder: Path, service: Service) -> None:
    file = folder / "home" / "me" / "clip.avi"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    (folder / "data").mkdir()
    link = folder / "link.avi"
    link.symlink_to(file)
    assert service.unreadable(link) is not None
    fault = service.unreadable(file, folder / "data")
    assert fault is not None
    assert "ProtectHome=yes" in fault.found
    do(cure(fault.expected).replace("chgrp nobody", f"chgrp {NOBODY.pw_gid}"))
    assert service.unreadable(folder / "data" / "clip.avi") is None
    shown = folder / "home" / "shown" / "clip.avi"
    shown.parent.mkdir()
    shown.write_text("x")
    assert service.unreadable(shown) is None


def test_the_state_folder_must_be_the_service_s(folder: Path, service: Service) -> None:
    assert "ReadWritePaths=" in (service.unwritable(folder / "elsewhere") or ("", ""))[1]
    data = folder / "data"
    assert service.unwritable(data) is None, "systemd makes it"
    data.mkdir()
    (data / "outbox.db").write_text("x")
    fault = service.unwritable(data)
    assert fault is not None
    do(cure(fault.expected).replace("nobody:", str(NOBODY.pw_uid)))
    assert service.unwritable(data) is None
    os.chown(data / "outbox.db", 0, 0)
    assert "outbox.db, which" in (service.unwritable(data) or ("",))[0]


def test_a_credential_that_systemd_does_not_hand_over_is_told(service: Service) -> None:
    assert service.not_handed_over(Path("/etc/changeover/credentials/mqtt-password")) is None
    fault = service.not_handed_over(Path("/etc/changeover/credentials/other"))
    assert fault is not None
    assert "LoadCredential=other:/etc/changeover/credentials/other" in fault.expected


def test_only_the_service_s_own_configuration_is_judged_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "USER", "nobody")
    monkeypatch.setattr(module, "HOME", folder / "etc")
    monkeypatch.setattr(module, "_BOOTED", folder / "nowhere")
    own, other = folder / "etc" / "changeover.toml", folder / "trial.toml"
    own.parent.mkdir()
    for file in (own, other):
        file.touch()
    found = service_of(own)
    assert found is not None
    assert (found.user, found.uid, found.writable) == ("nobody", NOBODY.pw_uid, (module.DATA,))
    assert [str(path) for path, _ in found.hidden] == ["/home", "/root", "/run/user", "/tmp", "/var/tmp"]
    assert service_of(other) is None
    os.chown(other, 0, NOBODY.pw_gid)
    assert service_of(other) is not None
    monkeypatch.setattr(module, "USER", "not-there")
    assert service_of(own) is None
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert service_of(own) is None


def test_what_an_administrator_changed_of_the_unit_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemctl prints it, drop-ins included."""
    shows = "LoadState=loaded\nUser=nobody\nProtectHome=no\nPrivateTmp=no\nReadWritePaths=/srv/state\nBindPaths=/a:/b\n"
    text = "[Service]\nLoadCredential=mqtt-password:/x\n# comment\nLoadCredential=other:/y\n"
    fake = folder / "systemctl"
    fake.write_text(f"#!/bin/sh\ncase $1 in show) printf '{shows}' ;; *) printf '{text}' ;; esac\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "_BOOTED", folder)
    monkeypatch.setattr(module, "HOME", folder)
    found = service_of(folder / "changeover.toml")
    assert found is not None
    assert found.hidden == ()
    assert found.shown == (Path("/b"),)
    assert found.writable == (module.DATA, Path("/srv/state"))
    assert found.credentials == ("mqtt-password", "other")
