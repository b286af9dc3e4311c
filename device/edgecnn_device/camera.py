"""Puts source, model, finder and sinks together and runs the loop until it ends or is stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

import cv2

from edgecnn.classifier import named_path
from edgecnn.errors import EdgecnnError, InputError, OutputError
from edgecnn.files import exists
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.classes import NO_CLASSES, Classes
from edgecnn_device.finders import Find, Look, Tiles, choose_look
from edgecnn_device.gates import Gate, Interval, Motion, always, both
from edgecnn_device.health import Health, Limits
from edgecnn_device.last_good import LastGood
from edgecnn_device.loop import Sink, Statistics, Watcher, observe, run_loop
from edgecnn_device.model import ModelOptions, ModelSlot
from edgecnn_device.sinks.line_file import check_line_file
from edgecnn_device.sinks.pipe import PipeWatch
from edgecnn_device.sources import Source, SourceOptions, is_live, open_source
from edgecnn_device.sources.transform import Roi, Transform
from edgecnn_device.state_folder import state_folder
from edgecnn_device.systemd import Notifier
from edgecnn_device.tap import Tap, versions_folder
from edgecnn_device.tracking import Tracker

if TYPE_CHECKING:  # what was not asked for is not imported: a camera starts a third sooner
    from edgecnn.artifacts import Contract
    from edgecnn.classifier import Classifier
    from edgecnn_device.actions.sink import ActionOptions, ActionSink
    from edgecnn_device.drift import DriftMonitor, DriftOptions
    from edgecnn_device.fleet.card import Card, CardOptions
    from edgecnn_device.frames import Observation
    from edgecnn_device.sinks.mqtt_broker import MqttOptions
    from edgecnn_device.sinks.samples import SampleOptions
    from edgecnn_device.sinks.selection import WritePolicy
    from edgecnn_device.sinks.video_file import VideoOptions
    from edgecnn_device.surroundings import Queued, Surroundings
    from edgecnn_device.triggered import OnParts, OnShots
    from edgecnn_device.triggers import Trigger
    from edgecnn_device.web.options import WebOptions
    from edgecnn_device.web.sink import WebSink

_LOOK_EVERY_S = 0.002
_SMOOTH = 5  # frames


@dataclass(frozen=True)
class LookOptions:
    """Where and how often to look, and over how many frames to smooth; see the command's help.

    InputError for options that exclude each other.
    """

    find: Find = "auto"
    tiles: str | None = None
    overlap: float = 0.0
    smooth: int | None = None
    interval_s: float | None = None
    on_motion: bool = False
    where: bool = False
    trigger: Trigger | None = None
    part_fill: float | None = None

    def __post_init__(self) -> None:
        if self.trigger is None:
            return
        follows = self.trigger.follows
        excluded = {
            "--on-motion": self.on_motion,
            "--interval": self.interval_s is not None,
            "--tiles": follows and self.tiles is not None,
            f"--find {self.find}": follows and self.find != "auto",
            "--smooth": not follows and self.smooth is not None,
        }
        if wrong := [option for option, is_given in excluded.items() if is_given]:
            why = "looks at each part as a whole" if follows else "asks for frames that stand alone"
            raise InputError(f"--trigger {self.trigger.text} and {wrong[0]} exclude each other: the trigger {why}")


_WHOLE = LookOptions()


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


@dataclass(frozen=True)
class CameraOptions:
    """All that a camera needs to run; `frames` is the number after which it ends, `state` is what it keeps for its next start.

    `good` are the labels that are no defect; None tells them by their usual names. `drift` says how a drift of the pictures is
    noticed; None: not at all. `opencv_threads` None is one per processor.
    """

    model: ModelOptions
    source: SourceOptions
    look: LookOptions = LookOptions()
    limits: Limits = field(default_factory=Limits)
    sinks: SinkOptions = SinkOptions()
    frames: int | None = None
    good: tuple[str, ...] | None = None
    state: Path | None = None
    drift: DriftOptions | None = None
    opencv_threads: int | None = None


@dataclass(frozen=True, eq=False)
class Summary:
    """What a camera did: its counters, the frames that its source skipped, how often the source and the model changed."""

    statistics: Statistics
    skipped: int
    losses: int
    swaps: int


class Switch:
    """What signals ask for: SIGTERM and SIGINT end the loop, SIGHUP exchanges the model. A second SIGINT interrupts."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.ended = False

    @contextlib.contextmanager
    def listening(self, reload: Callable[[], None]) -> Iterator[None]:
        """Take the signals over for the time of the block; only the main thread can."""

        def end(number: int, frame: FrameType | None) -> None:
            if self.ended and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.ended = True

        def exchange(number: int, frame: FrameType | None) -> None:
            reload()

        handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: exchange}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _choose_look(contract: Contract, options: LookOptions, *, live: bool) -> Look:
    if options.where and not contract.has_map:
        raise InputError("--where needs a model with a map of features; this one says what a picture shows, and not where")
    return choose_look(
        contract.preprocessing, find=options.find, tiles=options.tiles, overlap=options.overlap, where=options.where, live=live
    )


