"""`edgecnn doctor`: what this machine has and what it lacks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from edgecnn.cli.options import echo_json, json_option
from edgecnn.text import printable

_USUAL_CONFIG = Path("/etc/edgecnn/camera.toml")
_MARKS = {"ok": " ok ", "warn": "warn", "fail": "FAIL"}


@click.command(short_help="Check the board: packages, cameras, temperature, disk, clock, models.")
@click.argument("models", metavar="[FILE|TASK]...", nargs=-1)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Check the secret files named in this camera configuration. Default: /etc/edgecnn/camera.toml.",
)
@json_option
@click.pass_context
def doctor(context: click.Context, models: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Check Python, packages, runtime, cameras, temperature, throttling, disk, clock and models (default: the shipped ones).

    The last line says whether a camera can run here. Exits with 1 if it cannot, and with 0 despite warnings.
    """
    from edgecnn.files import exists
    from edgecnn.shipped import shipped_tasks
    from edgecnn_device.doctor import examine, verdict

    checks = []
    config = config or (_USUAL_CONFIG if exists(_USUAL_CONFIG) else None)
    for check in examine(list(models) or list(shipped_tasks()), config=config):
        checks.append(check)
        if not as_json:
            click.echo(printable(f"[{_MARKS[check.status]}] {check.name}: {check.detail}"))
    if as_json:
        echo_json({"verdict": verdict(checks), "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        click.echo(printable(verdict(checks)))
    if any(check.status == "fail" for check in checks):
        context.exit(1)
