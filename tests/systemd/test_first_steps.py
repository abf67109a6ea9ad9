"""A first configuration on the device itself: written by root for the service, and judged with the service's eyes."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import tomlkit
from support.machine import Machine
from support.running_agent import RunningAgent

CONFIG = "/etc/changeover/first.toml"
SECRET = "/etc/changeover/credentials/mqtt-password"


@pytest.fixture
def picture(installed: Machine) -> str:
    """Give a picture in root's home, as somebody leaves it who only tries."""
    image = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    assert cv2.imwrite(str(installed.root / "root" / "one.png"), image)
    return "/root/one.png"


def options(plant: RunningAgent, camera: str) -> list[str]:
    broker = tomlkit.parse(plant.config.read_text()).unwrap()["mqtt"]["url"]
    given = ["--config", CONFIG, "--line", "line-1", "--product", "17=alpha", "--device", "other"]
    return [*given, "--camera", camera, "--broker", broker]


def test_root_is_told_what_the_service_cannot_see_and_then_it_can(
    installed: Machine, plant: RunningAgent, picture: str
) -> None:
    try:
        refused = installed.run("changeover", "init", *options(plant, picture), check=False)
        assert refused.returncode == 2, refused.stderr
        assert "ok    camera cam-1" in refused.stderr, "root itself sees it"
        assert "which the service does not see (ProtectHome=yes)" in refused.stderr
        installed.run("test", "!", "-e", CONFIG)
        (command,) = re.findall(r"`(mv .*?)`", refused.stderr)
        installed.run("sh", "-ec", command)
        written = installed.run("changeover", "init", *options(plant, "/var/lib/changeover/one.png"))
        check, start, switch = written.stdout.splitlines()[-3:]
        assert (start, switch) == ("systemctl restart changeover", f"changeover switch line-1 17 --config {CONFIG}")
        assert ", as the user changeover)" in installed.run("sh", "-ec", check).stdout
        assert installed.run("stat", "--format=%U:%G %a", CONFIG).stdout == "root:changeover 640\n"
        again = installed.run("changeover", "init", *options(plant, "/var/lib/changeover/one.png"), check=False)
        assert (again.returncode, "is there already" in again.stderr) == (2, True)
    finally:
        installed.run("rm", "-f", CONFIG, "/var/lib/changeover/one.png", "/root/one.png")


def test_a_password_goes_where_only_root_reads_it_and_the_service_gets_it(
    installed: Machine, plant: RunningAgent
) -> None:
    before = installed.run("cat", SECRET).stdout
    try:
        more = ["--username", "box", "--no-try", "--password-file", "/root/secret"]
        installed.run("sh", "-ec", "umask 077; echo hunter2 > /root/secret")
        answer = installed.run("changeover", "init", *options(plant, "rtsp://10.0.0.5/s"), *more)
        assert "hunter2" not in answer.stdout + answer.stderr
        assert installed.run("stat", "--format=%U:%G %a", SECRET).stdout == "root:root 600\n"
        assert 'password_file = "credential:mqtt-password"' in (installed.root / CONFIG[1:]).read_text()
    finally:
        installed.run("rm", "-f", CONFIG, "/root/secret")
        installed.run("truncate", "--size=0", SECRET)
    assert before == ""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("chmod 600 {file}; chgrp root {file}", "mode 0600, root:root"),
        ("chmod 640 {file}; chgrp root {file}", "mode 0640, root:root"),
    ],
)
def test_a_model_that_the_service_cannot_read_is_named_and_its_command_mends_it(
    installed: Machine, plant: RunningAgent, spoil: str, words: str
) -> None:
    model = tomlkit.parse((plant.folder / "models.toml").read_text()).unwrap()["model"][0]["file"]
    file = f"/etc/changeover/{Path(model).name}"
    installed.run("sh", "-ec", spoil.format(file=file))
    answer = installed.run("changeover", "check", check=False)
    assert answer.returncode == 2
    (line,) = answer.stdout.splitlines()
    assert words in line
    installed.run("sh", "-ec", re.findall(r"`(.*?)`", line)[0])
    assert installed.run("changeover", "check").stdout.startswith("ok: ")
