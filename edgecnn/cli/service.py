"""`edgecnn service`: the systemd unit that keeps a camera running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgecnn.cli.command import Group
from edgecnn.text import printable

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=Group, short_help="Print or install the systemd unit that keeps a camera running.")
def service() -> None:
    """Print or install the systemd unit that runs `edgecnn camera --config`, restarts it and confines it."""


def _user_option(command: F) -> F:
    return click.option("--user", is_flag=True, help="Run the service under your own account, without root.")(command)


@service.command("print", short_help="Print the unit.")
@_user_option
def print_unit(user: bool) -> None:
    """Print the unit for this installation of edgecnn."""
    from edgecnn_device.service import Service

    click.echo(Service.of_this(user=user).unit(), nl=False)


@service.command(short_help="Install the unit and list the next steps.")
@_user_option
def install(user: bool) -> None:
    """Write the unit to /etc/systemd/system, or with --user to ~/.config/systemd/user, and list the next steps.

    Nothing is started, and nothing is asked. A file that edgecnn did not write, or that was changed since, is not overwritten.
    """
    from edgecnn_device.service import Service, next_steps
    from edgecnn_device.service import install as install_unit

    chosen = Service.of_this(user=user)
    path, is_new = install_unit(chosen)
    click.echo(printable(f"{path}: {'installed' if is_new else 'is installed already'}; next steps:"))
    for step in next_steps(chosen):
        click.echo(printable(f"  {step}"))
