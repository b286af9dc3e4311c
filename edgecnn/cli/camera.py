"""`edgecnn camera`: frames in, predictions out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgecnn.cli.command import Command, Need, Values, check_needs, option_group
from edgecnn.cli.options import (
    PROBABILITY,
    SEED,
    TIMEOUT,
    Count,
    Number,
    NumberOrAuto,
    convention_options,
    read_convention,
    runtime_options,
)
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.foreign import ForeignModel
    from edgecnn_device.camera import CameraOptions, Summary
    from edgecnn_device.model import ModelOptions
    from edgecnn_device.sinks.mqtt_broker import MqttOptions
    from edgecnn_device.sinks.samples import SampleOptions
    from edgecnn_device.sinks.selection import WritePolicy
    from edgecnn_device.sinks.video_file import VideoOptions
    from edgecnn_device.sources import SourceOptions
    from edgecnn_device.sources.controls import CameraControls
    from edgecnn_device.web.options import WebOptions

_ALONE = {"config", "print-config", "help"}
_CONFIG = "edgecnn.camera.config"  # where the context keeps the path of the file
# Of two places that name the source the one further up wins, as for every option.
_RANKS = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP, ParameterSource.DEFAULT)
_SECONDS, _MEGABYTES = Number(0.001, 1e7), Number(0.001, 1e6)
_FILE = click.Path(path_type=Path)


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Make the options of a file the defaults of the command, so that the command line wins."""
    if path is None:
        return
    from edgecnn_device.config import read_config

    parameters = {_key(p): p for p in context.command.params if _key(p) not in _ALONE}
    values = read_config(path, {key: _kind(parameter) for key, parameter in parameters.items()})
    context.meta[_CONFIG] = path
    context.default_map = {parameters[key].name: value for key, value in values.items()}


def _check_address(context: click.Context, parameter: click.Parameter, address: str | None) -> str | None:
    """Refuse a bad address before anything can print it: it may hold a password."""
    if address is not None:
        from edgecnn_device.sinks.mqtt_broker import parse_address

        parse_address(address)
    return address


