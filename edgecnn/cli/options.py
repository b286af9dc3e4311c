"""Options that several commands share, so that they are spelled and explained the same way everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgecnn.datasets.folder import Conflicts
    from edgecnn.normalization import InputConvention
    from edgecnn.preprocessing import Color
    from edgecnn.tasks import Task

F = TypeVar("F", bound=Callable[..., Any])

RUNTIME_NAMES = ("ai-edge-litert", "tflite-runtime", "tensorflow", "onnxruntime")


class NumberOrAuto(click.ParamType):  # type: ignore[type-arg]  # older clicks have no argument for it
    """A finite number of `low` to `high`, or the word auto."""

    name = "number or auto"

    def __init__(self, low: float, high: float) -> None:
        """Accept numbers between the two, which belong to them."""
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return the number, or auto; it comes from the command line or a configuration file."""
        if str(value).strip().lower() == "auto":
            return "auto"
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not self._low <= number <= self._high:
            self.fail(f"{str(value)[:40]!r} is neither auto nor a number of {self._low:g} to {self._high:g}.", param, ctx)
        return number


def runtime_options(command: F) -> F:
    """Add --runtime and --threads."""
    threads = click.option(
        "--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="Threads of the runtime."
    )
    runtime = click.option(
        "--runtime",
        type=click.Choice(RUNTIME_NAMES),
        help="Runtime to use instead of the first installed one (also: EDGECNN_RUNTIME).",
    )
    return runtime(threads(command))


def data_option(command: F) -> F:
    """Add --data."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Folder of the data set. Default: $EDGECNN_DATA/TASK, else ../shared/data/TASK, else synthetic pictures.",
    )(command)


def seed_option(command: F) -> F:
    """Add --seed."""
    return click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")(command)


def json_option(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def convention_options(command: F) -> F:
    """Add the options that state how another tool's model wants its pictures: `read_convention` reads them."""
    options = (
        click.option(
            "--pixel-range",
            type=click.Choice(["0..255", "0..1", "-1..1", "imagenet", "caffe"]),
            help="Another tool's model wants its pixels so; imagenet: mean and deviation of torchvision; caffe: BGR, mean "
            "subtracted.",
        ),
        click.option("--pixel-scale", metavar="S[,S,S]", help="Instead of --pixel-range: it wants pixel * S + O (R, G, B)."),
        click.option("--pixel-offset", metavar="O[,O,O]", help="See --pixel-scale."),
        click.option("--color", type=click.Choice(["rgb", "bgr", "gray"]), help="Another tool's model wants this order."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_convention(values: Mapping[str, Any]) -> InputConvention:
    """Read what `convention_options` left in a command's parameters; InputError when they contradict each other."""
    from edgecnn.normalization import InputConvention

    return InputConvention.parse(
        pixel_range=values["pixel_range"],
        scale=values["pixel_scale"],
        offset=values["pixel_offset"],
        color=values["color"],
    )


def read_labels(text: str) -> tuple[str, ...]:
    """Read labels given as `a,b,c` or as the path of a file with one label a line, in class order."""
    from edgecnn.errors import InputError
    from edgecnn.files import read_bytes

    path = Path(text)
    if "," in text:
        labels = [label.strip() for label in text.split(",")]
    elif path.is_file():
        labels = [line.strip() for line in read_bytes(path, at_most=2**20).decode("utf-8", "replace").splitlines()]
    else:
        raise InputError(f"--labels {text}: neither a list such as a,b,c nor a file with one label a line")
    labels = [label for label in labels if label]
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise InputError(f"--labels must name at least two different classes, got {labels}")
    return tuple(labels)


def task_and_folder(
    name: str,
    data: Path | None,
    *,
    color: Color | None = None,
    conflicts: Conflicts | None = None,
    default_conflicts: Conflicts = "keep",
) -> tuple[Task, Path | None]:
    """Return the task that a command's TASK names and where its data is: a shipped task with --data, or a folder's own.

    `color` and `conflicts` (`default_conflicts` where None) say how to read a folder. Raises UnknownTaskError for neither,
    InputError for --data beside a folder, and for what says how to read a folder beside a shipped task.
    """
    from edgecnn.datasets.folder import task_from_folder
    from edgecnn.errors import InputError
    from edgecnn.tasks import find_task, shipped_tasks

    path = Path(name)
    if name in shipped_tasks() or not path.is_dir():
        task = find_task(name)  # raises for another name, listing the known ones
        for option, value in (("--color", color), ("--conflicts", conflicts)):
            if value is not None:
                raise InputError(f"{option} belongs to a folder of your own; {name} is a task whose pictures are known")
        return task, data
    if data is not None:
        raise InputError(f"--data belongs to a named task; {name} is the data already")
    return task_from_folder(path, color=color, conflicts=conflicts or default_conflicts), path
