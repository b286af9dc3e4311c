"""`edgecnn deploy`: a model onto a board, proven there, watched, and taken back by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.command import Command, Need, check_needs, option_group
from edgecnn.cli.options import PROBABILITY, TIMEOUT, Count, Duration, Number, echo_json, json_option
from edgecnn.text import aligned, printable

if TYPE_CHECKING:
    from edgecnn_device.deploy import DeployOptions, History, Outcome

_EXAMPLES = (
    "edgecnn deploy exports/parts/parts-int8.tflite pi@line-1",
    "edgecnn deploy exports/parts/parts-int8.tflite pi@line-1 --shadow 1000 --watch 10m",
    "edgecnn deploy --history pi@line-1",
    "edgecnn deploy --rollback pi@line-1",
)
_WAIT = Duration(0, 7 * 86400, unit="s")


def _is_deployment(values: Any) -> bool:
    return not (values["rollback"] or values["history"])


def is_compared(values: Any) -> bool:
    """Say whether answers of the new model are compared with those of the live one."""
    return bool(values["shadow"] or values["watch"])


_DEPLOYMENT = Need("a FILE to deploy", _is_deployment)
COMPARED = "--shadow N or a --watch that is not 0"
_NEEDS = (
    dict.fromkeys(("shadow", "watch", "max_latency", "keep", "new_labels", "verify_timeout"), _DEPLOYMENT)
    | {
        "min_agreement": Need.one_of("--shadow N"),
        "max_doubt": Need(f"a FILE to deploy, and {COMPARED}", lambda values: _is_deployment(values) and is_compared(values)),
        "restart": Need("a FILE to deploy, or --rollback", lambda values: not values["history"]),
    }
    | dict.fromkeys(("wheel", "wheels", "extras", "source"), Need.one_of("--bootstrap"))
)


@click.command(
    cls=Command,
    short_help="Put a model on a board: proven there, shadowed, watched, taken back by itself.",
    examples=_EXAMPLES,
    needs=_NEEDS,
)
@click.argument("words", metavar="[FILE|TASK] BOARD", nargs=-1)
@option_group(
    "What to do",
    click.option("--rollback", is_flag=True, help="Put the version before back live."),
    click.option("--bootstrap", is_flag=True, help="First set the board up: virtual environment, edgecnn, camera.toml, unit."),
    click.option("--history", is_flag=True, help="List what was deployed to the board, and what came of it."),
    click.option("--on-board", is_flag=True, hidden=True, help="The board's half: a request on stdin, its answers on stdout."),
)
@option_group(
    "Proof",
    click.option(
        "--shadow", type=Count(0, 10**7), default=0, show_default=True, help="First answer N live frames beside the live model."
    ),
    click.option(
        "--watch",
        type=_WAIT,
        default="60s",
        show_default=True,
        help="How long to watch the new model live, such as 90s, 10m or 2h; 0: put it in place unwatched.",
    ),
    click.option(
        "--min-agreement",
        type=PROBABILITY,
        default=0.8,
        show_default=True,
        help="Share of answers in which the shadow must say the same class; half of that for each class.",
    ),
    click.option(
        "--max-doubt",
        type=PROBABILITY,
        default=0.1,
        show_default=True,
        help="By how much the share of unsure and novel answers may rise.",
    ),
    click.option(
        "--max-latency", type=Number(1, 1000), default=2.0, show_default=True, help="How many times as long it may take."
    ),
    click.option("--new-labels", is_flag=True, help="The model has other classes, or another order; restarts the camera."),
    click.option(
        "--verify-timeout", type=TIMEOUT, default=20.0, show_default=True, help="Seconds to load and verify it on the board."
    ),
)
@option_group(
    "The board",
    click.option("--config", metavar="PATH", help="The camera's camera.toml on the board. Default: that of its service."),
    click.option("--model", metavar="PATH", help="The camera's model file on the board, for a camera without camera.toml."),
    click.option("--restart", metavar="COMMAND", help="Restarts the camera on the board. Default: by the unit of its service."),
    click.option("--keep", type=Count(2, 1000), default=5, show_default=True, help="Versions to keep on the board."),
    click.option("--program", metavar="PATH", help="The command edgecnn on the board. Default: where it is usually installed."),
)
@option_group(
    "Setting up",
    click.option(
        "--wheel", type=click.Path(path_type=Path), help="Wheel of edgecnn to install. Default: from the board's index."
    ),
    click.option(
        "--wheels", type=click.Path(path_type=Path), help="Folder of all wheels that the board needs, for one without an index."
    ),
    click.option("--extras", default="", help="Extras of edgecnn to install, such as web,mqtt."),
    click.option("--source", default="0", show_default=True, help="The camera's source, written into camera.toml."),
)
@option_group(
    "Connection",
    click.option("--ssh-option", multiple=True, metavar="KEY=VALUE", help="An option for ssh, as after its -o."),
    click.option(
        "--patience",
        type=_WAIT,
        default="2m",
        show_default=True,
        help="How long a board may be silent or lost, beyond what its steps take.",
    ),
    click.option("-F", "--ssh-config", type=click.Path(path_type=Path), help="Configuration for ssh instead of ~/.ssh/config."),
)
@json_option
@click.pass_context
def deploy(context: click.Context, /, words: tuple[str, ...], as_json: bool, on_board: bool, **values: Any) -> None:
    """Put an exported file live on a board over ssh, or leave or put back what ran there.

    The board verifies the file, lets it answer live frames beside the running model (--shadow), exchanges it at once, watches
    it, and takes it back by itself when it is worse, also when this machine or the connection is gone.

    Exits with 0 when the model is live, 1 when it was refused or taken back, 2 when nothing could be done.
    """
    from edgecnn.errors import InputError

    if on_board:
        from edgecnn_device.deploy.board import main

        main()
        return
    check_needs(context)
    _check_verb(values)
    if as_json and values["bootstrap"] and len(words) == 1:
        raise InputError("--json tells what came of a FILE: give one, or omit --json")
    options = read_options(values)
    if values["history"]:
        _show_history(_board(words), options, as_json=as_json)
        return
    if values["bootstrap"]:
        outcome, is_done = _bootstrap(words, options, values)
    else:
        outcome, is_done = _deploy(words, options, rollback=values["rollback"]), True
    if outcome is None:
        context.exit(0 if is_done else 1)
    if as_json:
        echo_json({"outcome": dataclasses.asdict(outcome)})
    else:
        click.echo(printable(_sentence(outcome)))
    context.exit(0 if outcome.live and is_done else 1)


def _check_verb(values: dict[str, Any]) -> None:
    from edgecnn.errors import InputError

    given = [f"--{name}" for name in ("rollback", "bootstrap", "history") if values[name]]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are two things; give one of them")


def read_options(values: Mapping[str, Any]) -> DeployOptions:
    """Return how to deploy, by the options of this command or of a fleet's."""
    from edgecnn.errors import InputError
    from edgecnn_device.deploy import DeployOptions, Limits, Plan, SshOptions

    if values["config"] is not None and values["model"] is not None:
        raise InputError("--config names the model file already; omit --model")
    plan = Plan(
        shadow=values["shadow"],
        watch_s=values["watch"],
        verify_s=values["verify_timeout"],
        limits=Limits(values["min_agreement"], values["max_doubt"], values["max_latency"]),
        keep=values["keep"],
        new_labels=values["new_labels"],
        live=values["model"],
        config=values["config"],
        restart=values["restart"],
    )
    return DeployOptions(plan, SshOptions(values["ssh_option"], values["ssh_config"]), values["program"], values["patience"])


