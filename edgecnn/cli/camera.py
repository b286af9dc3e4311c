"""`edgecnn camera`: frames in, predictions out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgecnn.cli.camera_options import (
    ALONE,
    CONFIG,
    NEEDS,
    action_options,
    control_options,
    drift_options,
    foreign_options,
    key_of,
    look_options,
    model_options,
    mqtt_options,
    output_options,
    page_options,
    sample_options,
    service_options,
    source_options,
)
from edgecnn.cli.command import Command, check_needs
from edgecnn.cli.options import read_convention
from edgecnn.cli.start import starting
from edgecnn.text import counted, printable

if TYPE_CHECKING:
    from edgecnn.foreign import ForeignModel
    from edgecnn_device.actions.sink import ActionOptions
    from edgecnn_device.camera import CameraOptions, Summary
    from edgecnn_device.fleet.card import CardOptions
    from edgecnn_device.model import ModelOptions
    from edgecnn_device.sinks.mqtt_broker import MqttOptions
    from edgecnn_device.sinks.samples import SampleOptions
    from edgecnn_device.sinks.selection import WritePolicy
    from edgecnn_device.sinks.video_file import VideoOptions
    from edgecnn_device.sources import SourceOptions
    from edgecnn_device.sources.controls import CameraControls
    from edgecnn_device.triggers import Trigger
    from edgecnn_device.web.options import WebOptions

# Of two places that name the source the one further up wins, as for every option.
_RANKS = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP, ParameterSource.DEFAULT)
_EXAMPLES = (
    "edgecnn camera neu --source 0",
    "edgecnn camera exports/neu/neu-int8.tflite --source belt.mp4 --roi 400,120,480,480 --csv belt.csv",
    "edgecnn camera neu --source rtsp://192.168.1.20/stream --tiles 6x1 --jsonl predictions.jsonl",
    "edgecnn camera neu --source /dev/video0 --web 8080 --mqtt mqtt://broker.local/line-1 --mqtt-discovery",
    "edgecnn camera neu --source csi --exposure 2 --keep samples",
    "edgecnn camera neu --source 0 --on scratches:gpio:17 --on drift:webhook:https://plant.local/hook",
    "edgecnn camera neu --source 0 --jsonl predictions.jsonl --print-config > camera.toml",
)


@click.command(cls=Command, short_help="Classify a camera's frames until stopped.", examples=_EXAMPLES, needs=NEEDS)
@click.argument("model", metavar="FILE|TASK", required=False)
@source_options
@control_options
@look_options
@model_options
@foreign_options
@drift_options
@output_options
@page_options
@mqtt_options
@sample_options
@action_options
@service_options
@click.pass_context
def camera(context: click.Context, /, print_config: bool, **values: Any) -> None:
    """Classify a camera's frames with an exported model, or with the shipped int8 model of a task.

    Runs until the source ends or a signal arrives. SIGTERM and Ctrl-C stop it with everything written; SIGHUP reloads the
    model's file, as does a change of the file.
    """
    if print_config:
        _print_config(context)
        return
    with starting():
        from edgecnn_device.camera import run_camera

        values["source"] = _find_source(context)
        check_needs(context, values)
        options = _options(values)
    for line in _warnings(context, values):
        _notice(line)
    summary = run_camera(options, notice=_notice)
    click.echo(_sentence(summary), err=True)
    if summary.restart:
        _start_again()


def _start_again() -> None:
    """Begin anew in this very process, so that whoever started it still has it."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _notice(line: str) -> None:
    click.echo(printable(f"edgecnn: {line}"), err=True)


def _print_config(context: click.Context) -> None:
    from edgecnn_device.config import write_config

    parameters = [p for p in context.command.params if key_of(p) not in ALONE]
    values = {key_of(p): context.params[p.name or ""] for p in parameters}
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
        files.append(context.meta[CONFIG])
    yield from (line for file in files if file is not None and (line := exposure(file)))


