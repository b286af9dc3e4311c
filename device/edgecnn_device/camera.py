"""Puts source, model, finder and sinks together and runs the loop until it ends or is stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import cv2

from edgecnn.classifier import named_path
from edgecnn.errors import EdgecnnError, InputError, OutputError
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.classes import Classes
from edgecnn_device.distinct import EVERY_S, DistinctAnswers
from edgecnn_device.finders import Find, Look, choose_look
from edgecnn_device.gates import Gate, Interval, Motion, always, both
from edgecnn_device.health import Health, Limits
from edgecnn_device.last_good import LastGood
from edgecnn_device.loop import Statistics, Watcher, observe, run_loop
from edgecnn_device.model import ModelOptions, ModelSlot
from edgecnn_device.outputs import Closing, SinkOptions, check_files, find_actions, open_card, open_page, open_sinks
from edgecnn_device.sinks.pipe import PipeWatch
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.sources import Source, SourceOptions, is_live, open_source
from edgecnn_device.sources.transform import Roi, Transform
from edgecnn_device.state_folder import state_folder
from edgecnn_device.systemd import Notifier
from edgecnn_device.tap import Tap, versions_folder
from edgecnn_device.tracking import Tracker

if TYPE_CHECKING:  # what was not asked for is not imported: a camera starts a third sooner
    from edgecnn.artifacts import Contract
    from edgecnn.classifier import Classifier
    from edgecnn_device.drift import DriftMonitor, DriftOptions
    from edgecnn_device.frames import Observation
    from edgecnn_device.triggered import OnParts, OnShots
    from edgecnn_device.triggers import Trigger

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
class CameraOptions:
    """All that a camera needs to run; `frames` is the number after which it ends, `state` is what it keeps for its next start.

    `good` are the labels that are no defect; None tells them by their usual names. `drift` says how a drift of the pictures is
    noticed; None: not at all. `opencv_threads` None is one per processor.
    """

    model: ModelOptions
    source: SourceOptions
    look: LookOptions = LookOptions()
    limits: Limits = field(default_factory=Limits)
    sinks: SinkOptions = field(default_factory=SinkOptions)
    frames: int | None = None
    good: tuple[str, ...] | None = None
    state: Path | None = None
    drift: DriftOptions | None = None
    opencv_threads: int | None = None


@dataclass(frozen=True, eq=False)
class Summary:
    """What a camera did: its counters, the frames that its source skipped, how often the source and the model changed.

    `restart` says that it ended to be started again, with a model that has more classes.
    """

    statistics: Statistics
    skipped: int
    losses: int
    swaps: int
    restart: bool = False


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
        slot = ModelSlot(options.model, notice=notice, last_good=last_good, restarts=live)
        stack.callback(slot.close)
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
            is_over = switch.ended or slot.needs_restart
            return not is_over and has_reader and (options.frames is None or statistics.frames < options.frames)

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
        card = (
            None
            if sinks.mqtt is None
            else open_card(sinks.card, statistics, slot, source, addresses, _distinct_answers(options, source))
        )
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
        actions = find_actions(opened)
        told = [Tap(slot, _distinct_answers(options, source))] if source.live else []
        beats += [each.beat for each in (actions, *told) if each is not None]
        entered = [stack.enter_context(Closing(sink, notice)) for sink in [*opened, *told]]
        monitor = stack.enter_context(_watched_drift(options, slot, source, state, notice))
        if sinks.web is not None:
            page = open_page(sinks, opened, statistics, source, slot, classes, notice=notice, memory=state, monitor=monitor)
            addresses.append(page.address)
            entered.append(stack.enter_context(Closing(page, notice)))
        running = f"{slot.current.artifact.path.name} on {slot.current.classifier.runtime.name}"
        notifier.ready(f"{running}; {slot.warning}" if slot.warning else running)
        run_loop(
            source,
            watcher,
            entered,
            between=between,
            complain=notice,
            statistics=statistics,
            judge=(lambda each: each) if monitor is None else monitor.add,
        )
        if not slot.needs_restart:  # systemd kills what says that it stops and goes on
            notifier.stopping()
    return Summary(statistics, source.skipped, source.losses, slot.swaps, slot.needs_restart and not switch.ended)


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
            warning=lambda: slot.warnings,
        )


def _distinct_answers(options: CameraOptions, source: Source) -> DistinctAnswers:
    """Return what tells which answers count, by the time between two pictures that is set for a drift."""
    every_s = EVERY_S if options.drift is None else options.drift.every_s
    return DistinctAnswers(Timeline(live=source.live, fps=source.fps), every_s)


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
