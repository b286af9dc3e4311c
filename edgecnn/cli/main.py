"""The `edgecnn` command: finds the chosen subcommand's module, and shows an error of ours as one line."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
from types import FrameType

import click

from edgecnn import __version__
from edgecnn.cli.command import Group
from edgecnn.cli.progress import shown_progress
from edgecnn.errors import EdgecnnError
from edgecnn.signals import handling
from edgecnn.text import printable

# name -> (module, one line of help). The help stands here so that `edgecnn --help` imports no command.
COMMANDS = {
    "train": ("edgecnn.cli.train", "Train a model on MNIST, NEU or a folder of pictures per class."),
    "export": ("edgecnn.cli.export", "Export a trained model to TFLite and ONNX, and prove that nothing was lost."),
    "parity": ("edgecnn.cli.parity", "Compare exported models with their reference on the same pictures."),
    "compare": ("edgecnn.cli.compare", "Say whether a new model is better, no worse or worse than an old one."),
    "study": ("edgecnn.cli.study", "Longer measurements: cross-validation, ablation, learning curves, maps."),
    "classify": ("edgecnn.cli.classify", "Classify pictures."),
    "explain": ("edgecnn.cli.explain", "Show what stands behind the answer to one picture."),
    "evaluate": ("edgecnn.cli.evaluate", "Measure a model's accuracy on a split of its data set."),
    "robustness": (
        "edgecnn.cli.robustness",
        "Measure float and int8 models under camera corruptions.",
    ),
    "rejection": (
        "edgecnn.cli.rejection",
        "Measure how well a model rejects out-of-distribution pictures, and what its threshold costs.",
    ),
    "camera": ("edgecnn.cli.camera", "Classify a camera's frames until stopped."),
    "review": ("edgecnn.cli.review", "Label kept samples on a page, by keyboard or phone."),
    "teach": ("edgecnn.cli.teach", "Teach a class to an exported model by pictures, without training."),
    "samples": ("edgecnn.cli.samples", "List, label, export and import what a camera kept."),
    "fleet": ("edgecnn.cli.fleet", "Look at many boards on one broker, and give them a new model in stages."),
    "bench": ("edgecnn.cli.bench", "Measure latency, memory and size of models, and the frame rate of the camera loop."),
    "deploy": ("edgecnn.cli.deploy", "Put a model on a board: proven there, shadowed, watched, taken back by itself."),
    "service": ("edgecnn.cli.service", "Print or install the systemd unit that keeps a camera running."),
    "doctor": ("edgecnn.cli.doctor", "Check the board: packages, cameras, temperature, disk, clock, models."),
    "inspect": ("edgecnn.cli.inspect", "Show an exported file's contract, tensors, operators and sizes."),
    "verify": ("edgecnn.cli.verify", "Replay an exported file's golden vectors on this machine."),
    "sign": ("edgecnn.cli.sign", "Sign exported files, so that a board runs only models from your workstation."),
    "filters": ("edgecnn.cli.filters", "Show fixed and learned filters on a picture."),
    "data": ("edgecnn.cli.data", "Check, describe and generate data sets."),
}


# Packages that are no part of the base install -> the extra that brings them.
EXTRAS = {
    "keras": "train",
    "tensorflow": "train",
    "matplotlib": "export",
    "jinja2": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "tf2onnx": "export",
    "starlette": "web",
    "uvicorn": "web",
    "prometheus_client": "web",
    "paho": "mqtt",
    "cryptography": "sign",
}


# What a system runs out of, whatever file is being worked on.
_LACKING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
}


class LazyGroup(Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return one command, None when there is none of this name."""
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[name][0]), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


FIRST_DAY = """\
edgecnn gets a small vision model onto a small board without losing anything on the way.

  edgecnn train ./my-parts                                         a folder of pictures per class
  edgecnn export runs/my-parts-compact --int8                      TFLite and ONNX files, compared with the model
  edgecnn classify exports/my-parts/my-parts-int8.tflite a.jpg     pictures in, labels out
  edgecnn camera exports/my-parts/my-parts-int8.tflite --web 8080  a page with the live picture
  edgecnn doctor                                                   is this machine ready?

All commands: edgecnn --help. Options and examples of one: edgecnn COMMAND --help.
"""


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="edgecnn")
@click.pass_context
def cli(context: click.Context) -> None:
    """Train a small vision model, export it, prove that nothing was lost, and run it on a small board."""
    if context.invoked_subcommand is None:
        click.echo(FIRST_DAY, nl=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    A mistake of the user's, a file that the system refuses, or memory, descriptors and the like that it lacks, is one line on
    stderr and exit code 2; Ctrl-C exits with 130; SIGTERM and SIGHUP leave nothing half done either, and then end the process
    as they always do; a bug of ours keeps its traceback.
    """
    try:
        with _ending_in_order(), shown_progress():
            code = cli.main(arguments, prog_name="edgecnn", standalone_mode=False)
        sys.stdout.flush()
    except EdgecnnError as error:
        code = _complain(str(error), 2)
    except click.ClickException as error:
        from edgecnn.addresses import hide_addresses  # click quotes what was typed, even a camera's address at the wrong place

        line = hide_addresses(" ".join(error.format_message().split()))
        context = error.ctx if isinstance(error, click.UsageError) else None
        code = _complain(line if context is None else f"{line.rstrip('.')} (see: {context.command_path} --help)", 2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        code = _complain(f"{package} is not installed. Install it with: pip install 'edgecnn[{EXTRAS[package]}]'", 2)
    except (click.Abort, KeyboardInterrupt) as end:
        cause = end.__cause__ if isinstance(end, click.Abort) else end  # click turns Ctrl-C into an Abort
        kept = str(cause) if isinstance(cause, KeyboardInterrupt) else ""
        code = _complain(f"interrupted: {kept}" if kept else "interrupted", 130)
    except _EndedBySignal as end:
        code = _complain(f"ended by {end.signal.name}", 128 + end.signal)
        signal.raise_signal(end.signal)  # whoever waits for this process sees what ended it
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except MemoryError as error:
        code = _complain(f"out of memory{f' ({error})' if str(error) else ''}: give the process more, or smaller pictures", 2)
    except OSError as error:
        if error.strerror is None or (error.filename is None and error.errno not in _LACKING):
            raise  # neither a file of the user's nor the system is to blame
        code = _complain(f"{error.filename or 'this system'}: {error.strerror.lower()}", 2)
    sys.exit(code if isinstance(code, int) else 0)


class _EndedBySignal(BaseException):
    """A polite kill arrived: like KeyboardInterrupt, it passes everything that tidies up."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)


def _ending_in_order() -> contextlib.AbstractContextManager[None]:
    """Raise _EndedBySignal inside when SIGTERM or SIGHUP arrives, unless somebody has decided what it does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _EndedBySignal(number)

    return handling({each: end for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL})


def _complain(line: str, code: int) -> int:
    click.echo(printable(f"edgecnn: {line}"), err=True)
    return code