def _options(values: dict[str, Any]) -> CameraOptions:
    """Group the options of the command line and the file."""
    from edgecnn.errors import InputError
    from edgecnn_device.camera import CameraOptions, LookOptions
    from edgecnn_device.drift import DriftOptions
    from edgecnn_device.health import Limits
    from edgecnn_device.outputs import SinkOptions

    if values["model"] is None:
        raise InputError("no model: give the name of a task (neu, mnist) or an exported file")
    return CameraOptions(
        model=_model(values),
        source=_source(values),
        look=LookOptions(
            values["find"],
            values["tiles"],
            values["overlap"],
            values["smooth"],
            values["interval"],
            values["on_motion"],
            values["where"],
            _trigger(values),
            values["part_fill"],
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
            card=_card(values),
            write=_write_policy(values),
            plugin=values["sink"],
            actions=_actions(values),
            log_max_bytes=round(values["log_max_mb"] * 1e6),
            log_keep=values["log_keep"],
        ),
        frames=values["frames"],
        opencv_threads=values["opencv_threads"],
        good=_good(values),
        state=values["state_dir"],
        drift=DriftOptions(values["drift_every"], values["drift_baseline"]) if values["drift"] else None,
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
        novelty=values["novelty"],
        foreign=_foreign(values),
    )


def _foreign(values: dict[str, Any]) -> ForeignModel | None:
    """Return what the options state of another tool's model, None where they state nothing."""
    stated = ("labels", "fit", "output", "pixel_range", "pixel_scale", "pixel_offset", "color")
    given = [f"--{name.replace('_', '-')}" for name in stated if values[name] is not None]
    if not given:
        return None
    from edgecnn.foreign import ForeignModel
    from edgecnn.labels import read_labels

    labels = None if values["labels"] is None else read_labels(values["labels"])
    return ForeignModel(labels, read_convention(values), values["fit"] or "squash", values["output"], options=", ".join(given))


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


def _trigger(values: dict[str, Any]) -> Trigger | None:
    if values["trigger"] is None:
        return None
    from edgecnn_device.triggers import Trigger

    return Trigger.parse(values["trigger"])


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


def _card(values: dict[str, Any]) -> CardOptions | None:
    if values["mqtt"] is None:
        return None
    from edgecnn_device.fleet.card import CardOptions

    return CardOptions(values["group"], values["mqtt_picture"])


def _actions(values: dict[str, Any]) -> ActionOptions | None:
    if not values["on"]:
        return None
    from edgecnn_device.actions.rules import Debounce, parse_rules
    from edgecnn_device.actions.sink import ActionOptions

    debounce = None if values["on_debounce"] is None else Debounce.parse(values["on_debounce"])
    return ActionOptions(parse_rules(values["on"]), debounce, values["on_hold"], values["on_timeout"], values["on_secret_file"])


def _good(values: dict[str, Any]) -> tuple[str, ...] | None:
    from edgecnn_device.classes import split_labels

    return None if values["good"] is None else split_labels(values["good"])


def _web(values: dict[str, Any]) -> WebOptions | None:
    if values["web"] is None:
        return None
    from edgecnn_device.web.options import read_web_options

    return read_web_options(values["web"], values["web_token_file"], values["web_editor_token_file"])


def _sentence(summary: Summary) -> str:
    counters = summary.statistics
    parts = [f"{counted(counters.frames, 'frame')}, {counted(counters.regions, 'answer')}"]
    parts += [f"{counted(count, 'event')} {outcome}" for outcome, count in counters.events.items()]
    parts += [f"{count} {state}" for state, count in counters.states.items() if state != "ok"]
    parts += [f"{counted(count, 'frame')} unusable ({reason})" for reason, count in counters.reasons.items()]
    parts += [f"{summary.skipped} skipped"] if summary.skipped else []
    parts += [f"camera lost {counted(summary.losses, 'time')}"] if summary.losses else []
    parts += [f"{counted(count, 'error')} of {name}" for name, count in counters.sink_errors.items()]
    latency = [(stage, counters.percentile_ms(stage, 50)) for stage in ("capture", "find", "preprocess", "invoke", "publish")]
    medians = [f"{stage} {ms:.2f}" for stage, ms in latency if ms is not None]
    parts += [f"median ms: {' '.join(medians)}"] if medians else []
    return "; ".join(parts)
