"""Opens where a camera's answers go: its sinks, its web page, and what the board says of itself."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgecnn.errors import InputError, OutputError
from edgecnn.files import exists
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.classes import NO_CLASSES, Classes
from edgecnn_device.finders import Tiles
from edgecnn_device.loop import Sink, Statistics
from edgecnn_device.model import ModelSlot
from edgecnn_device.sinks.line_file import check_line_file
from edgecnn_device.sources import Source, SourceOptions

if TYPE_CHECKING:  # what was not asked for is not imported: a camera starts a third sooner
    from edgecnn.artifacts import Contract
    from edgecnn_device.actions.sink import ActionOptions, ActionSink
    from edgecnn_device.camera import LookOptions
    from edgecnn_device.distinct import DistinctAnswers
    from edgecnn_device.drift import DriftMonitor
    from edgecnn_device.fleet.card import Card, CardOptions
    from edgecnn_device.sinks.mqtt_broker import MqttOptions
    from edgecnn_device.sinks.samples import SampleOptions
    from edgecnn_device.sinks.selection import WritePolicy
    from edgecnn_device.sinks.video_file import VideoOptions
    from edgecnn_device.surroundings import Queued, Surroundings
    from edgecnn_device.web.options import WebOptions
    from edgecnn_device.web.sink import WebSink


@dataclass(frozen=True)
class SinkOptions:
    """Where predictions go.

    `plugin` is the `NAME[:TARGET]` of another package's sink. `write` chooses the lines of `jsonl` and `csv`; None: changes
    from a live source, and every frame of a file. These files are rotated at `log_max_bytes` and at midnight, and `log_keep`
    full ones, or as many bytes, are kept. `card` is what a board says of itself beside `mqtt`.
    """

    terminal: bool = True
    window: bool = False
    jsonl: Path | None = None
    csv: Path | None = None
    video: VideoOptions | None = None
    samples: SampleOptions | None = None
    web: WebOptions | None = None
    mqtt: MqttOptions | None = None
    write: WritePolicy | None = None
    card: CardOptions | None = None
    plugin: str | None = None
    actions: ActionOptions | None = None
    log_max_bytes: int = 50_000_000
    log_keep: int = 5


def check_files(options: SinkOptions, source: SourceOptions, *, endless: bool) -> None:
    """Raise OutputError, before anything is begun, for a file that is not this camera's to write to, or not to two sinks."""
    video = None if options.video is None else options.video.path
    for name, file in (("--jsonl", options.jsonl), ("--csv", options.csv), ("--video", video)):
        if file == Path("-"):
            raise OutputError(f"{name} -: name a file; only the terminal's lines go to standard output")
    files = [file.absolute() for file in (options.jsonl, options.csv) if file is not None]
    if len(set(files)) < len(files):
        raise OutputError(f"--jsonl and --csv cannot both be {options.csv}")
    if options.jsonl is not None:
        from edgecnn_device.sinks import jsonl

        check_line_file(options.jsonl, jsonl.OURS)
    if options.csv is not None:
        from edgecnn_device.sinks import csv_file

        check_line_file(options.csv, csv_file.OURS)
    if options.video is not None:
        from edgecnn_device.sinks.video_file import check_video

        path = Path(source.source)
        check_video(options.video, endless=endless, source=path if exists(path) else None)


def open_sinks(
    options: SinkOptions,
    source: Source,
    look: LookOptions,
    classes: Classes = NO_CLASSES,
    *,
    notice: Callable[[str], None] = lambda line: None,
    memory: Path | None = None,
    contract: Callable[[], Contract] | None = None,
    card: Card | None = None,
) -> list[Sink]:
    """Open what was asked for, each from its own module.

    `look` and `classes` tell which answers there will be; `memory` is the folder for what is still to be known after a restart,
    `contract` that of the model which runs, and `card` what the board says of itself to a broker.
    """
    sinks: list[Sink] = []
    if options.actions is not None:  # first: nothing that another output does delays a pin
        from edgecnn_device.actions.sink import ActionSink

        sink = ActionSink(
            options.actions,
            classes,
            memory=memory,
            notice=notice,
            interval_s=1 / source.fps if source.live else 0.0,
            triggered=look.trigger is not None,
        )
        sinks.append(sink)
    if options.jsonl is not None or options.csv is not None:
        sinks += _open_line_files(options, source, look, notice)
    if options.video is not None:
        from edgecnn_device.sinks.video_file import VideoSink

        video = VideoSink(options.video, live=source.live, fps=source.fps, endless=source.endless, interval_s=look.interval_s)
        sinks.append(video)
    if options.samples is not None:
        from edgecnn_device.sinks.samples import SampleSink
        from edgecnn_device.sinks.timeline import Timeline

        timeline = None if source.live else Timeline(live=False, fps=source.fps)
        sinks.append(SampleSink(options.samples, contract=contract, timeline=timeline))
    if options.mqtt is not None:
        from edgecnn_device.sinks.mqtt import MqttSink

        sinks.append(MqttSink(options.mqtt, classes, memory=memory, card=card))
    if options.plugin is not None:
        sinks.append(_open_plugin_sink(options.plugin))
    if options.window:
        from edgecnn_device.sinks.window import WindowSink

        sinks.append(WindowSink())
    if options.terminal:
        from edgecnn_device.sinks.terminal import TerminalSink

        sinks.append(TerminalSink(sys.stdout, live=source.live, fps=source.fps))
    return sinks


