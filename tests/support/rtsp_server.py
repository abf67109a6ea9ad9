"""A camera's RTSP server, run by the system's Python: `/usr/bin/python3 rtsp_server.py MODE [USER PASSWORD]`.

Prints its port, and serves /cam, 320x240 at 5 frames a second, until it is killed.
SIGUSR1 makes it close every connection.
"""

# mypy: ignore-errors
import signal
import sys

import gi

for name in ("Gst", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402 - a version is chosen first

VIDEO = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=5/1 ! "
H264 = (
    "x264enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} ! rtph264pay name=pay0 pt=96 config-interval=1"
)
CODERS = {
    "h265": "x265enc speed-preset=ultrafast tune=zerolatency key-int-max=5 ! h265parse ! rtph265pay name=pay0 pt=96",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
SOUND = " audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8"


def main(mode: str, *credentials: str) -> None:
    """Serve."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    coder = CODERS.get(mode, H264.format(gop=50 if mode == "gop10" else 5))
    factory.set_launch(f"( {VIDEO}{coder}{SOUND if mode == 'audio' else ''} )")
    if mode == "udp":
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
    if credentials:
        demand(server, factory, mode, *credentials)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, drop, server)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


def drop(server: object) -> bool:
    """Close every connection; the true answer asks to be called again."""
    server.client_filter(lambda _server, _client: GstRtspServer.RTSPFilterResult.REMOVE)
    return True


def demand(server: object, factory: object, mode: str, user: str, password: str) -> None:
    """Let nobody in without user and password."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if mode == "basic":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for right in ("access", "construct"):
        permissions.add_permission_for_role("user", f"media.factory.{right}", True)
    factory.set_permissions(permissions)


main(*sys.argv[1:])
