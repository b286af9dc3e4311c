"""`edgecnn explain`: why a model gave its answer to a picture."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import OUTPUT_FILE, data_option, runtime_options, seed_option
from edgecnn.text import printable


@click.command(short_help="Show what stands behind the answer to one picture.")
@click.argument("model", metavar="FILE|TASK")
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option("--out", type=OUTPUT_FILE, default="explain.html", show_default=True, help="HTML page to write.")
@data_option
@seed_option
@runtime_options
def explain(model: str, image: Path, out: Path, data: Path | None, seed: int, runtime: str | None, threads: int) -> None:
    """Write a page with what the network saw of IMAGE, what speaks for its answer, and what would change it.

    Where the training pictures are there, it shows the nearest of them: give --data RUN; for a task by its name they are looked
    for in $EDGECNN_DATA.
    """
    from edgecnn.artifacts import Artifact
    from edgecnn.classifier import Classifier, artifact_path
    from edgecnn.errors import DatasetError
    from edgecnn.pictures import read_picture
    from edgecnn.shipped import task_of
    from edgecnn_export.pages.explain import explain as find_out
    from edgecnn_export.pages.explain import say, write_page
    from edgecnn_export.run_pictures import load_pictures

    picture = read_picture(image)
    artifact = Artifact.open(artifact_path(model))
    classifier = Classifier.of(artifact, runtime=runtime, threads=threads)
    task, train, absent = task_of(artifact.contract), None, ""
    try:
        train = load_pictures(task, data, seed).train
    except DatasetError as error:
        absent = f"The training pictures are not here: {error}"
    found = find_out(classifier, task, picture, name=image.name, train=train, absent=absent, seed=seed)
    write_page(found, out)
    click.echo(printable(f"{image}: {say(found.prediction)}; wrote {out}"))