def open_card(
    options: CardOptions | None,
    statistics: Statistics,
    slot: ModelSlot,
    source: Source,
    addresses: Sequence[str],
    distinct: DistinctAnswers,
) -> Card:
    """Return what the board says of itself; `addresses` holds that of its page as soon as there is one."""
    from edgecnn_device.fleet.card import Card, CardOptions, Running

    running = Running(
        statistics,
        lambda: slot.current,
        lambda: slot.warning,
        page=lambda: addresses[0] if addresses else None,
        fps=source.fps,
        distinct=distinct,
    )
    return Card(options or CardOptions(), running)


def _open_plugin_sink(text: str) -> Sink:
    from edgecnn_device.plugins import SINKS, open_plugin, plugin_names

    sink: Sink | None = open_plugin(SINKS, text)
    if sink is None:
        known = ", ".join(plugin_names(SINKS)) or "none"
        raise InputError(f"--sink {text}: no installed package has such a sink; installed: {known}")
    return sink


def _open_line_files(options: SinkOptions, source: Source, look: LookOptions, notice: Callable[[str], None]) -> list[Sink]:
    """Open the files of lines, and what reports how far they reach."""
    from edgecnn_device.sinks.csv_file import CsvSink
    from edgecnn_device.sinks.jsonl import JsonLinesSink
    from edgecnn_device.sinks.reach import Reach
    from edgecnn_device.sinks.selection import WritePolicy, paces, selected

    limits = {"max_bytes": options.log_max_bytes, "keep": options.log_keep}
    files: list[JsonLinesSink | CsvSink] = []
    if options.jsonl is not None:
        files.append(JsonLinesSink(options.jsonl, **limits))
    if options.csv is not None:
        files.append(CsvSink(options.csv, **limits))
    policy = options.write or WritePolicy("changes" if source.live else "every")
    sinks: list[Sink] = [selected(file, policy, live=source.live, fps=source.fps) for file in files]
    if source.live:  # a file ends before its lines fill anything
        regions = Tiles.parse(look.tiles, 0).count if look.tiles else 1
        lengths = [(file.file, file.usual_bytes[0] + regions * file.usual_bytes[1]) for file in files]
        sinks.append(Reach(lengths, paces(policy, source.fps), notice))
    return sinks


def find_actions(sinks: Sequence[Sink]) -> ActionSink | None:
    """Return the sink that acts on answers, None where nothing does."""
    return next((cast("ActionSink", sink) for sink in sinks if sink.name == "actions"), None)


def open_page(
    options: SinkOptions,
    sinks: Sequence[Sink],
    statistics: Statistics,
    source: Source,
    slot: ModelSlot,
    classes: Classes,
    *,
    notice: Callable[[str], None],
    memory: Path | None,
    monitor: DriftMonitor | None,
) -> WebSink:
    """Open the web page; it looks at all counters, at the other `sinks`, at the samples and at the drift."""
    from edgecnn_device.web.sink import WebSink
    from edgecnn_device.web.status import Watched

    assert options.web is not None
    watched = Watched(
        statistics,
        source,
        lambda: slot.current,
        lambda: slot.swaps,
        lambda: slot.refusals,
        classes,
        lambda: slot.warnings,
        _surroundings(sinks, options),
        monitor,
        find_actions(sinks),
    )
    kept = None if options.samples is None else options.samples.folder
    page = WebSink(options.web, watched, memory=memory if options.web.port else None, samples=kept)
    notice(f"the page is at {page.address}")
    return page


def _surroundings(sinks: Sequence[Sink], options: SinkOptions) -> Surroundings:
    """Return the sink whose messages wait for a broker, and the folders that sinks write to, or the one where we stand."""
    from edgecnn_device.surroundings import Surroundings

    queue = next((cast("Queued", sink) for sink in sinks if sink.name == "mqtt"), None)
    video = None if options.video is None else options.video.path
    files = [file.absolute().parent for file in (options.jsonl, options.csv, video) if file is not None]
    kept = [] if options.samples is None else [options.samples.folder.absolute()]
    return Surroundings(queue, tuple(dict.fromkeys([*files, *kept])) or (Path.cwd(),))


class Closing(contextlib.AbstractContextManager[Sink]):
    """Closes a sink at the end; one that fails at that is a line in the journal and does not keep others from closing."""

    def __init__(self, sink: Sink, notice: Callable[[str], None]) -> None:
        """Close `sink` after the block, and tell `notice` of a failure at that."""
        self._sink = sink
        self._notice = notice

    def __enter__(self) -> Sink:
        return self._sink.__enter__()

    def __exit__(self, *failure: object) -> None:
        try:
            self._sink.__exit__(None, None, None)
        except OSError as error:
            self._notice(f"{self._sink.name} could not be closed: {error}")
