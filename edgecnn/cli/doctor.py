"""`edgecnn doctor`: what this machine has and what it lacks."""

from __future__ import annotations

import dataclasses
import json

import click

from edgecnn.cli.options import json_option

_MARKS = {"ok": " ok ", "warn": "warn", "fail": "FAIL"}


@click.command(short_help="Check the board: packages, cameras, temperature, disk, clock, models.")
@click.argument("models", metavar="[FILE|TASK]...", nargs=-1)
@json_option
@click.pass_context
def doctor(context: click.Context, models: tuple[str, ...], as_json: bool) -> None:
    """Check Python, packages, runtime, cameras, temperature, throttling, disk, clock and models (default: the shipped ones).

    The last line says whether a camera can run here. Exits with 1 when it cannot, with 0 also when there are warnings.
    """
    from edgecnn.tasks import shipped_tasks
    from edgecnn_device.doctor import examine, verdict

    checks = []
    for check in examine(list(models) or list(shipped_tasks())):
        checks.append(check)
        if not as_json:
            click.echo(f"[{_MARKS[check.status]}] {check.name}: {check.detail}")
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        click.echo(verdict(checks))
    if any(check.status == "fail" for check in checks):
        context.exit(1)