def _bootstrap(words: tuple[str, ...], options: DeployOptions, values: dict[str, Any]) -> tuple[Outcome | None, bool]:
    """Set a board up; return what came of the model, None without one, and whether nothing is left to do, which is printed."""
    from edgecnn.classifier import artifact_path
    from edgecnn_device.deploy.bootstrap import Setup, bootstrap

    setup = Setup(values["wheel"], values["wheels"], values["extras"], values["source"])
    file = artifact_path(words[0]) if len(words) == 2 else None
    outcome, remaining = bootstrap(_board(words[-1:]), setup, file, options, _say)
    for line in remaining:
        click.echo(printable(f"left to do: {line}"), err=True)
    return outcome, not remaining


def _say(line: str) -> None:
    click.echo(printable(line), err=True)


def _board(words: tuple[str, ...]) -> str:
    from edgecnn.errors import InputError

    if len(words) != 1:
        raise InputError(f"{len(words)} names where one board is expected, such as pi@line-1")
    return words[0]


def _deploy(words: tuple[str, ...], options: DeployOptions, *, rollback: bool) -> Outcome:
    from edgecnn.classifier import artifact_path
    from edgecnn.errors import InputError
    from edgecnn_device.deploy import deploy as deploy_file
    from edgecnn_device.deploy import rollback as roll_back

    if rollback:
        return roll_back(_board(words), options, _say)
    if len(words) != 2:
        raise InputError("give a file and a board, such as exports/parts/parts-int8.tflite pi@line-1")
    return deploy_file(artifact_path(words[0]), words[1], options, _say)


def _sentence(outcome: Outcome) -> str:
    what = "live" if outcome.live else "rolled back" if outcome.rolled_back else "refused"
    return f"{outcome.board}: {outcome.version[:12]} {what}" + (f": {outcome.reason}" if outcome.reason else "")


def _show_history(board: str, options: DeployOptions, *, as_json: bool) -> None:
    from edgecnn.errors import InputError
    from edgecnn_device.deploy import history

    found = history(board, options)
    if found.live is None and not found.events:
        raise InputError(f"{board}: there is no model {found.model}, and none was ever deployed there")
    if as_json:
        echo_json({"history": dataclasses.asdict(found)})
    else:
        for line in _lines(found):
            click.echo(printable(line))


def _lines(found: History) -> list[str]:
    """Return a board's history as lines, the newest event first."""
    live = "nothing" if found.live is None else found.live[:12]
    lines = [f"{found.board}: {found.model}: live is {live}"]
    if found.pending is not None:
        lines.append(f"being watched: {found.pending[:12]}")
    if found.previous is not None:
        lines.append(f"edgecnn deploy --rollback {found.board} puts back {found.previous[:12]}")
    rows = [
        (str(event.number), event.at.replace("T", " "), event.version[:12], event.export_id, event.what, event.reason)
        for event in reversed(found.events)
    ]
    return [*lines, *(aligned(rows, left=6) if rows else ["nothing was deployed yet"])]