def run_camera(options: CameraOptions, *, notice: Callable[[str], None]) -> Summary:
    """Run a camera until its source ends, `frames` are done, a signal ends it, or nobody reads its terminal's pipe any more.

    Every sink is flushed then. Must be called from the main thread. `notice` hears in one line of all that is worth a line in
    a journal. Raises EdgecnnError for what is wrong at the start.
    """
    if options.opencv_threads is not None:
        cv2.setNumThreads(options.opencv_threads)
    switch, notifier, statistics = Switch(), Notifier(), Statistics()
    live, sinks = is_live(options.source), options.sinks
    state = (options.state or state_folder()) if live or sinks.web is not None or sinks.mqtt is not None else None
    # Whoever has a folder of pictures looked at wants to hear of a bad model, and not the answers of another.
    last_good = LastGood(state) if state is not None and live else None
    if live:
        settle_deployment(named_path(options.model.model), notice)
    with contextlib.ExitStack() as stack:
        slot = stack.enter_context(contextlib.closing(ModelSlot(options.model, notice=notice, last_good=last_good)))
        contract = slot.first.contract
        reads = contract.preprocessing.fit == "digit"
        look = _choose_look(contract, options.look, live=live)
        source = open_source(replace(options.source, digits=reads))
        check_files(sinks, options.source, endless=source.endless)
        check_trigger(options.look.trigger, sinks, live=source.live, reads=reads)
        classes = Classes.choose(contract.labels, good=options.good, reads=reads)
        watcher = stack.enter_context(_watching(options, look, slot, source))

        def between() -> bool:
            for beat in beats:
                beat()
            if slot.refresh():
                watcher.tracker.reset()
            has_reader = reader is None or not reader.is_closed()
            return not switch.ended and has_reader and (options.frames is None or statistics.frames < options.frames)

        beats = [notifier.alive]
        reader = PipeWatch(sys.stdout) if options.sinks.terminal else None
        stack.enter_context(switch.listening(slot.ask))
        # A camera opens while the model is being checked. Left last: nothing that it does keeps the sinks from being closed.
        stack.enter_context(source)
        if not wait_for_model(slot, lambda: switch.ended):
            return Summary(statistics, source.skipped, source.losses, slot.swaps)
        if unguarded := slot.current.classifier.warning:
            notice(unguarded)
        addresses: list[str] = []
        card = None if sinks.mqtt is None else _open_card(sinks.card, statistics, slot, source, addresses)
        opened = open_sinks(
            sinks,
            source,
            options.look,
            classes,
            notice=notice,
            memory=state,
            contract=lambda: slot.current.artifact.contract,
            card=card,
        )
        actions = next((cast("ActionSink", sink) for sink in opened if sink.name == "actions"), None)
        told = [Tap(slot)] if source.live else []
        beats += [each.beat for each in (actions, *told) if each is not None]
        entered = [stack.enter_context(_Closing(sink, notice)) for sink in [*opened, *told]]
        monitor = stack.enter_context(_watched_drift(options, slot, source, state, notice))
        if sinks.web is not None:
            around = _surroundings(opened, sinks)
            kept = None if sinks.samples is None else sinks.samples.folder
            page = open_page(sinks.web, statistics, source, slot, classes, notice, state, around, kept, monitor, actions)
            addresses.append(page.address)
            entered.append(stack.enter_context(_Closing(page, notice)))
        running = f"{slot.current.artifact.path.name} on {slot.current.classifier.runtime.name}"
        notifier.ready(f"{running}; {slot.warning}" if slot.warning else running)
        judge = (lambda each: each) if monitor is None else monitor.add
        run_loop(source, watcher, entered, between=between, complain=notice, statistics=statistics, judge=judge)
        notifier.stopping()
    return Summary(statistics, source.skipped, source.losses, slot.swaps)


