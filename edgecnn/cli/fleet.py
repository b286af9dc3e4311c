"""`edgecnn fleet`: many boards on one broker, and a new model for them in stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.command import Command, Group
from edgecnn.cli.options import TIMEOUT, echo_json, json_option

if TYPE_CHECKING:
    from edgecnn_device.fleet.boards import Board, Boards
    from edgecnn_device.fleet.inventory import Inventory
    from edgecnn_device.sinks.mqtt_broker import Broker

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)
_EXAMPLES = (
    "edgecnn fleet list --mqtt mqtt://broker.local/plant",
    "edgecnn fleet status --inventory fleet.toml --group line-1",
    "edgecnn fleet status --inventory fleet.toml line-1/press-3",
)


@click.group(cls=Group, short_help="Look at many boards on one broker, and give them a new model in stages.")
def fleet() -> None:
    """Look at many boards on one MQTT broker, and give them a new model in stages.

    Boards are cameras with --mqtt. A board's name is its topic below that of the fleet: with --mqtt mqtt://broker/plant, the
    camera with --mqtt mqtt://broker/plant/line-1/press-3 is line-1/press-3.
    """


def _check_address(context: click.Context, parameter: click.Parameter, address: str | None) -> str | None:
    from edgecnn.cli.camera_options import check_address

    return check_address(context, parameter, address)


def broker_options(command: F) -> F:
    """Add the options that say where the broker is."""
    options = (
        click.option("--inventory", type=_FILE, help="TOML file with the broker and the boards; see docs/fleet.md."),
        click.option(
            "--mqtt",
            metavar="URL",
            envvar="EDGECNN_FLEET",
            show_envvar=True,
            callback=_check_address,
            help="Broker and topic above the boards': mqtt[s]://[user@]HOST[:PORT]/TOPIC-PREFIX.",
        ),
        click.option(
            "--mqtt-password-file", type=_FILE, help="File with one line: user:password, or the password of the URL's user."
        ),
        click.option("--mqtt-ca", type=_FILE, help="Trust the certificates in this PEM file instead of the system's."),
    )
    for option in reversed(options):
        command = option(command)
    return command


_GROUP = click.option("--group", metavar="NAME", help="Only the boards of this group.")
_WAIT = click.option(
    "--wait", type=TIMEOUT, default=10.0, show_default=True, help="Seconds to wait for the broker and what it keeps."
)


@fleet.command("list", cls=Command, examples=_EXAMPLES[:1])
@broker_options
@_GROUP
@_WAIT
@json_option
@click.pass_context
def list_(context: click.Context, /, group: str | None, wait: float, as_json: bool, **where: Any) -> int:
    """Show all boards in a table. The exit code is 1 when somebody should look at one."""
    from edgecnn_device.fleet.tables import list_lines

    boards = _gather(where, wait)
    found = _chosen(boards, group)
    _echo(boards, found, list_lines(found), as_json=as_json)
    return int(any(board.is_bad for board in found))


@fleet.command(cls=Command, examples=_EXAMPLES[1:])
@click.argument("names", metavar="[BOARD]...", nargs=-1)
@broker_options
@_GROUP
@_WAIT
@json_option
def status(names: tuple[str, ...], group: str | None, wait: float, as_json: bool, **where: Any) -> int:
    """Say how the fleet is, or all about a BOARD. The exit code is 1 when somebody should look at one.

    That is a board that does not run, runs another model than its file, drifts, or has a wrong clock.
    """
    from edgecnn.errors import InputError
    from edgecnn_device.fleet.tables import board_lines, status_lines

    if names and group is not None:
        raise InputError("give names of boards or --group, not both")
    boards = _gather(where, wait)
    found = [boards.find(name) for name in names] or _chosen(boards, group)
    lines = [line for board in found for line in board_lines(board)] if names else status_lines(found)
    _echo(boards, found, lines, as_json=as_json)
    return int(any(board.is_bad for board in found))


def _echo(boards: Boards, found: list[Board], lines: Any, *, as_json: bool) -> None:
    from edgecnn_device.fleet.boards import count_states

    if as_json:
        body = {"boards": [board.to_json() for board in found], "states": count_states(found), "ignored": boards.ignored}
        echo_json(body | {"bad": sum(board.is_bad for board in found)})
        return
    for line in lines:
        click.echo(line)
    if boards.ignored:
        click.echo(f"{boards.ignored} messages ignored: too large, of an unreadable name, or of a board too many", err=True)


def _chosen(boards: Boards, group: str | None) -> list[Board]:
    """Return the boards of a group; InputError where there is none, for a group that is misspelt looks healthy."""
    from edgecnn.errors import InputError

    found = boards.look(group)
    if group is not None and not found:
        known = sorted({board.group for board in boards.look() if board.group})
        raise InputError(f"--group {group[:80]!r}: no board is of this group; groups: {', '.join(known[:20]) or 'none'}")
    return found


def _gather(where: dict[str, Any], limit_s: float) -> Boards:
    """Return what the broker keeps of all boards."""
    from edgecnn_device.fleet.boards import Boards
    from edgecnn_device.fleet.listener import Listener

    broker, inventory = _find(where)
    boards = Boards(broker.prefix, known=inventory.groups)
    with Listener(broker, boards) as listener:
        listener.gather(limit_s)
    return boards


def _find(where: dict[str, Any]) -> tuple[Broker, Inventory]:
    """Return the broker of the options or the inventory, the options first, and the inventory."""
    from edgecnn.errors import InputError
    from edgecnn_device.fleet.inventory import Inventory, read_inventory
    from edgecnn_device.secret_files import exposure
    from edgecnn_device.sinks.mqtt_broker import MqttOptions, find_broker

    inventory = Inventory() if where["inventory"] is None else read_inventory(where["inventory"])
    address = where["mqtt"] or inventory.mqtt
    if address is None:
        raise InputError("no broker: give --mqtt mqtt://HOST/TOPIC-PREFIX, or mqtt in the file of --inventory")
    password_file = where["mqtt_password_file"] or inventory.password_file
    if password_file is not None and (line := exposure(password_file)) is not None:
        click.echo(f"edgecnn: {line}", err=True)
    return find_broker(MqttOptions(address, password_file, where["mqtt_ca"] or inventory.ca)), inventory
