"""`edgecnn bench`: how fast models and the camera loop are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecnn.cli.options import RUNTIME_NAMES, THREADS, Count, Number, echo_json, json_option, seed_option
from edgecnn.text import aligned, counted, printable

_FILE = click.Path(path_type=Path)
_STAGES = ("preprocess", "invoke", "whole")
_CASE_HEADS = ("runtime", "threads", "load", "first", "preprocess p50/p95/p99", "invoke", "whole", "loop", "memory")
_FRAME_HEADS = ("frame", "size", "regions", "find", "invoke", "whole", "floor", "whole/floor", "unchanged")


@click.command(short_help="Measure latency, memory and size of models, and the frame rate of the camera loop.")
@click.argument("models", metavar="FILE|TASK...", nargs=-1, required=True)
@click.option("--runtime", type=click.Choice(RUNTIME_NAMES), help="Only this runtime. Default: each one that is installed.")
@click.option("--threads", type=THREADS, multiple=True, help="Number of threads; repeatable. Default: 1 up to all cores.")
@click.option("--runs", type=Count(1, 10**6), default=200, show_default=True, help="Runs per case ...")
@click.option(
    "--seconds", type=Number(0.01, 3600), default=2.0, show_default=True, help="... or as many as fit into this time."
)
@click.option("--source", help="Pictures to measure with: a video, a picture or a folder. Default: generated pictures.")
@click.option("--plot", type=_FILE, help="Draw the latencies as a PNG.")
@click.option("--baseline", type=_FILE, help="JSON of an earlier run: also print ratios, new over old.")
@click.option("--tune", is_flag=True, help="Find how many threads the runtime and OpenCV should use here, instead.")
@click.option("--config", type=_FILE, help="With --tune: write both numbers into this camera.toml.")
@seed_option
@json_option
@click.pass_context
def bench(context: click.Context, /, models: tuple[str, ...], as_json: bool, **values: Any) -> None:
    """Measure exported models (or the shipped int8 model of a task) on every runtime and delegate that is installed.

    Each case runs in its own process: import and loading, the first run, preprocessing, inference, the whole path of a picture,
    the frame rate of the camera loop without outputs, and the memory before and after. For a model of digits also what whole
    frames cost, beside the floor: shrinking the frame, and one inference of what is read in it.

    With --tune, frames are measured with several numbers of threads for the runtime and for OpenCV, in turn; more threads are
    chosen only where they save more than 5 % of a frame's time.
    """
    from edgecnn_device import board

    _check(context, models, values)
    before = board.look()
    report = _tune(models[0], values) if values["tune"] else _measure_models(models, values)
    after = board.look()
    report |= {"machine": board.describe(), "board": board.to_json(before, after)}
    _print(report, as_json)
    _refuse_unmeasured(report["models"])
    if values["plot"] is not None:
        from edgecnn_export.plots.latency import draw_latencies

        draw_latencies(report["models"], values["plot"])


def _refuse_unmeasured(models: list[dict[str, Any]]) -> None:
    """Raise InferenceError for models of which no case was measured."""
    from edgecnn.errors import InferenceError

    if failed := [model for model in models if not model["cases"]]:
        paths = ", ".join(model["path"] for model in failed)
        raise InferenceError(f"every case of {paths} failed; the first failure: {failed[0]['failures'][0]}")


def _check(context: click.Context, models: tuple[str, ...], values: dict[str, Any]) -> None:
    """Refuse what --tune would ignore, and --config without it."""
    from edgecnn.errors import InputError

    if not values["tune"]:
        if values["config"] is not None:
            raise InputError("--config is written by --tune; add it")
        return
    if len(models) > 1:
        raise InputError(f"--tune takes one model, got {len(models)}: a camera runs one")
    for name in ("threads", "plot", "baseline", "source"):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise InputError(f"--tune and --{name} exclude each other")


def _tune(model: str, values: dict[str, Any]) -> dict[str, Any]:
    from edgecnn_device.bench.tune import tune, write_pools

    found = tune(
        model,
        runs=values["runs"],
        seconds=values["seconds"],
        runtime=values["runtime"],
        seed=values["seed"],
        notice=lambda line: click.echo(f"measuring {line} ...", err=True),
    )
    if values["config"] is not None:
        write_pools(values["config"], found.chosen)
        click.echo(printable(f"{values['config']} is written"), err=True)
    return {"models": [], "tune": found.to_json()}


def _measure_models(models: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    from edgecnn_device.bench.models import Effort, bench_model, check_benchmark, ratios, read_baseline, usual_threads

    baseline = None if values["baseline"] is None else read_baseline(values["baseline"])
    effort = Effort(values["runs"], values["seconds"], values["threads"] or usual_threads())
    for model in models:
        check_benchmark(model, runtime=values["runtime"], source=values["source"])
    measured = [
        bench_model(
            model,
            effort=effort,
            runtime=values["runtime"],
            source=values["source"],
            seed=values["seed"],
            notice=lambda line: click.echo(f"measuring {line} ...", err=True),
        ).to_json()
        for model in models
    ]
    return {"models": measured} | ({} if baseline is None else {"ratios": ratios(measured, baseline)})


def _print(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(report)
        return
    for line in _tune_lines(report["tune"]) if "tune" in report else _model_lines(report):
        click.echo(line)
    for line in report["board"]["notes"]:
        click.echo(f"note: {line}")


def _tune_lines(tuning: dict[str, Any]) -> list[str]:
    lines = [
        f"threads {case['threads']:3d}, OpenCV {case['opencv_threads']:3d}: {case['frame_ms']:8.2f} ms per frame"
        for case in tuning["cases"]
    ]
    if not lines:
        lines = ["one processor: there is nothing to choose"]
    lines.append(f"chosen: --threads {tuning['chosen']['threads']} --opencv-threads {tuning['chosen']['opencv_threads']}")
    if tuning["faster_processors"]:
        numbers = ",".join(map(str, tuning["faster_processors"]))
        lines.append(f"the processors {numbers} are the faster ones of this board; taskset -c {numbers} keeps a camera on them")
    return lines


def _model_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for model in report["models"]:
        operators = model["operators"] or {}
        listed = ", ".join(f"{count} {name}" for name, count in operators.items()) or "unknown"
        lines.append(f"{model['path']}: {model['bytes']} bytes; operators: {listed}")
        if model["cases"]:
            lines += [f"  {line}" for line in aligned([_CASE_HEADS, *map(_case_row, model["cases"])])]
        lines += [f"  failed: {failure}" for failure in dict.fromkeys(model["failures"])]
    for ratio in report.get("ratios", []):
        name = ratio["runtime"] + ("" if ratio["delegate"] else " without delegate")
        stages = ", ".join(f"{stage} {ratio[stage]:.2f}" for stage in _STAGES)
        case = f"{ratio['file']} on {name}, {counted(ratio['threads'], 'thread')}"
        lines.append(f"{case}, new over old: {stages}, size {ratio['bytes']:.2f}")
    lines += _frame_lines(report)
    return [*lines, "times in ms; loop: frames per second of the camera loop; memory: MB added by loading and running"]


def _frame_lines(report: dict[str, Any]) -> list[str]:
    """Say of each model that reads digits what whole frames cost, on its first runtime."""
    lines = []
    for model in report["models"]:
        case = model["cases"][0] if model["cases"] else {}
        if case.get("frames"):
            lines.append(f"{model['path']} on {case['runtime']}, frames of digits, processor time:")
            lines += [f"  {line}" for line in aligned([_FRAME_HEADS, *map(_frame_row, case["frames"])])]
    return lines


def _frame_row(frame: dict[str, Any]) -> list[str]:
    times = [f"{frame[f'{name}_ms']:.2f}" for name in ("find", "invoke", "whole", "floor")]
    size, regions = f"{frame['width']}x{frame['height']}", str(frame["regions"])
    return [frame["scene"], size, regions, *times, f"{frame['over_floor']:.1f}", f"{frame['unchanged_ms']:.2f}"]


def _case_row(case: dict[str, Any]) -> list[str]:
    name = case["runtime"] + ("" if case["delegate"] else " without delegate")
    stages = [f"{case[stage]['p50_ms']:.3f}/{case[stage]['p95_ms']:7.3f}/{case[stage]['p99_ms']:7.3f}" for stage in _STAGES]
    start = [str(case["threads"]), f"{case['load_ms']:.1f}", f"{case['first_run_ms']:.2f}"]
    added = (case["rss_after_bytes"] - case["rss_before_bytes"]) / 1e6
    return [name, *start, *stages, f"{case['loop_fps']:.0f}", f"{added:.1f}"]
