"""The options of `edgecnn camera`, in groups, and which of them need others."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.command import Need, Values, option_group
from edgecnn.cli.options import (
    PROBABILITY,
    SEED,
    THREADS,
    TIMEOUT,
    Count,
    Number,
    NumberOrAuto,
    convention_options,
    runtime_options,
    threshold_options,
)

ALONE = {"config", "print-config", "help"}
CONFIG = "edgecnn.camera.config"  # where the context keeps the path of the file
_SECONDS, _MEGABYTES = Number(0.001, 1e7), Number(0.001, 1e6)
_FILE = click.Path(path_type=Path)


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Make the options of a file the defaults of the command, so that the command line wins."""
    if path is None:
        return
    from edgecnn_device.config import read_config

    parameters = {key_of(p): p for p in context.command.params if key_of(p) not in ALONE}
    values = read_config(path, {key: _kind(parameter) for key, parameter in parameters.items()})
    context.meta[CONFIG] = path
    context.default_map = {parameters[key].name: value for key, value in values.items()}


def check_address(context: click.Context, parameter: click.Parameter, address: str | None) -> str | None:
    """Refuse a bad address before anything can print it: it may hold a password."""
    if address is not None:
        from edgecnn_device.sinks.mqtt_broker import parse_address

        parse_address(address)
    return address


