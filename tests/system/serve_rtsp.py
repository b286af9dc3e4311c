"""An RTSP camera: `/usr/bin/python3 serve_rtsp.py PORT`, with Debian's GStreamer. SIGUSR1 makes it stall, and go on."""

import signal
import sys
import time

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402
from picture_time import draw_gray  # noqa: E402

FPS, WIDTH, HEIGHT = 15, 320, 240
LAUNCH = (
    f"( appsrc name=pictures is-live=true format=time do-timestamp=true"
    f" caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
    f" ! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency threads=1 speed-preset=ultrafast bitrate=1000"
    f" key-int-max={FPS} ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


class Camera:
    """Feeds each media that a client asks for."""

    def __init__(self) -> None:
        """Begin well."""
        self.stalled = False

    def configure(self, factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        """Feed a new media until it has no client."""
        source = media.get_element().get_by_name("pictures")
        timer = GLib.timeout_add(1000 // FPS, self.push, source)
        media.connect("unprepared", lambda media: GLib.source_remove(timer))

    def push(self, source: Gst.Element) -> bool:
        """Push one picture."""
        if not self.stalled:
            source.emit("push-buffer", Gst.Buffer.new_wrapped(draw_gray(time.time(), WIDTH, HEIGHT)))
        return True

    def toggle(self) -> bool:
        """Stall, or go on, and say so."""
        self.stalled = not self.stalled
        print("toggled", flush=True)
        return True


def main() -> None:
    """Serve rtsp://127.0.0.1:PORT/camera for ever."""
    Gst.init(None)
    camera, server, factory = Camera(), GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    server.get_mount_points().add_factory("/camera", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {sys.argv[1]} is taken")
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, camera.toggle)
    GLib.MainLoop().run()


main()
