"""Options that several commands share, so that they are spelled and explained the same way everywhere."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.text import json_text, printable

if TYPE_CHECKING:
    from edgecnn.datasets.folder import Conflicts
    from edgecnn.datasets.reading import InputChoice
    from edgecnn.normalization import InputConvention
    from edgecnn.tasks import Task
    from edgecnn_export.foreign import ForeignOptions

F = TypeVar("F", bound=Callable[..., Any])

MAX_SEED = 2**32 - 1
SCHEMA = 1  # of what --json prints


class Number(click.FloatRange):
    """A finite number of `low` to `high`. Every option that takes a number has both: an unbounded one overflows somewhere."""

    def __init__(self, low: float, high: float) -> None:
        """Accept numbers between the two, both included."""
        super().__init__(min=low, max=high)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; it comes from the command line, a configuration file or the environment."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            self.fail(f"{reprlib.repr(value)} is not a finite number.", param, ctx)
        return float(super().convert(number, param, ctx))


class Duration(Number):
    """A time of `low` to `high` in `unit`, which is that of a bare number: 90s, 10m, 10min, 1.5h."""

    name = "time"

    def __init__(self, low: float, high: float, *, unit: str) -> None:
        """Accept times between the two, both included; `unit` is s, m or h."""
        super().__init__(low, high)
        self._unit_s = _UNITS_S[unit]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the time in `unit`; it comes from the command line or the environment."""
        stated = _TIME.fullmatch(str(value).strip())
        if stated is None:
            self.fail(f"{reprlib.repr(value)} is no time such as 90s, 10m or 2h.", param, ctx)
        unit_s = _UNITS_S[stated["unit"]] if stated["unit"] else self._unit_s
        return super().convert(float(stated["number"]) * unit_s / self._unit_s, param, ctx)


class Count(click.IntRange):
    """A whole number of `low` to `high`; 2.5 in a configuration file is refused, not cut to 2."""

    def __init__(self, low: int, high: int) -> None:
        """Accept whole numbers between the two, both included."""
        super().__init__(min=low, max=high)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; it comes from the command line, a configuration file or the environment."""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole and not (isinstance(value, str) and _WHOLE.fullmatch(value)):
            self.fail(f"{reprlib.repr(value)} is not a whole number.", param, ctx)
        return int(super().convert(value, param, ctx))


class OutputFile(click.Path):
    """An output file, refused at once where it would overwrite somebody else's, or where its ending is not the one `ending`."""

    def __init__(self, ending: str = "") -> None:
        """Give a `pathlib.Path`."""
        super().__init__(path_type=Path)
        self._ending = ending

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        from edgecnn.files import check_replaceable

        path = Path(str(super().convert(value, param, ctx)))
        if self._ending and path.suffix.lower() != self._ending:
            self.fail(f"{path} would hold what its name denies: give it the ending {self._ending}", param, ctx)
        check_replaceable(path)
        return path


_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600}
_TIME = re.compile(r"(?P<number>\d{1,9}(\.\d{1,9})?) ?(?P<unit>s|m|min|h)?")
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")
OUTPUT_FILE, PNG_FILE = OutputFile(), OutputFile(".png")
PROBABILITY = Number(0, 1)
SEED = Count(0, MAX_SEED)
TIMEOUT = Number(0.1, 3600)
EPOCHS, JOBS, THREADS = Count(0, 100_000), Count(1, 64), Count(1, 64)
RUNTIME_NAMES = ("ai-edge-litert", "tflite-runtime", "tensorflow", "onnxruntime")