def _kind(parameter: click.Parameter) -> type:
    """Return what an option's value is in a file."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return bool
    return {Number: float, Count: int}.get(type(parameter.type), str)


def _key(parameter: click.Parameter) -> str:
    """Return the name of an option in a file: its long name without the dashes."""
    longest = max((name for name in parameter.opts), key=len)
    return longest.lstrip("-").replace("_", "-")


def _is_camera(values: Values) -> bool:
    from edgecnn_device.sources import SourceOptions, is_live

    return values["source"] != "synthetic" and is_live(SourceOptions(values["source"]))


def _is_live(values: Values) -> bool:
    from edgecnn_device.sources import SourceOptions, is_live

    return is_live(SourceOptions(values["source"], realtime=values["realtime"]))


_CAMERA = Need("a camera as --source", _is_camera)
_LIVE = Need("a camera as --source, or --realtime", _is_live)
_VIDEO, _LOG = Need.one_of("--video FILE"), Need.one_of("--jsonl FILE", "--csv FILE")
_KEEP, _MQTT, _WEB = Need.one_of("--keep FOLDER"), Need.one_of("--mqtt URL"), Need.one_of("--web [HOST:]PORT")
NEEDS = {
    "seed": Need("--source synthetic", lambda values: values["source"] == "synthetic"),
    "loop": Need("a file or a folder as --source", lambda values: values["source"] != "synthetic"),
    "open_timeout": _CAMERA,
    "read_timeout": _CAMERA,
    "max_age_ms": _LIVE,
    "frozen_after": _LIVE,
    "overlap": Need.one_of("--tiles CxR"),
    "verify_timeout": Need.one_of("--verify"),
    "video_fps": _VIDEO,
    "video_mb": _VIDEO,
    "write": _LOG,
    "log_max_mb": _LOG,
    "log_keep": _LOG,
    "keep": Need.one_of("--keep-below PROBABILITY", "--keep-every SECONDS"),
    "keep_below": _KEEP,
    "keep_every": _KEEP,
    "keep_mb": _KEEP,
    "keep_days": _KEEP,
    "web_token_file": _WEB,
    "good": Need.one_of("--web [HOST:]PORT", "--mqtt-discovery"),
    "mqtt_password_file": _MQTT,
    "mqtt_ca": _MQTT,
    "mqtt_discovery": _MQTT,
    "mqtt_discovery_prefix": Need.one_of("--mqtt-discovery"),
    "state_dir": Need(
        "a camera as --source, --web or --mqtt",
        lambda values: _is_live(values) or values["web"] is not None or values["mqtt"] is not None,
    ),
}

_SOURCE_OPTIONS = option_group(
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
_CONTROL_OPTIONS = option_group(
    "Camera controls (V4L2 and CSI)",
    click.option("--exposure", type=NumberOrAuto(0.001, 1e6), metavar="MS|auto", help="Exposure time in milliseconds."),
    click.option("--gain", type=NumberOrAuto(0, 1e6), metavar="X|auto", help="Gain: a factor (CSI) or camera units (V4L2)."),
    click.option("--focus", type=NumberOrAuto(0, 1e6), metavar="X|auto", help="Focus: dioptres (CSI) or camera units (V4L2)."),
    click.option("--white-balance", type=NumberOrAuto(1000, 20000), metavar="K|auto", help="Colour temperature in kelvin."),
    click.option(
        "--mains", type=click.Choice(["50", "60"]), help="Mains frequency in Hz: automatic exposure avoids lamp flicker."
    ),
)
_LOOK_OPTIONS = option_group(
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
        "--smooth", type=Count(1, 1000), default=5, show_default=True, help="Average each region over this many frames."
    ),
    click.option("--interval", type=_SECONDS, help="Seconds between two classified frames."),
    click.option("--on-motion/--no-on-motion", default=False, help="Classify only while something moves."),
)
_MODEL_OPTIONS = option_group(
    "Model",
    click.option(
        "--reject", type=PROBABILITY, help="Answer `unknown` below this probability instead of the model's own threshold."
    ),
    runtime_options,
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
_FOREIGN_OPTIONS = option_group(
    "Another tool's .tflite",
    click.option("--labels", help="Its classes in order: a,b,c or a file with one label per line."),
    convention_options,
    click.option(
        "--fit", type=click.Choice(["squash", "crop", "pad", "digit"]), help="How pictures of another aspect ratio are fitted."
    ),
    click.option("--output", metavar="NAME", help="Which of its outputs to use."),
)
_OUTPUT_OPTIONS = option_group(
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
_PAGE_OPTIONS = option_group(
    "Page",
    click.option("--web", metavar="[HOST:]PORT", help="Serve a page with the live picture; HOST is 127.0.0.1 by default."),
    click.option("--web-token-file", type=_FILE, help="File with the token visitors must show; required beyond this machine."),
    click.option(
        "--good",
        metavar="LABEL,...",
        help="Classes that are not defects, for the page and Home Assistant; * for all. [default: names such as good or ok]",
    ),
)
_MQTT_OPTIONS = option_group(
    "MQTT",
    click.option(
        "--mqtt", metavar="URL", callback=_check_address, help="Publish under mqtt[s]://[user@]HOST[:PORT]/TOPIC-PREFIX."
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
)
_SAMPLE_OPTIONS = option_group(
    "Samples",
    click.option("--keep", type=_FILE, help="Folder for pictures worth labelling."),
    click.option(
        "--keep-below", type=PROBABILITY, help="Keep pictures with a probability below this, at most one frame per second."
    ),
    click.option("--keep-every", type=_SECONDS, help="Keep one frame per this many seconds."),
    click.option(
        "--keep-mb", type=_MEGABYTES, default=200.0, show_default=True, help="Megabytes of kept pictures; the oldest go first."
    ),
    click.option("--keep-days", type=Number(0.001, 36500), default=30.0, show_default=True, help="Days to keep them."),
)
_SERVICE_OPTIONS = option_group(
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
_EXAMPLES = (
    "edgecnn camera neu --source 0",
    "edgecnn camera exports/neu/neu-int8.tflite --source belt.mp4 --roi 400,120,480,480 --csv belt.csv",
    "edgecnn camera neu --source rtsp://192.168.1.20/stream --tiles 6x1 --jsonl predictions.jsonl",
    "edgecnn camera neu --source /dev/video0 --web 8080 --mqtt mqtt://broker.local/line-1 --mqtt-discovery",
    "edgecnn camera neu --source csi --exposure 2 --keep samples --keep-below 0.8",
    "edgecnn camera neu --source 0 --jsonl predictions.jsonl --print-config > camera.toml",
)


@click.command(cls=Command, short_help="Classify a camera's frames until stopped.", examples=_EXAMPLES, needs=NEEDS)
@click.argument("model", metavar="FILE|TASK", required=False)
@_SOURCE_OPTIONS
@_CONTROL_OPTIONS
@_LOOK_OPTIONS
@_MODEL_OPTIONS
@_FOREIGN_OPTIONS
@_OUTPUT_OPTIONS
@_PAGE_OPTIONS
@_MQTT_OPTIONS
@_SAMPLE_OPTIONS
@_SERVICE_OPTIONS
@click.pass_context
def camera(context: click.Context, /, print_config: bool, **values: Any) -> None:
    """Classify a camera's frames with an exported model, or with the shipped int8 model of a task.

    Runs until the source ends or a signal arrives. SIGTERM and Ctrl-C stop it with everything written; SIGHUP reloads the
    model's file, as does a change of the file.
    """
    from edgecnn_device.camera import run_camera

    if print_config:
        _print_config(context)
        return
    values["source"] = _find_source(context)
    check_needs(context, values)
    options = _options(values)
    for line in _warnings(context, values):
        _notice(line)
    summary = run_camera(options, notice=_notice)
    click.echo(_sentence(summary), err=True)


def _notice(line: str) -> None:
    click.echo(printable(f"edgecnn: {line}"), err=True)


def _print_config(context: click.Context) -> None:
    from edgecnn_device.config import write_config

    parameters = [p for p in context.command.params if _key(p) not in _ALONE]
    values = {_key(p): context.params[p.name or ""] for p in parameters}
    # An address that was given where nobody sees it is not to be seen here.
    if _source_file(context) is not None or context.get_parameter_source("source") is ParameterSource.ENVIRONMENT:
        values["source"] = None
    else:
        values["source-file"] = None
    click.echo(write_config(values), nl=False)


def _find_source(context: click.Context) -> str:
    """Return the source of --source, of its environment variable or of --source-file; InputError where two are as good."""
    from edgecnn_device.secret_files import read_secret

    file = _source_file(context)
    return str(context.params["source"]) if file is None else read_secret(file, "--source-file")


def _source_file(context: click.Context) -> Path | None:
    """Return the file that names the source, None where the source is given otherwise."""
    from edgecnn.errors import InputError

    file: Path | None = context.params["source_file"]
    if file is None:
        return None
    ranks = [_RANKS.index(context.get_parameter_source(name) or ParameterSource.DEFAULT) for name in ("source", "source_file")]
    if ranks[0] == ranks[1]:
        raise InputError("--source and --source-file both name a source; give one of them")
    return file if ranks[1] < ranks[0] else None


def _warnings(context: click.Context, values: dict[str, Any]) -> Iterator[str]:
    """Yield a warning per secret that others on this machine can read."""
    from edgecnn.addresses import holds_secret
    from edgecnn_device.secret_files import OPTIONS, exposure

    given = context.get_parameter_source("source")
    is_secret = _source_file(context) is None and holds_secret(values["source"])
    if is_secret and given is ParameterSource.COMMANDLINE:
        yield "anybody on this machine can read a command line: pass this address with --source-file FILE or EDGECNN_SOURCE"
    files = [values[option.replace("-", "_")] for option in OPTIONS]
    if is_secret and given is ParameterSource.DEFAULT_MAP:
        files.append(context.meta[_CONFIG])
    yield from (line for file in files if file is not None and (line := exposure(file)))


def _options(values: dict[str, Any]) -> CameraOptions:
    """Group the options of the command line and the file."""
    from edgecnn.errors import InputError
    from edgecnn_device.camera import CameraOptions, LookOptions, SinkOptions
    from edgecnn_device.health import Limits

    if values["model"] is None:
        raise InputError("no model: give the name of a task (neu, mnist) or an exported file")
    return CameraOptions(
        model=_model(values),
        source=_source(values),
        look=LookOptions(
            values["find"], values["tiles"], values["overlap"], values["smooth"], values["interval"], values["on_motion"]
        ),
        limits=Limits(values["max_age_ms"] / 1000, values["frozen_after"]),
        sinks=SinkOptions(
            terminal=values["terminal"],
            window=values["window"],
            jsonl=values["jsonl"],
            csv=values["csv"],
            video=_video(values),
            samples=_samples(values),
            web=_web(values),
            mqtt=_mqtt(values),
            write=_write_policy(values),
            plugin=values["sink"],
            log_max_bytes=round(values["log_max_mb"] * 1e6),
            log_keep=values["log_keep"],
        ),
        frames=values["frames"],
        good=_good(values),
        state=values["state_dir"],
    )


def _model(values: dict[str, Any]) -> ModelOptions:
    from edgecnn.artifacts.signature import TrustedKey
    from edgecnn_device.model import ModelOptions

    trusted = None if values["require_signature"] is None else TrustedKey.open(values["require_signature"])
    return ModelOptions(
        values["model"],
        values["runtime"],
        values["threads"],
        values["reject"],
        values["verify"],
        trusted=trusted,
        timeout_s=values["verify_timeout"],
        foreign=_foreign(values),
    )


def _foreign(values: dict[str, Any]) -> ForeignModel | None:
    """Return the options of another tool's model, None for one of ours; InputError for such options beside one of ours."""
    from edgecnn.classifier import named_path
    from edgecnn.errors import EdgecnnError, InputError
    from edgecnn.foreign import ForeignModel, is_foreign
    from edgecnn.labels import read_labels

    stated = ("labels", "fit", "output", "pixel_range", "pixel_scale", "pixel_offset", "color")
    given = [f"--{name.replace('_', '-')}" for name in stated if values[name] is not None]
    path = named_path(values["model"])
    labels = None if values["labels"] is None else read_labels(values["labels"])
    try:
        if is_foreign(path, labels):
            return ForeignModel(labels, read_convention(values), values["fit"] or "squash", values["output"])
    except EdgecnnError:
        if given:
            raise
        return None  # opening it says what is wrong with it, or starts with the last good one
    if given:
        raise InputError(f"{path} carries its own labels and preprocessing; omit {', '.join(given)}")
    return None


