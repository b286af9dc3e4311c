"""`edgecnn teach`: a class more, without training."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.command import Command
from edgecnn.cli.options import seed_option
from edgecnn.text import percent, printable

_EXAMPLES = (
    "edgecnn teach my-parts-int8.tflite --class dent field/dent",
    "edgecnn teach my-parts-int8.tflite --class good wrong/*.png --out better-int8.tflite",
)


@click.command(cls=Command, short_help="Teach a class to an exported model by pictures, without training.", examples=_EXAMPLES)
@click.argument("model", metavar="FILE|TASK")
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--class", "label", required=True, metavar="LABEL", help="The class that they show: a new one, or one to correct."
)
@click.option("--out", type=click.Path(path_type=Path), help="File to write. Default: FILE-taught beside FILE; it must be new.")
@seed_option
def teach(model: str, pictures: tuple[Path, ...], label: str, out: Path | None, seed: int) -> None:
    """Add a class to an exported model, or correct one, by its centres in feature space.

    PICTURE is a picture or a folder of pictures. It takes seconds, on a board too, and no TensorFlow. The network stays as it
    is, and so do its answers to pictures that are nearer to what it knew. The file says what it was taught, when and by which
    pictures, has golden vectors of its own, and its parity with the trained model is no longer known. Training with the
    pictures is better, and replaces it.
    """
    from edgecnn.artifacts import Artifact
    from edgecnn.classifier import artifact_path
    from edgecnn.errors import InputError, OutputError
    from edgecnn.folders import left_out_line, list_all
    from edgecnn.progress import note
    from edgecnn.samples.labels import check_label
    from edgecnn.shipped import is_shipped
    from edgecnn.teach import teach as teach_class

    path = artifact_path(model)
    named = check_label(label)
    if named.startswith("_"):
        raise InputError(f"--class {label}: pictures of no class cannot be taught; a model without them calls them novel")
    beside = Path(path.name) if is_shipped(path) else path
    target = out or beside.with_name(f"{path.stem}-taught{path.suffix}")
    if target.suffix != path.suffix:
        raise InputError(f"--out {target}: a {path.suffix} file stays one; give a name that ends in {path.suffix}")
    if target.exists():
        raise OutputError(f"{target} exists; it is not overwritten: choose another name with --out")
    listing = list_all(pictures)
    if listing.left_out:
        note(left_out_line(listing.left_out))
    done = teach_class(Artifact.open(path), named, listing.pictures, path=target, seed=seed)
    done.artifact.save(target)
    verb = "added" if done.is_new else "corrected"
    recognised, before = (percent(share.value, share.interval) for share in (done.recognised, done.before))
    click.echo(printable(f"{target}: {named} {verb} by {done.recognised.count} pictures"))
    click.echo(f"of these, {recognised} are recognised by what the others teach; before: {before}")
    click.echo(printable(f"next: edgecnn compare {model} {target} --data DIR, with pictures that were not taught"))
