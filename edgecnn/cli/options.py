"""Options that several commands share, so that they are spelled and explained the same way everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.printing import printable

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
        size=values.get("size"),
    )


def foreign_options(command: F) -> F:
    """Add what models of other tools need: --labels, how they want their pictures, --size and --output."""
    labels = click.option("--labels", help="Classes of another tool's model, in order: a,b,c or a file with one a line.")
    size = click.option("--size", metavar="HxW", help="Pictures' size for a model that takes any: 224x224.")
    output = click.option("--output", metavar="NAME", help="Which output to use of a model that has several.")
    return labels(convention_options(size(output(command))))


def trust_option(command: F) -> F:
    """Add --trust."""
    return click.option("--trust", is_flag=True, help="Run a SavedModel whose operations are not known to be harmless.")(
        command
    )


def read_foreign(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `foreign_options` and `trust_option` left as the keywords of `open_model` and `open_reference`."""
    from edgecnn.labels import read_labels

    return {
        "labels": None if values["labels"] is None else read_labels(values["labels"]),
        "convention": read_convention(values),
        "output": values["output"],
        "trust": values["trust"],
    }


def echo_notes(name: str, notes: Iterable[str]) -> None:
    """Say on stderr what was deduced about another tool's model, or changed."""
    for note in notes:
        click.echo(printable(f"note: {name}: {note}"), err=True)


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
