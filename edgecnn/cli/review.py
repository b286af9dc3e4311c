"""`edgecnn review`: a page on which kept samples are labelled."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.command import Command, Need, check_needs

_CLASSES_ALONE = "it offers the classes of these samples only; --model FILE --data RUN|DIR adds all classes of the model"
_EXAMPLES = (
    "edgecnn review samples",
    "edgecnn review samples --model my-parts-int8.tflite --data runs/my-parts",
    "edgecnn review samples --web 0.0.0.0:8080 --web-token-file look --web-editor-token-file edit",
)


@click.command(
    cls=Command,
    needs={"model": Need.one_of("--data RUN|DIR"), "data": Need.one_of("--model FILE")},
    short_help="Label kept samples on a page, by keyboard or phone.",
    examples=_EXAMPLES,
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--web",
    metavar="[HOST:]PORT",
    is_flag=False,
    flag_value="8080",
    default="8080",
    show_default=True,
    help="Where to serve the page; HOST is 127.0.0.1 by default.",
)
@click.option(
    "--web-token-file", type=click.Path(path_type=Path), help="File with the token of those who may look, and not label."
)
@click.option(
    "--web-editor-token-file",
    type=click.Path(path_type=Path),
    help="File with the token of those who may label; needed beyond this machine.",
)
@click.option("--model", metavar="FILE", help="Exported model by which to find the training pictures nearest to each sample.")
@click.option(
    "--data", metavar="RUN|DIR", type=click.Path(path_type=Path), help="With --model: the run, or the class folders it learned."
)
@click.pass_context
def review(
    context: click.Context,
    /,
    folder: Path,
    web: str,
    web_token_file: Path | None,
    web_editor_token_file: Path | None,
    model: str | None,
    data: Path | None,
) -> None:
    """Serve a page on which the samples of DIR are labelled, in groups of what looks alike, until Ctrl-C.

    DIR is the folder of `edgecnn camera --keep DIR`, or a copy of it. A camera with --keep and --web has the same page as its
    tab Review. With --model and --data the training pictures that the model finds most like the marked sample stand beside it.
    """
    check_needs(context)
    from edgecnn_device.secret_files import exposure
    from edgecnn_device.web.options import read_web_options

    options = read_web_options(web, web_token_file, web_editor_token_file)
    from edgecnn_device.web.review_server import serve_review, wait_for_signal  # with the extra web, which is there now

    for file in (web_token_file, web_editor_token_file):
        if file is not None and (line := exposure(file)) is not None:
            click.echo(f"edgecnn: {line}", err=True)
    training = None
    if model is not None and data is not None:
        from edgecnn_device.web.neighbours import TrainingPictures

        training = TrainingPictures(model, data)
        click.echo(f"{training} to show beside the samples", err=True)
    with serve_review(folder, options, training) as address:
        click.echo(f"the page is at {address} until Ctrl-C", err=True)
        if training is None:
            click.echo(_CLASSES_ALONE, err=True)
        wait_for_signal()