@contextlib.contextmanager
def _watching(options: CameraOptions, look: Look, slot: ModelSlot, source: Source) -> Iterator[Watcher]:
    """Give all that stands between a frame and its observation."""
    trigger, smooth = options.look.trigger, options.look.smooth
    limits = replace(options.limits, live=source.live, interval_s=1 / source.fps if source.live else 0.0)
    with contextlib.ExitStack() as stack:
        yield Watcher(
            lambda: slot.current.classifier,
            look,
            Health(limits),
            Tracker(smooth or (1 if trigger else _SMOOTH)),
            choose_gate(options.look),
            parts=None if trigger is None or not trigger.follows else follow_parts(trigger, options.look, source),
            shots=None if trigger is None or trigger.follows else stack.enter_context(take_shots(trigger, source)),
            warning=lambda: _warning(slot),
        )


def settle_deployment(model: Path, notice: Callable[[str], None]) -> None:
    """Put back what ran before a deployment that nobody watches any more, such as after a loss of power."""
    if not versions_folder(model).is_dir():
        return
    from edgecnn_device.deploy.store import Store  # few cameras were deployed to

    try:
        settled = Store(model).settle()
    except (EdgecnnError, OSError) as error:
        notice(f"an unfinished deployment could not be looked at: {error}")
    else:
        if settled:
            notice(settled)


@contextlib.contextmanager
def _watched_drift(
    options: CameraOptions, slot: ModelSlot, source: Source, state: Path | None, notice: Callable[[str], None]
) -> Iterator[DriftMonitor | None]:
    """Give what notices a drift, and keep what it knows at the end; None where nobody asked for it."""
    if options.drift is None:
        yield None
        return
    from edgecnn_device.drift import DriftMonitor, state_file
    from edgecnn_device.sinks.timeline import Timeline

    # A file of pictures is another plant's every time; a camera goes on where it was.
    where = f"{options.source.transform} {options.look.tiles} {options.look.overlap} {options.look.find}"
    file = state_file(state if source.live else None, options.source.source, options.model.model, where)
    timeline = Timeline(live=source.live, fps=source.fps)
    monitor = DriftMonitor(lambda: slot.current, options.drift, timeline, file=file, notice=notice)
    if not monitor.judged:
        notice(f"drift: {monitor.describe()}")
    try:
        yield monitor
    finally:
        try:
            monitor.close()
        except OutputError as error:
            notice(f"what is known of a drift could not be saved: {error}")


def _warning(slot: ModelSlot) -> str:
    """Say what should be known of the running model: why it is another than it should be, and that nothing is unsure to it."""
    return "; ".join(each for each in (slot.warning, slot.current.classifier.warning) if each)


def watch(
    classifier: Classifier,
    source: str,
    *,
    roi: tuple[float, float, float, float] | None = None,
    tiles: str | None = None,
    smooth: int = 5,
    fps: float | None = None,
) -> Iterator[Observation]:
    """Return the observations of one source by one classifier, made as they are asked for; nothing is written.

    `roi` is x, y, width, height in pixels, or as fractions of the picture where one is not an integer. Raises InputError for
    what cannot be opened.
    """
    transform = Transform(roi=None if roi is None else Roi.parse(",".join(map(str, roi))))
    preprocessing = classifier.preprocessing
    options = SourceOptions(source, fps=fps, transform=transform, digits=preprocessing.fit == "digit")
    look = choose_look(preprocessing, find="auto", tiles=tiles, overlap=0.0, live=is_live(options))
    opened = open_source(options)
    limits = Limits(live=opened.live, interval_s=1 / opened.fps if opened.live else 0.0)
    watcher = Watcher(lambda: classifier, look, Health(limits), Tracker(smooth))

    def observations() -> Iterator[Observation]:
        with opened:
            yield from observe(opened, watcher, Statistics())

    return observations()


def wait_for_model(slot: ModelSlot, is_ended: Callable[[], bool]) -> bool:
    """Wait until the first model is checked; False when the camera is to end before that. Raises what speaks against it."""
    while not slot.is_ready():
        if is_ended():
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def choose_gate(options: LookOptions) -> Gate:
    """Return the gate of --interval and --on-motion."""
    gates: list[Gate] = []
    if options.on_motion:
        gates.append(Motion())  # asked first: it must see every frame
    if options.interval_s is not None:
        gates.append(Interval(options.interval_s))
    if not gates:
        return always
    return gates[0] if len(gates) == 1 else both(gates[0], gates[1])


def follow_parts(trigger: Trigger, options: LookOptions, source: Source) -> OnParts:
    """Return what answers the parts that pass."""
    from edgecnn_device.part_views import PartViews
    from edgecnn_device.passages import Passages
    from edgecnn_device.triggered import OnParts

    passages = Passages(trigger.line, views=options.smooth or _SMOOTH, live=source.live, fps=source.fps)
    return OnParts(trigger.text, passages, PartViews(options.part_fill, where=options.where))