class Size(click.ParamType):  # type: ignore[type-arg]
    """Height and width in pixels: `128`, or `96x160`."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return height and width, each of 8 to 1024 pixels."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(value).strip().lower())
        sides = None if found is None else (int(found[1]), int(found[2] or found[1]))
        if sides is None or not all(8 <= side <= 1024 for side in sides):
            self.fail(f"{str(value)[:40]!r} is not a size of 8 to 1024 pixels per side, such as 128 or 96x160.", param, ctx)
        return sides


class Share(click.ParamType):  # type: ignore[type-arg]
    """A share above 0 and of at most one half: `5%` or 0.05."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share."""
        found = re.fullmatch(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*(%?)\s*", str(value))
        share = float(found[1]) / (100 if found[2] else 1) if found else math.nan
        if not 0 < share <= 0.5:
            self.fail(f"{str(value)[:40]!r} is no share above 0 and up to 50%, such as 5% or 0.05.", param, ctx)
        return share


class NumberOrAuto(Number):
    """A finite number of `low` to `high`, or the word auto."""

    name = "number or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or auto; it comes from the command line or a configuration file."""
        if str(value).strip().lower() == "auto":
            return "auto"
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{str(value)[:40]!r} is neither auto nor a number from {self.min:g} to {self.max:g}.", param, ctx)


def runtime_options(command: F) -> F:
    """Add --runtime and --threads."""
    threads = click.option(
        "--threads",
        type=THREADS,
        default=1,
        show_default=True,
        envvar="EDGECNN_THREADS",
        help="Number of threads of the runtime (also: EDGECNN_THREADS).",
    )
    runtime = click.option(
        "--runtime",
        type=click.Choice(RUNTIME_NAMES),
        help="Runtime to use; default: the first one installed (also: EDGECNN_RUNTIME).",
    )
    return runtime(threads(command))


def threshold_options(command: F) -> F:
    """Add --reject and --novelty."""
    reject = click.option(
        "--reject", type=PROBABILITY, help="Be unsure below this probability instead of the model's own threshold."
    )
    novelty = click.option(
        "--novelty", type=Number(0.01, 100), help="Call pictures novel above this novelty; 1 is the model's own threshold."
    )
    return reject(novelty(command))


def timeout_option(command: F) -> F:
    """Add --timeout."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=TIMEOUT,
        default=10.0,
        show_default=True,
        help="Seconds a model may take to load and replay its golden vectors, in its own process.",
    )(command)


def data_option(command: F) -> F:
    """Add --data."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Folder of the data set, or `synthetic` for generated pictures. Default: $EDGECNN_DATA/TASK.",
    )(command)


def input_options(command: F) -> F:
    """Add --color, --size and --fit: the input of a folder's model."""
    color = click.option(
        "--color", type=click.Choice(["gray", "rgb"]), help="Input color for a folder's model. Default: that of most pictures."
    )
    size = click.option(
        "--size",
        "size_hw",
        type=Size(),
        help="Input size for a folder's model. Default: that of most pictures up to 256x256, else 128x128, for lite 224x224.",
    )
    fit = click.option(
        "--fit",
        type=click.Choice(["auto", "squash", "pad", "crop"]),
        default="auto",
        show_default=True,
        help="Pictures of another aspect: stretch them, add black bars, or take the middle; auto: what costs least.",
    )
    return color(size(fit(command)))


def group_by_option(command: F) -> F:
    """Add --group-by."""
    return click.option(
        "--group-by",
        metavar="REGEX|FILE.csv|folder|minutes:N",
        help="Which pictures show the same part: what one group of a regular expression finds in their paths, a table "
        "(file, group), their folder within the class folder, or no more than N minutes between them.",
    )(command)


def seed_option(command: F) -> F:
    """Add --seed."""
    return click.option("--seed", type=SEED, default=0, show_default=True, help="Seed for everything random.")(command)


def split_option(command: F) -> F:
    """Add --split."""
    return click.option(
        "--split",
        type=click.Choice(["train", "validation", "test"]),
        default="validation",
        show_default=True,
        help="Split to measure on.",
    )(command)


