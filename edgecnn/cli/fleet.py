"""`edgecnn fleet`: many boards on one broker, and a new model for them in stages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.command import Command, Group, Need, check_needs, option_group
from edgecnn.cli.deploy import COMPARED, is_compared, read_options
from edgecnn.cli.deploy import deploy as deploy_one
from edgecnn.cli.options import TIMEOUT, Count, echo_json, json_option
from edgecnn.text import counted, printable

if TYPE_CHECKING:
    from edgecnn_device.deploy import DeployOptions
    from edgecnn_device.fleet.boards import Board, Boards
    from edgecnn_device.fleet.history import History, Rollout
    from edgecnn_device.fleet.inventory import Inventory
    from edgecnn_device.fleet.rollout import Runner
    from edgecnn_device.sinks.mqtt_broker import Broker

F = TypeVar("F", bound=Callable[..., Any])
_PATIENCE_S = 5.0
_FILE = click.Path(path_type=Path)
_EXAMPLES = (
    "edgecnn fleet list --mqtt mqtt://broker.local/plant",
    "edgecnn fleet status --inventory fleet.toml --group line-1",
    "edgecnn fleet status --inventory fleet.toml line-1/press-3",
    "edgecnn fleet deploy exports/parts/parts-int8.tflite --inventory fleet.toml --group line-1 --stages 1,5,rest --watch 10m",
    "edgecnn fleet deploy --resume --inventory fleet.toml",
    "edgecnn fleet rollback --inventory fleet.toml",
    "edgecnn fleet page --inventory fleet.toml --web 0.0.0.0:8080 --web-token-file fleet.token",
    "edgecnn fleet forget line-1/press-3 --inventory fleet.toml",
    "edgecnn fleet dashboard > edgecnn-fleet.json",
    "edgecnn fleet dashboard --alerts > edgecnn.yml",
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
    return option_group(
        "Broker",
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
    )(command)


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


@fleet.command(cls=Command, examples=_EXAMPLES[1:3])
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
    found = [boards.demand(name) for name in names] or _chosen(boards, group)
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


@fleet.command(cls=Command, examples=_EXAMPLES[6:7])
@click.option(
    "--web",
    metavar="[HOST:]PORT",
    default="8080",
    show_default=True,
    help="Where to serve the page; HOST is 127.0.0.1 by default.",
)
@click.option("--web-token-file", type=_FILE, help="File with the token visitors must show; required beyond this machine.")
@broker_options
def page(web: str, web_token_file: Path | None, **where: Any) -> None:
    """Serve a page with one table of all boards, and /metrics for Prometheus, until Ctrl-C. It changes nothing."""
    from edgecnn_device.secret_files import exposure
    from edgecnn_device.web.options import read_web_options

    options = read_web_options(web, web_token_file)
    from edgecnn_device.fleet.boards import Boards
    from edgecnn_device.fleet.listener import Listener
    from edgecnn_device.fleet.page_server import serve_fleet
    from edgecnn_device.web.review_server import wait_for_signal

    if web_token_file is not None and (line := exposure(web_token_file)) is not None:
        click.echo(f"edgecnn: {line}", err=True)
    broker, inventory = _find(where)
    boards = Boards(broker.prefix, known=inventory.groups)
    with Listener(broker, boards) as listener, serve_fleet(boards, listener, options) as address:
        click.echo(f"the page is at {address} until Ctrl-C", err=True)
        if not listener.await_connection(_PATIENCE_S):  # the page says so too, and goes on when the broker comes
            click.echo(f"edgecnn: {listener.trouble or 'the broker does not answer'}", err=True)
        wait_for_signal()


@fleet.command(
    cls=Command, examples=("edgecnn fleet dashboard > edgecnn-fleet.json", "edgecnn fleet dashboard --alerts > edgecnn.yml")
)
@click.option("--alerts", is_flag=True, help="Print alert rules for Prometheus instead.")
def dashboard(alerts: bool) -> None:
    """Print a Grafana dashboard, or alert rules for Prometheus, of what `edgecnn fleet page` serves on /metrics."""
    from importlib.resources import files

    name = "alerts.yml" if alerts else "dashboard.json"
    click.echo((files("edgecnn_device.fleet") / "grafana" / name).read_text("utf-8"), nl=False)


@fleet.command(cls=Command, examples=_EXAMPLES[7:8])
@click.argument("names", metavar="BOARD...", nargs=-1, required=True)
@broker_options
@_WAIT
def forget(names: tuple[str, ...], wait: float, **where: Any) -> None:
    """Take boards that are gone for good off the list: what the broker keeps of them is removed.

    Only boards that are offline. One that comes back reports itself again. A board that --inventory lists stays on the list
    until it is taken out there.
    """
    from edgecnn.errors import InputError
    from edgecnn_device.fleet.boards import Boards
    from edgecnn_device.fleet.listener import Listener

    broker, inventory = _find(where)
    boards = Boards(broker.prefix, known=inventory.groups)
    with Listener(broker, boards) as listener:
        listener.gather(wait)
        for name in names:
            if (state := boards.demand(name).state) not in ("offline", "unknown"):
                raise InputError(f"{name} is {state}, and would report itself again: end its camera first")
        for name in names:
            listener.forget(name, wait)
            click.echo(f"forgot {name}" + ("; it still stands in the inventory" if name in inventory.groups else ""))


# What a deployment to one board takes, a rollout takes for each.
_OF_ONE = {
    *("shadow", "watch", "min_agreement", "max_doubt", "max_latency", "new_labels", "verify_timeout"),
    *("config", "model", "restart", "keep", "program", "ssh_option", "ssh_config", "patience"),
}
_NEW = Need("a FILE to deploy, for --resume goes on as it was begun", lambda values: values["file"] is not None)
_HISTORY = click.option(
    "--history", type=_FILE, help="SQLite file of what was rolled out. Default: fleet.sqlite in the state folder."
)
_CONFIRM = click.option(
    "--confirm",
    type=TIMEOUT,
    default=120.0,
    show_default=True,
    help="Seconds a board may take to say at the broker that it runs the new model.",
)
_JOBS = click.option("--jobs", type=Count(1, 64), default=8, show_default=True, help="Boards of a stage at once.")


@fleet.command(
    cls=Command,
    examples=_EXAMPLES[3:5],
    needs=dict.fromkeys(("group", "stages", "on_failure", "ssh_user", "dry_run", *_OF_ONE), _NEW)
    | {
        "min_agreement": Need.one_of("--shadow N"),
        "max_doubt": Need(f"a FILE to deploy, and {COMPARED}", lambda values: _NEW.met(values) and is_compared(values)),
    },
)
@click.argument("file", metavar="[FILE|TASK]", required=False)
@broker_options
@option_group(
    "Rollout",
    _GROUP,
    click.option(
        "--stages",
        default="1,5,rest",
        show_default=True,
        help="How many boards each stage has, as numbers or percentages; the rest at the end.",
    ),
    click.option(
        "--on-failure",
        type=click.Choice(["all", "stage", "stop"]),
        default="all",
        show_default=True,
        help="What a bad stage takes back: all stages so far, the stage itself, or only what boards take back by themselves.",
    ),
    _JOBS,
    _CONFIRM,
    click.option(
        "--ssh-user", metavar="NAME", help="For boards that --inventory lacks: connect as NAME to the address that they state."
    ),
    click.option("--resume", is_flag=True, help="Go on with the newest rollout that is not done, instead of a FILE."),
    click.option("--dry-run", is_flag=True, help="Show the stages, and do nothing."),
    _HISTORY,
)
@_WAIT
@click.pass_context
def deploy(context: click.Context, /, file: str | None, resume: bool, wait: float, **values: Any) -> int:
    """Give the boards of a group a new model, in stages: each board as with `edgecnn deploy`.

    A board is good when it has taken the model, watched it, and says at the broker that it runs it. The first stage with
    another one ends the rollout. Ctrl-C leaves it to --resume or to `edgecnn fleet rollback`.

    Exits with 0 when all boards run the model, 1 when some do not.
    """
    from edgecnn.errors import InputError

    check_needs(context, {"file": file} | values)
    if resume == (file is not None):
        raise InputError("give a FILE to deploy, or --resume")
    from edgecnn_device.fleet.rollout import read_stages

    read_stages(values["stages"])
    with _History(values["history"], new=file is not None) as history, history.alone():
        broker, inventory = _find(values)
        if file is None:
            rollout = _resumed(history, broker)
            options = _deploy_options(rollout.options)
        else:
            options = _deploy_options(values)
            planned = _plan(file, values, broker, inventory, wait)
            _show_stages(planned)
            if values["dry_run"]:
                return 0
            rollout = history.begin(planned)
        with _runner(history, broker, inventory, options, values, wait) as runner:
            return _conclude(runner.run(rollout.id))


deploy.params += [parameter for parameter in deploy_one.params if parameter.name in _OF_ONE]


@fleet.command(cls=Command, examples=_EXAMPLES[5:6])
@click.argument("rollout", metavar="[ROLLOUT]", required=False, type=Count(1, 10**9))
@broker_options
@option_group("Rollout", _JOBS, _CONFIRM, _HISTORY)
@_WAIT
def rollback(rollout: int | None, wait: float, **values: Any) -> int:
    """Take the model of a rollout back from all boards on which it runs: of the newest, or of ROLLOUT.

    Boards that run another model by now are left alone.
    """
    from edgecnn.errors import InputError

    with _History(values["history"]) as history, history.alone():
        broker, inventory = _find(values)
        newest = history.all(1)
        if rollout is None and not newest:
            raise InputError("nothing was rolled out yet")
        chosen = newest[0] if rollout is None else history.read(rollout)
        with _runner(history, broker, inventory, _deploy_options(chosen.options), values, wait) as runner:
            return _conclude(runner.roll_back(chosen.id), wanted="rolled back")


@fleet.command("history", cls=Command, examples=("edgecnn fleet history", "edgecnn fleet history 3"))
@click.argument("rollout", metavar="[ROLLOUT]", required=False, type=Count(1, 10**9))
@_HISTORY
@json_option
def history_(rollout: int | None, history: Path | None, as_json: bool) -> None:
    """List what was rolled out, the newest first, or the boards of one ROLLOUT."""
    from edgecnn_device.fleet.tables import history_lines, rollout_lines

    with _History(history) as opened:
        found = opened.all() if rollout is None else [opened.read(rollout)]
    if as_json:
        echo_json({"rollouts": [each.to_json() for each in found]})
        return
    for line in history_lines(found) if rollout is None else rollout_lines(found[0]):
        click.echo(line)


def _History(path: Path | None, *, new: bool = False) -> History:  # noqa: N802  # it stands for the class, which is imported when it is needed
    from edgecnn.errors import OutputError
    from edgecnn_device.fleet.history import History
    from edgecnn_device.state_folder import state_folder

    folder = state_folder()
    if path is None and folder is not None:
        path = folder / "fleet.sqlite"
    if path is None:
        raise OutputError("there is no folder for the history: give --history FILE")
    return History(path, new=new)


def _plan(file: str, values: dict[str, Any], broker: Broker, inventory: Inventory, wait: float) -> Rollout:
    """Return the rollout of a file to the boards that are there; InputError for boards without an address."""
    from edgecnn.artifacts import Artifact
    from edgecnn.artifacts.artifact import read_file
    from edgecnn.classifier import artifact_path
    from edgecnn.errors import InputError
    from edgecnn_device.deploy.client import rejection
    from edgecnn_device.fleet.rollout import plan_rollout

    path = artifact_path(file)
    data = read_file(path)
    artifact = Artifact.read(data, path)
    if reason := rejection(path, artifact):
        raise InputError(reason)
    boards = _chosen(_gather(values, wait), values["group"])
    return plan_rollout(
        artifact,
        data,
        boards,
        inventory,
        broker=f"{broker}/{broker.prefix}",
        group=values["group"],
        stages=values["stages"],
        on_failure=values["on_failure"],
        ssh_user=values["ssh_user"],
        options={name: _plain(values[name]) for name in sorted(_OF_ONE)},
    )


def _plain(value: Any) -> Any:
    """Return the value of an option as JSON has it."""
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _deploy_options(values: Any) -> DeployOptions:
    """Return how each board is deployed to, by the options of the command or as a history has them."""
    config = values["ssh_config"]
    of_ssh = {"ssh_option": tuple(values["ssh_option"]), "ssh_config": None if config is None else Path(config)}
    return read_options({name: values[name] for name in _OF_ONE} | of_ssh)


def _resumed(history: History, broker: Broker) -> Rollout:
    """Return the rollout to go on with; InputError where its file or its broker is another by now."""
    import hashlib

    from edgecnn.artifacts.artifact import read_file
    from edgecnn.errors import InputError

    rollout = history.unfinished()
    where = f"{broker}/{broker.prefix}"
    if rollout.broker != where:
        raise InputError(f"rollout {rollout.id} is of the boards at {rollout.broker}, not at {where}")
    if hashlib.sha256(read_file(Path(rollout.file))).hexdigest() != rollout.sha256:
        raise InputError(f"{rollout.file} is not the file any more of which rollout {rollout.id} was begun")
    click.echo(f"rollout {rollout.id} of {rollout.file} goes on", err=True)
    return rollout


@contextlib.contextmanager
def _runner(
    history: History, broker: Broker, inventory: Inventory, options: DeployOptions, values: dict[str, Any], wait: float
) -> Iterator[Runner]:
    """Give what works at rollouts while it listens to the boards."""
    from edgecnn_device.fleet.boards import Boards
    from edgecnn_device.fleet.listener import Listener
    from edgecnn_device.fleet.rollout import Pace, Runner, SshActions

    def say(line: str) -> None:
        click.echo(printable(line), err=True)

    boards = Boards(broker.prefix, known=inventory.groups)
    with Listener(broker, boards) as listener:
        listener.gather(wait)
        yield Runner(history, boards, listener, SshActions(options), Pace(values["jobs"], values["confirm"]), say)


def _show_stages(rollout: Rollout) -> None:
    for number, stage in enumerate(rollout.stages, 1):
        names = ", ".join(f"{board.name}{' (offline)' if board.state == 'offline' else ''}" for board in stage)
        click.echo(printable(f"stage {number}/{len(rollout.stages)}, {counted(len(stage), 'board')}: {names}"), err=True)


def _conclude(rollout: Rollout, wanted: str = "done") -> int:
    from edgecnn_device.fleet.tables import rollout_lines

    for line in rollout_lines(rollout):
        click.echo(line)
    return int(rollout.state != wanted)
