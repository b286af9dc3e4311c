"""`edgecnn verify`: the parity check that a board runs by itself."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import echo_json, json_option, runtime_options, timeout_option
from edgecnn.text import printable


@click.command(short_help="Replay an exported file's golden vectors on this machine.")
@click.argument("files", metavar="FILE|TASK...", nargs=-1, required=True)
@click.option(
    "--require-signature",
    type=click.Path(path_type=Path),
    metavar="PUBLIC.pem",
    help="Refuse files not signed with this Ed25519 key.",
)
@runtime_options
@timeout_option
@json_option
@click.pass_context
def verify(
    context: click.Context,
    files: tuple[str, ...],
    require_signature: Path | None,
    runtime: str | None,
    threads: int,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Replay the golden vectors of exported files through the serving path of this machine.

    Exits with 1 when a file answers differently here than where it was exported, or than its reference; with 2 when it cannot
    be trusted at all: damaged, not signed as required, or a model that crashes or hangs.
    """
    from edgecnn.artifacts import Artifact
    from edgecnn.artifacts.signature import TrustedKey
    from edgecnn.classifier import artifact_path
    from edgecnn.runtimes import probe

    trusted = None if require_signature is None else TrustedKey.open(require_signature)
    rows = []
    for name in files:
        artifact = Artifact.open(artifact_path(name), trusted=trusted)
        verified = probe.verify(artifact, runtime=runtime, threads=threads, timeout_s=timeout_s)
        report = verified.report
        rows.append(
            {
                "file": str(artifact.path),
                "runtime": verified.runtime,
                "passed": report.passed,
                "vectors": len(report.difference),
                "largest_difference": float(report.difference.max()),
                "tolerance": report.tolerance,
                "same_answers": int(report.same_answer.sum()),
                "contradiction": report.contradiction,
            }
        )
        if not as_json:
            row = rows[-1]
            line = (
                f"{row['file']}: {'verified' if report.passed else 'DIFFERS'} on {row['runtime']}: {row['vectors']} golden "
                f"vectors, largest difference {row['largest_difference']:.2g} (tolerance {row['tolerance']:.2g}), "
                f"{row['same_answers']} same answers"
            )
            if report.contradiction:
                line += f"; its record contradicts itself: {report.contradiction}: export it again"
            click.echo(printable(line))
    if as_json:
        echo_json({"files": rows})
    if not all(row["passed"] for row in rows):
        context.exit(1)
