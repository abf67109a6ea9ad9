"""`doctor` as root looks at what the running service holds since its start, not at what its files say now."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.doctor.service import held_by, run_inside, running_service, try_service, unit_properties
from agent.messages.errors import EXIT_FAILED

UNIT = """[Service]
User=somebody
Environment=CHANGEOVER_DEVICE__ID=changed-since
MemoryMax=85%
LoadCredential=mqtt-password:{0}/etc/mqtt-password
LoadCredential=mqtt-key:{0}/etc/mqtt-key
"""


class Service:
    """A stand-in for systemd, and a process in place of the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held, self.etc = folder / "held", folder / "etc"
        for name in ("held", "etc", "bin"):
            (folder / name).mkdir()
        for name in ("mqtt-password", "mqtt-key"):
            (self.held / name).write_text(f"{name} as it was")
            (self.etc / name).write_text(f"{name} as it was")
        environ = {"CREDENTIALS_DIRECTORY": str(self.held), "CHANGEOVER_DEVICE__ID": "as-it-was", "HOME": "/"}
        code = "import sys; print('up', flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"
        self.shows("active")
        kept = f'printf "%s\\n" "$@" >{folder}/arguments; env >{folder}/environment'
        self._program("systemd-run", f'{kept}; exit "$(cat {folder}/code)"')
        (folder / "code").write_text("0")

    def shows(self, state: str, reload: str = "no") -> None:
        said = f"ActiveState={state}\\nMainPID={self.process.pid}\\nNeedDaemonReload={reload}\\n"
        (self.folder / "unit").write_text(UNIT.format(self.folder))
        self._program("systemctl", f'case "$1" in show) printf "{said}" ;; cat) cat {self.folder}/unit ;; esac')

    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().splitlines()

    def _program(self, name: str, body: str) -> None:
        file = self.folder / "bin" / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    yield made
    made.process.communicate()


def test_it_runs_with_the_credentials_variables_and_user_that_the_service_holds(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    (service.etc / "mqtt-password").write_text("changed")
    assert run_inside(["doctor", "--inside"]) == EXIT_FAILED
    arguments = service.arguments()
    assert f"--property=LoadCredential=mqtt-password:{service.held}/mqtt-password" in arguments
    assert f"--property=User={psutil.Process().username()}" in arguments
    assert "--property=MemoryMax=85%" in arguments
    assert "--setenv=CHANGEOVER_DEVICE__ID" in arguments
    assert not [one for one in arguments if "somebody" in one or "changed-since" in one or f"{service.etc}" in one]
    assert "CHANGEOVER_DEVICE__ID=as-it-was" in (service.folder / "environment").read_text()
    said = capsys.readouterr().out.splitlines()
    (failed,) = [line for line in said if line.startswith("fail")]
    assert failed.startswith(f"fail  credential mqtt-password: {service.etc}/mqtt-password was changed")
    assert "restart changeover" in failed
    assert any(line.startswith("ok    credential mqtt-key: ") for line in said)


def test_a_service_that_holds_what_its_files_say_changes_no_exit_code(service: Service) -> None:
    assert run_inside(["doctor"]) == 0
    (service.folder / "code").write_text("2")
    assert run_inside(["doctor"]) == 2


def test_without_a_running_service_the_unit_alone_decides(service: Service) -> None:
    service.shows("inactive")
    assert running_service() is None
    assert run_inside(["doctor"]) == 0
    arguments = service.arguments()
    assert f"--property=LoadCredential=mqtt-password:{service.etc}/mqtt-password" in arguments
    assert "--property=User=somebody" in arguments


def test_a_unit_that_was_changed_and_a_credential_that_came_later_are_told(service: Service) -> None:
    service.shows("active", reload="yes")
    (service.held / "mqtt-key").unlink()
    running, properties = running_service(), unit_properties()
    assert running is not None
    assert properties is not None
    said = [str(one) for one in try_service(running, properties)]
    assert any("daemon-reload" in line for line in said)
    assert any(line.startswith("fail  credential mqtt-key: the running service does not hold it") for line in said)
    assert [one for one in held_by(running, properties) if "mqtt-key" in one] == []


@pytest.mark.usefixtures("service")
def test_a_plain_user_is_told_who_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    running = running_service()
    assert running is not None
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    said = [str(one) for one in try_service(running, unit_properties() or [])]
    assert "seen by root alone: sudo changeover doctor" in said[-1]
