"""The RTSP server of the tests, and the check that this machine can run it."""

import subprocess
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("rtsp_server.py")
SYSTEM_PYTHON = "/usr/bin/python3"
_NEEDED = 'import gi; gi.require_version("GstRtspServer", "1.0"); gi.require_version("Gst", "1.0")'
_CODERS = ("x264enc", "x265enc")


def _has_rtsp_server() -> bool:
    commands = [[SYSTEM_PYTHON, "-c", _NEEDED], *(["gst-inspect-1.0", coder] for coder in _CODERS)]
    try:
        return all(subprocess.run(one, capture_output=True, check=False).returncode == 0 for one in commands)
    except OSError:
        return False


needs_rtsp_server = pytest.mark.skipif(
    not _has_rtsp_server(),
    reason="needs python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{bad,ugly}: scripts/test installs them",
)
