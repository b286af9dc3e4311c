"""`edgecnn sign`: vouch for an exported file, so that boards can insist on models from this workstation."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import timeout_option
from edgecnn.text import printable


@click.command(short_help="Sign exported files, so that a board runs only models from your workstation.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Ed25519 private key in PEM, as from: openssl genpkey -algorithm ed25519 -out key.pem",
)
@timeout_option
def sign(files: tuple[Path, ...], key: Path, timeout_s: float) -> None:
    """Sign exported files with an Ed25519 key; the signature is stored in the file.

    A file is signed only when it reproduces its golden vectors on this machine.

    On the board: edgecnn camera FILE --require-signature PUBLIC.pem, where PUBLIC.pem comes from: openssl pkey -in key.pem
    -pubout -out PUBLIC.pem
    """
    from edgecnn.sign import sign_file
    from edgecnn_device.secret_files import exposure

    if line := exposure(key):
        click.echo(printable(f"edgecnn: {line}"), err=True)
    for file in files:
        click.echo(printable(f"{file}: signed by the key {sign_file(file, key, timeout_s=timeout_s)}"))
