"""`edgecnn filters`: the course's opening on any picture."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import OUTPUT_FILE


@click.command(short_help="Show fixed and learned filters on a picture.")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--model", default="neu", show_default=True, metavar="TASK|FILE.keras|RUN", help="Model whose first layer is shown."
)
@click.option("--out", type=OUTPUT_FILE, default=Path("filters.png"), show_default=True, help="PNG to draw.")
def filters(image: Path, model: str, out: Path) -> None:
    """Show fixed and learned filters on a picture.

    Draws IMAGE smoothed, sharpened and reduced to its edges by hand-designed kernels, beside the kernels that a model's first
    layer learned and their feature maps of the same picture.
    """
    from edgecnn.pictures import read_picture

    picture = read_picture(image)
    from edgecnn_export.foreign import ForeignOptions
    from edgecnn_export.models import open_reference
    from edgecnn_export.plots.figures import save_figure
    from edgecnn_export.plots.filters import plot_filters

    save_figure(plot_filters(picture, open_reference(model, ForeignOptions(unnamed=True)), title=image.name), out)
    click.echo(out)