def _source(values: dict[str, Any]) -> SourceOptions:
    from edgecnn_device.sources import SourceOptions
    from edgecnn_device.sources.transform import Roi, Transform, parse_size

    roi = None if values["roi"] is None else Roi.parse(values["roi"])
    return SourceOptions(
        values["source"],
        size_wh=None if values["size"] is None else parse_size(values["size"]),
        fps=values["fps"],
        transform=Transform(rotation=int(values["rotate"]), flip=values["flip"], roi=roi),
        loop=values["loop"],
        realtime=values["realtime"],
        open_timeout_s=values["open_timeout"],
        read_timeout_s=values["read_timeout"],
        seed=values["seed"],
        controls=_controls(values),
    )


def _write_policy(values: dict[str, Any]) -> WritePolicy | None:
    if values["write"] is None:
        return None
    from edgecnn_device.sinks.selection import WritePolicy

    return WritePolicy.parse(values["write"])


def _video(values: dict[str, Any]) -> VideoOptions | None:
    path, fps, megabytes = values["video"], values["video_fps"], values["video_mb"]
    if path is None:
        return None
    from edgecnn_device.sinks.video_file import VideoOptions

    return VideoOptions(path, fps, None if megabytes is None else round(megabytes * 1e6))


def _controls(values: dict[str, Any]) -> CameraControls:
    from edgecnn_device.sources.controls import CameraControls

    mains = None if values["mains"] is None else float(values["mains"])
    return CameraControls(values["exposure"], values["gain"], values["focus"], values["white_balance"], mains)