def json_option(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def echo_json(body: Mapping[str, Any]) -> None:
    """Print what a command found, with the version of its form: that grows when a key goes or changes its meaning."""
    click.echo(json_text({"schema": SCHEMA} | dict(body)))


def convention_options(command: F) -> F:
    """Add the options that state how another tool's model wants its pictures: `read_convention` reads them."""
    options = (
        click.option(
            "--pixel-range",
            type=click.Choice(["0..255", "0..1", "-1..1", "imagenet", "caffe"]),
            help="Pixel range of another tool's model; imagenet: torchvision's mean and deviation; caffe: BGR, mean "
            "subtracted.",
        ),
        click.option(
            "--pixel-scale", metavar="S[,S,S]", help="Instead of --pixel-range: the model takes pixel * S + O (R, G, B)."
        ),
        click.option("--pixel-offset", metavar="O[,O,O]", help="See --pixel-scale."),
        click.option("--color", type=click.Choice(["rgb", "bgr", "gray"]), help="Channel order of another tool's model."),
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


def foreign_file_options(command: F) -> F:
    """Add what another tool's `.tflite` needs: --labels, how it wants its pictures, --size and --output."""
    labels = click.option("--labels", help="Classes of another tool's model in order: a,b,c or a file with one label per line.")
    size = click.option("--size", metavar="HxW", help="Input size for a model that takes any, such as 224x224.")
    output = click.option("--output", metavar="NAME", help="Which output to use, for a model with several.")
    return labels(convention_options(size(output(command))))


def foreign_options(command: F) -> F:
    """Add what any model of another tool needs, as `foreign_file_options` and --trust: `read_foreign` reads them."""
    trust = click.option("--trust", is_flag=True, help="Run a SavedModel even though it does more than compute.")
    return foreign_file_options(trust(command))


def read_foreign(values: Mapping[str, Any]) -> ForeignOptions:
    """Read what `foreign_options` left in a command's parameters; InputError when they contradict each other."""
    from edgecnn.labels import read_labels
    from edgecnn_export.foreign import ForeignOptions

    labels = None if values["labels"] is None else read_labels(values["labels"])
    return ForeignOptions(labels, read_convention(values), values["output"], values["trust"])


def echo_notes(name: str, notes: Iterable[str]) -> None:
    """Print on stderr what was deduced about another tool's model, or changed."""
    for note in notes:
        click.echo(printable(f"note: {name}: {note}"), err=True)


def own_folder(name: str) -> Path | None:
    """Return the folder of the user's own that a command's TASK names, None for the name of a task."""
    from edgecnn.shipped import shipped_tasks

    return None if name in shipped_tasks() or not Path(name).is_dir() else Path(name)


def task_and_folder(
    name: str,
    data: Path | None,
    *,
    choice: InputChoice | None = None,
    conflicts: Conflicts | None = None,
    default_conflicts: Conflicts = "keep",
    group_by: str | None = None,
    only_good: bool = False,
) -> tuple[Task, Path | None]:
    """Return the task that a command's TASK names and where its data is: a shipped task with --data, or a folder's own.

    `choice`, `conflicts` (`default_conflicts` where None), `group_by` and `only_good` say how to read a folder. Raises
    UnknownTaskError for neither, InputError for --data beside a folder, and for what says how to read a folder beside a shipped
    task.
    """
    from edgecnn.datasets.folder import task_from_folder
    from edgecnn.datasets.reading import DECIDED
    from edgecnn.errors import InputError
    from edgecnn.shipped import find_task

    path = own_folder(name)
    if path is None:
        task = find_task(name)  # raises for another name, listing the known ones
        stated = choice or DECIDED
        fit = None if stated.fit == "auto" else stated.fit
        options: dict[str, Any] = {"--color": stated.color, "--fit": fit, "--size": stated.size_hw, "--conflicts": conflicts}
        options |= {"--group-by": group_by, "--only-good": only_good or None}
        for option, value in options.items():
            if value is not None:
                raise InputError(f"{option} belongs to a folder of your own; {name} is a task whose pictures are known")
        return task, data
    if data is not None:
        raise InputError(f"--data belongs to a named task; {name} is the data already")
    conflicts = conflicts or default_conflicts
    found = task_from_folder(path, choice=choice or DECIDED, conflicts=conflicts, group_by=group_by, only_good=only_good)
    return found, path