def _kind(parameter: click.Parameter) -> type:
    """Return what an option's value is in a file."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return bool
    if parameter.multiple if isinstance(parameter, click.Option) else False:
        return list
    return {Number: float, Count: int}.get(type(parameter.type), str)


def key_of(parameter: click.Parameter) -> str:
    """Return the name of an option in a file: its long name without the dashes."""
    longest = max((name for name in parameter.opts), key=len)
    return longest.lstrip("-").replace("_", "-")


def _is_camera(values: Values) -> bool:
    from edgecnn_device.sources import SourceOptions, is_live

    return values["source"] != "synthetic" and is_live(SourceOptions(values["source"]))


def _is_live(values: Values) -> bool:
    from edgecnn_device.sources import SourceOptions, is_live

    return is_live(SourceOptions(values["source"], realtime=values["realtime"]))


def _acts(values: Values, *kinds: str) -> bool:
    return any(kind in rule for rule in values["on"] for kind in kinds)


def _has_its_drift(values: Values) -> bool:
    return values["drift"] or not any(rule.startswith("drift:") for rule in values["on"])


_CAMERA = Need("a camera as --source", _is_camera)
_LIVE = Need("a camera as --source, or --realtime", _is_live)
_VIDEO, _LOG = Need.one_of("--video FILE"), Need.one_of("--jsonl FILE", "--csv FILE")
_KEEP, _MQTT, _WEB = Need.one_of("--keep FOLDER"), Need.one_of("--mqtt URL"), Need.one_of("--web [HOST:]PORT")
_ON = Need("--on LABEL:ACTION", lambda values: bool(values["on"]))
NEEDS = {
    "seed": Need("--source synthetic", lambda values: values["source"] == "synthetic"),
    "loop": Need("a file or a folder as --source", lambda values: values["source"] != "synthetic"),
    "open_timeout": _CAMERA,
    "read_timeout": _CAMERA,
    "max_age_ms": _LIVE,
    "frozen_after": _LIVE,
    "part_fill": Need("--trigger motion or line", lambda values: str(values["trigger"]).startswith(("motion", "line"))),
    "overlap": Need.one_of("--tiles CxR"),
    "verify_timeout": Need.one_of("--verify"),
    "video_fps": _VIDEO,
    "video_mb": _VIDEO,
    "write": _LOG,
    "log_max_mb": _LOG,
    "log_keep": _LOG,
    "keep_below": _KEEP,
    "keep_every": _KEEP,
    "keep_mb": _KEEP,
    "keep_days": _KEEP,
    "web_token_file": _WEB,
    "web_editor_token_file": Need("--web [HOST:]PORT and --keep FOLDER", lambda values: bool(values["web"] and values["keep"])),
    "drift_every": Need.one_of("--drift"),
    "drift_baseline": Need.one_of("--drift"),
    "good": Need("--web [HOST:]PORT, --mqtt-discovery or --on", lambda v: bool(v["web"] or v["mqtt_discovery"] or v["on"])),
    "on": Need("--drift, without which no drift comes", _has_its_drift),
    "on_debounce": _ON,
    "on_hold": Need("--on LABEL:gpio:PIN", lambda values: _acts(values, ":gpio:")),
    "on_timeout": Need(
        "--on LABEL:webhook:URL or --on LABEL:command:PATH", lambda values: _acts(values, ":webhook:", ":command:")
    ),
    "on_secret_file": Need("--on LABEL:webhook:URL", lambda values: _acts(values, ":webhook:")),
    "mqtt_password_file": _MQTT,
    "mqtt_ca": _MQTT,
    "mqtt_discovery": _MQTT,
    "group": _MQTT,
    "mqtt_picture": _MQTT,
    "mqtt_discovery_prefix": Need.one_of("--mqtt-discovery"),
    "state_dir": Need(
        "a camera as --source, --web or --mqtt",
        lambda values: _is_live(values) or values["web"] is not None or values["mqtt"] is not None,
    ),
}

source_options = option_group(
    "Source",
    click.option(
        "--source",
        default="synthetic",
        show_default=True,
        envvar="EDGECNN_SOURCE",
        show_envvar=True,
        help="0, /dev/video0, csi, csi:1, csi:imx708, rtsp://..., http://... (a stream or a snapshot), a video file, a "
        "picture, a folder of pictures, synthetic, or NAME[:TARGET] of another package's camera.",
    ),
    click.option(
        "--source-file", type=_FILE, help="File with the source on its one line, since anybody can read a command line."
    ),
    click.option("--size", metavar="WxH", help="Request this size from the camera; other pictures are resized to it."),
    click.option("--fps", type=Number(0.001, 1000), help="Request this frame rate from the camera; pace of --realtime."),
    click.option(
        "--rotate", type=click.Choice(["0", "90", "180", "270"]), default="0", show_default=True, help="Rotate clockwise."
    ),
    click.option(
        "--flip",
        type=click.Choice(["none", "horizontal", "vertical", "both"]),
        default="none",
        show_default=True,
        help="Mirror.",
    ),
    click.option("--loop/--no-loop", default=False, help="Restart the file when it ends."),
    click.option(
        "--realtime/--no-realtime",
        default=None,
        help="Play a file at its own pace, as a camera would; --no-realtime: synthetic frames as fast as possible.",
    ),
    click.option("--frames", type=Count(1, 10**15), help="Stop after this many frames."),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the synthetic source."),
    click.option("--open-timeout", type=TIMEOUT, default=5.0, show_default=True, help="Seconds to wait for a camera to open."),
    click.option(
        "--read-timeout", type=TIMEOUT, default=3.0, show_default=True, help="Seconds without a frame before reopening it."
    ),
    click.option(
        "--max-age-ms",
        type=Number(1, 1e8),
        default=1500.0,
        show_default=True,
        help="Ignore frames older than this; report the camera as lost after this long without one.",
    ),
    click.option(
        "--frozen-after",
        type=_SECONDS,
        default=1.5,
        show_default=True,
        help="Report the camera as frozen after this many seconds of the same picture.",
    ),
)
control_options = option_group(
    "Camera controls (V4L2 and CSI)",
    click.option("--exposure", type=NumberOrAuto(0.001, 1e6), metavar="MS|auto", help="Exposure time in milliseconds."),
    click.option("--gain", type=NumberOrAuto(0, 1e6), metavar="X|auto", help="Gain: a factor (CSI) or camera units (V4L2)."),
    click.option("--focus", type=NumberOrAuto(0, 1e6), metavar="X|auto", help="Focus: dioptres (CSI) or camera units (V4L2)."),
    click.option("--white-balance", type=NumberOrAuto(1000, 20000), metavar="K|auto", help="Colour temperature in kelvin."),
    click.option(
        "--mains", type=click.Choice(["50", "60"]), help="Mains frequency in Hz: automatic exposure avoids lamp flicker."
    ),
)
look_options = option_group(
    "Where and when to look",
    click.option(
        "--roi", metavar="X,Y,W,H", help="Crop after --rotate and --flip, in pixels or as fractions (0.1,0.2,0.5,0.5)."
    ),
    click.option(
        "--find",
        type=click.Choice(["auto", "whole", "digits"]),
        default="auto",
        show_default=True,
        help="What to classify; auto: digits for a model of digits, otherwise the whole frame.",
    ),
    click.option("--tiles", metavar="CxR", help="Classify a grid of tiles, such as 6x1."),
    click.option(
        "--overlap", type=Number(0, 0.9), default=0.0, show_default=True, help="Fraction that neighbouring tiles share."
    ),
    click.option(
        "--smooth",
        type=Count(1, 1000),
        help="Average each region over this many frames, or a part of --trigger over its best. [default: 5]",
    ),
    click.option(
        "--where/--no-where",
        default=False,
        help="Report the box that speaks for the answer, or what is novel, in JSON, samples and on the page.",
    ),
    click.option("--interval", type=_SECONDS, help="Seconds between two classified frames."),
    click.option("--on-motion/--no-on-motion", default=False, help="Classify only while something moves."),
    click.option(
        "--trigger",
        metavar="EVENT",
        help="One answer per part or frame: `motion`, when a part has left or come to rest; `line`, when its middle crosses "
        "that of the picture, or line:x=0.4 or line:y=0.4,down; gpio:PIN, at a rising edge; interval:SECONDS.",
    ),
    click.option(
        "--part-fill",
        type=Number(0.05, 1),
        metavar="F",
        help="Share of the view's side that a part fills, as in the training pictures. [default: what is least novel]",
    ),
)
model_options = option_group(
    "Model",
    threshold_options,
    runtime_options,
    click.option("--opencv-threads", type=THREADS, help="Number of threads of OpenCV. Default: one for each processor."),
    click.option(
        "--verify/--no-verify", default=True, show_default=True, help="Replay the model's golden vectors before running it."
    ),
    click.option(
        "--verify-timeout",
        type=TIMEOUT,
        default=10.0,
        show_default=True,
        help="Seconds a model may take to load and replay them, in its own process.",
    ),
    click.option(
        "--require-signature",
        type=_FILE,
        metavar="PUBLIC.pem",
        help="Run only models signed with this Ed25519 key (edgecnn sign), including after a reload.",
    ),
)
foreign_options = option_group(
    "Another tool's .tflite",
    click.option("--labels", help="Its classes in order: a,b,c or a file with one label per line."),
    convention_options,
    click.option(
        "--fit", type=click.Choice(["squash", "crop", "pad", "digit"]), help="How pictures of another aspect ratio are fitted."
    ),
    click.option("--output", metavar="NAME", help="Which of its outputs to use."),
)
output_options = option_group(
    "Outputs",
    click.option("--terminal/--no-terminal", default=True, show_default=True, help="Print predictions on the terminal."),
    click.option("--sink", metavar="NAME[:TARGET]", help="Another package's sink; see docs/how-to/plugins.md."),
    click.option("--window/--no-window", default=False, help="Show the picture in a window."),
    click.option("--jsonl", type=_FILE, help="Append JSON objects, one per line; see --write."),
    click.option("--csv", type=_FILE, help="Append one row per region; see --write."),
    click.option(
        "--write",
        metavar="POLICY",
        help="Lines for --jsonl and --csv: `changes` of a prediction or state plus one per minute (default for cameras), "
        "`every` frame (default for files), or 'every N s'.",
    ),
    click.option(
        "--log-max-mb",
        type=_MEGABYTES,
        default=50.0,
        show_default=True,
        help="Rotate --jsonl and --csv files at this size, and at midnight.",
    ),
    click.option(
        "--log-keep",
        type=Count(1, 1000),
        default=5,
        show_default=True,
        help="Full old files to keep, or as many smaller ones as take the same space.",
    ),
    click.option(
        "--video",
        type=_FILE,
        help="Write an annotated video (.avi, .mkv, .mp4); of a camera, one per hour.",
    ),
    click.option(
        "--video-fps",
        type=Number(0.001, 1000),
        help="Frames per second of the video. [default: 10 for a camera, all for a file]",
    ),
    click.option("--video-mb", type=_MEGABYTES, help="Megabytes of a camera's videos; the oldest go first. [default: 2000]"),
)
drift_options = option_group(
    "Drift",
    click.option(
        "--drift/--no-drift",
        default=True,
        show_default=True,
        help="Notice when pictures are no longer like those the model was proven on: darker, blurred, more novel.",
    ),
    click.option(
        "--drift-every",
        type=_SECONDS,
        default=1.0,
        show_default=True,
        help="Seconds between two pictures that count, for a fleet and in a deployment too; no less than a part takes to pass.",
    ),
    click.option(
        "--drift-baseline",
        type=Count(30, 100_000),
        metavar="N",
        help="Learn what is usual, the shares of the classes too, from the first N different pictures of this camera, instead "
        "of the model's held-out ones.",
    ),
)
page_options = option_group(
    "Page",
    click.option("--web", metavar="[HOST:]PORT", help="Serve a page with the live picture; HOST is 127.0.0.1 by default."),
    click.option("--web-token-file", type=_FILE, help="File with the token visitors must show; required beyond this machine."),
    click.option(
        "--web-editor-token-file",
        type=_FILE,
        help="File with the token of those who may also label kept samples; a page with a token alone only shows them.",
    ),
    click.option(
        "--good",
        metavar="LABEL,...",
        help="Classes that are not defects, for the page and Home Assistant; * for all. [default: names such as good or ok]",
    ),
)
mqtt_options = option_group(
    "MQTT",
    click.option(
        "--mqtt", metavar="URL", callback=check_address, help="Publish under mqtt[s]://[user@]HOST[:PORT]/TOPIC-PREFIX."
    ),
    click.option(
        "--mqtt-password-file", type=_FILE, help="File with one line: user:password, or the password of the URL's user."
    ),
    click.option("--mqtt-ca", type=_FILE, help="Trust the certificates in this PEM file instead of the system's."),
    click.option(
        "--mqtt-discovery/--no-mqtt-discovery",
        default=False,
        help="Announce the camera's sensors to Home Assistant; when off, they are removed.",
    ),
    click.option("--mqtt-discovery-prefix", metavar="TOPIC", help="Home Assistant's topic prefix. [default: homeassistant]"),
    click.option("--group", metavar="NAME", help="Group of boards that this one belongs to, for edgecnn fleet."),
    click.option(
        "--mqtt-picture/--no-mqtt-picture",
        default=False,
        help="Answer requests for the last picture, for the fleet's page; at most one every 5 seconds.",
    ),
)
sample_options = option_group(
    "Samples",
    click.option(
        "--keep",
        type=_FILE,
        help="Folder for pictures worth labelling: novel, unsure, or of another class than the smoothed answer. No two look "
        "the same to the model, and labelled ones go last; see edgecnn samples and edgecnn review.",
    ),
    click.option("--keep-below", type=PROBABILITY, help="Keep answers with a probability below this, too."),
    click.option(
        "--keep-every",
        type=_SECONDS,
        default=3600.0,
        show_default=True,
        help="Seconds on average between frames that are kept at random, whatever the answer: to measure with.",
    ),
    click.option(
        "--keep-mb",
        type=_MEGABYTES,
        default=1000.0,
        show_default=True,
        help="Megabytes of kept pictures; the oldest go first.",
    ),
    click.option("--keep-days", type=Number(0.001, 36500), default=90.0, show_default=True, help="Days to keep them."),
)
action_options = option_group(
    "Act (not a safety device)",
    click.option(
        "--on",
        multiple=True,
        metavar="LABEL:ACTION",
        help="When a class, `defect`, `unsure`, `novel` or `drift` comes: webhook:URL, command:PATH, or gpio:PIN[:active-low]"
        "[:safe-on], on while it lasts; repeatable. Nothing here may be all that keeps people from harm.",
    ),
    click.option(
        "--on-debounce",
        metavar="N|Ns",
        help="Answers in a row, or seconds (0.5s), that a label must be there or gone before it counts; not with --trigger. "
        "[default: 3]",
    ),
    click.option(
        "--on-hold", type=Number(0, 3600), default=1.0, show_default=True, help="Seconds that a pin stays on at least."
    ),
    click.option(
        "--on-timeout", type=TIMEOUT, default=10.0, show_default=True, help="Seconds that a webhook or a command may take."
    ),
    click.option(
        "--on-secret-file",
        type=_FILE,
        help="File with the secret that webhooks are signed with (HMAC-SHA256, Standard Webhooks).",
    ),
)
service_options = option_group(
    "Service",
    click.option(
        "--config",
        type=_FILE,
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="Read options from a TOML file; the command line takes precedence.",
    ),
    click.option("--print-config", is_flag=True, help="Print all options as a TOML file and exit."),
    click.option(
        "--state-dir",
        type=_FILE,
        help="Folder for the last good model, which runs when the model's file is bad. Default: systemd's StateDirectory, "
        "else $XDG_STATE_HOME/edgecnn, else ~/.local/state/edgecnn.",
    ),
)