@contextlib.contextmanager
def take_shots(trigger: Trigger, source: Source) -> Iterator[OnShots]:
    """Return what numbers the frames that a pin or a clock asks for; the pin is given back after the block."""
    from edgecnn_device.triggered import OnShots
    from edgecnn_device.triggers import PinEdges, every

    if trigger.kind == "interval":
        yield OnShots(trigger.text, every(trigger.seconds))
        return
    with contextlib.closing(PinEdges(trigger.pin, fps=source.fps)) as edges:
        yield OnShots(trigger.text, edges)


def check_trigger(trigger: Trigger | None, sinks: SinkOptions, *, live: bool, reads: bool) -> None:
    """Raise InputError for what does not go with a trigger, since events would be lost or mean nothing."""
    if trigger is None:
        return
    if trigger.follows and reads:
        raise InputError(f"--trigger {trigger.text} follows parts, and this model reads digits wherever they are; leave it out")
    if trigger.kind == "gpio" and not live:
        raise InputError(f"--trigger {trigger.text} needs a camera as --source, or --realtime: a file knows no pins")
    if trigger.follows and sinks.video is not None:
        raise InputError(
            f"--video and --trigger {trigger.text} exclude each other: a part has one picture; see --keep and --web"
        )
    if sinks.actions is not None and sinks.actions.debounce is not None:
        raise InputError(f"--on-debounce and --trigger {trigger.text} exclude each other: each of its answers counts by itself")
    if sinks.write is not None and sinks.write.every_s:
        raise InputError(
            f"--write 'every {sinks.write.every_s:g} s' would lose events of --trigger {trigger.text}; leave it out"
        )


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
    look: LookOptions = _WHOLE,
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


def _open_card(
    options: CardOptions | None, statistics: Statistics, slot: ModelSlot, source: Source, addresses: Sequence[str]
) -> Card:
    """Return what the board says of itself; `addresses` holds that of its page as soon as there is one."""
    from edgecnn_device.fleet.card import Card, CardOptions, Running

    running = Running(
        statistics,
        lambda: slot.current,
        lambda: slot.warning,
        page=lambda: addresses[0] if addresses else None,
        fps=source.fps,
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


def open_page(
    options: WebOptions,
    statistics: Statistics,
    source: Source,
    slot: ModelSlot,
    classes: Classes,
    notice: Callable[[str], None],
    memory: Path | None,
    surroundings: Surroundings,
    samples: Path | None,
    monitor: DriftMonitor | None,
    actions: ActionSink | None,
) -> WebSink:
    """Open the web page, which looks at all counters, at its `surroundings`, the folder of `samples` and the drift."""
    from edgecnn_device.web.sink import WebSink
    from edgecnn_device.web.status import Watched

    watched = Watched(
        statistics,
        source,
        lambda: slot.current,
        lambda: slot.swaps,
        lambda: slot.refusals,
        classes,
        lambda: _warning(slot),
        surroundings,
        monitor,
        actions,
    )
    sink = WebSink(options, watched, memory=memory if options.port else None, samples=samples)
    notice(f"the page is at {sink.address}")
    return sink


def _surroundings(sinks: Sequence[Sink], options: SinkOptions) -> Surroundings:
    """Return the sink whose messages wait for a broker, and the folders that sinks write to, or the one where we stand."""
    from edgecnn_device.surroundings import Surroundings

    queue = next((cast("Queued", sink) for sink in sinks if sink.name == "mqtt"), None)
    video = None if options.video is None else options.video.path
    files = [file.absolute().parent for file in (options.jsonl, options.csv, video) if file is not None]
    kept = [] if options.samples is None else [options.samples.folder.absolute()]
    return Surroundings(queue, tuple(dict.fromkeys([*files, *kept])) or (Path.cwd(),))


class _Closing(contextlib.AbstractContextManager[Sink]):
    """Closes a sink at the end; one that fails at that is a line in the journal and does not keep others from closing."""

    def __init__(self, sink: Sink, notice: Callable[[str], None]) -> None:
        self._sink = sink
        self._notice = notice

    def __enter__(self) -> Sink:
        return self._sink.__enter__()

    def __exit__(self, *failure: object) -> None:
        try:
            self._sink.__exit__(None, None, None)
        except OSError as error:
            self._notice(f"{self._sink.name} could not be closed: {error}")