def _samples(values: dict[str, Any]) -> SampleOptions | None:
    if values["keep"] is None:
        return None
    from edgecnn_device.sinks.samples import SampleOptions

    below, every_s = values["keep_below"], values["keep_every"]
    return SampleOptions(values["keep"], below, every_s, round(values["keep_mb"] * 1e6), values["keep_days"] * 86400)


def _mqtt(values: dict[str, Any]) -> MqttOptions | None:
    address, prefix = values["mqtt"], values["mqtt_discovery_prefix"]
    others = (values["mqtt_password_file"], values["mqtt_ca"], values["mqtt_discovery"])
    if address is None:
        return None
    from edgecnn_device.sinks.mqtt_broker import MqttOptions

    return MqttOptions(address, *others, **({} if prefix is None else {"discovery_prefix": prefix}))


def _good(values: dict[str, Any]) -> tuple[str, ...] | None:
    if values["good"] is None:
        return None
    return tuple(label.strip() for label in values["good"].split(",") if label.strip())


def _web(values: dict[str, Any]) -> WebOptions | None:
    if values["web"] is None:
        return None
    from edgecnn_device.web.options import read_web_options

    return read_web_options(values["web"], values["web_token_file"])


def _sentence(summary: Summary) -> str:
    counters = summary.statistics
    parts = [f"{counters.frames} frames, {counters.regions} answers"]
    parts += [f"{count} {state}" for state, count in counters.states.items() if state != "ok"]
    parts += [f"{count} frames unusable ({reason})" for reason, count in counters.reasons.items()]
    parts += [f"{summary.skipped} skipped"] if summary.skipped else []
    parts += [f"{summary.losses} losses of the camera"] if summary.losses else []
    parts += [f"{count} errors of {name}" for name, count in counters.sink_errors.items()]
    latency = [(stage, counters.percentile_ms(stage, 50)) for stage in ("capture", "find", "preprocess", "invoke", "publish")]
    medians = [f"{stage} {ms:.2f}" for stage, ms in latency if ms is not None]
    parts += [f"median ms: {' '.join(medians)}"] if medians else []
    return "; ".join(parts)
