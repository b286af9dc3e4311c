"""`edgecnn bench`: how fast models and the camera loop are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecnn.cli.options import RUNTIME_NAMES, THREADS, Count, Number, json_option, seed_option
from edgecnn.text import json_text

_FILE = click.Path(path_type=Path)
_STAGES = ("preprocess", "invoke", "whole")


@click.command(short_help="Measure latency, memory and size of models, and the cost of the camera loop.")
@click.argument("models", metavar="FILE|TASK...", nargs=-1, required=True)
@click.option("--loop", "whole_loop", is_flag=True, help="Measure the camera loop beside the bare script instead.")
@click.option("--runtime", type=click.Choice(RUNTIME_NAMES), help="Only this runtime. Default: each one that is installed.")
@click.option("--threads", type=THREADS, multiple=True, help="Number of threads; repeatable. Default: 1 to all processors.")
@click.option("--runs", type=Count(1, 10**6), default=200, show_default=True, help="Runs of each case ...")
@click.option("--seconds", type=Number(0.01, 3600), default=2.0, show_default=True, help="... or as many as fit in this.")
@click.option("--source", help="Pictures to measure with: a video, a picture or a folder. Default: generated ones.")
@click.option("--plot", type=_FILE, help="Draw the latencies as a PNG.")
@click.option("--baseline", type=_FILE, help="JSON of an earlier run: print ratios, new over old.")
@seed_option
@json_option
def bench(models: tuple[str, ...], whole_loop: bool, as_json: bool, **values: Any) -> None:
    """Measure exported models (or the shipped int8 model of a task) on every runtime and delegate that is installed.

    Each case runs in a process of its own: import and loading, the first run, preprocessing, inference and the whole path,
    memory before and after. With --loop: the whole camera loop beside the bare script, what each sink, more tiles and viewers
    of the page cost, and the start.
    """
    from edgecnn_device import board

    if whole_loop:
        _refuse_for_loop(models, values)
    before = board.look()
    report = _measure_loop(models[0], values["seed"]) if whole_loop else _measure_models(models, values)
    after = board.look()
    report |= {"machine": board.describe(), "board": board.to_json(before, after)}
    if values["plot"] is not None:
        from edgecnn_export.plots.latency import draw_latencies

        draw_latencies(report["models"], values["plot"])
    _print(report, as_json)


def _refuse_for_loop(models: tuple[str, ...], values: dict[str, Any]) -> None:
    from edgecnn.errors import InputError

    idle = [f"--{name}" for name in ("runtime", "threads", "source", "plot", "baseline") if values[name]]
    if len(models) > 1 or idle:
        raise InputError(f"--loop measures one model and takes no {', '.join(idle) or 'second model'}")


def _measure_loop(model: str, seed: int) -> dict[str, Any]:
    from benchmarks.loop_costs import bench_loop

    return bench_loop(model, seed=seed, notice=lambda line: click.echo(f"measuring {line} ...", err=True))


def _measure_models(models: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    from edgecnn_device.bench.models import Effort, bench_model, ratios, read_baseline, usual_threads

    baseline = None if values["baseline"] is None else read_baseline(values["baseline"])
    effort = Effort(values["runs"], values["seconds"], values["threads"] or usual_threads())
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
        click.echo(json_text(report))
        return
    for line in _loop_lines(report) if "loop_ratio" in report else _model_lines(report):
        click.echo(line)
    for line in report["board"]["notes"]:
        click.echo(f"note: {line}")


def _model_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for model in report["models"]:
        operators = model["operators"] or {}
        listed = ", ".join(f"{count} {name}" for name, count in operators.items()) or "unknown"
        lines.append(f"{model['path']}: {model['bytes']} bytes; operators: {listed}")
        lines.append(
            f"  {'runtime':<34} threads   load  first  {'preprocess p50/p95/p99':>23}  {'invoke':>23}  {'whole':>23}  memory"
        )
        lines += [f"  {_case_line(case)}" for case in model["cases"]]
        lines += [f"  failed: {failure}" for failure in model["failures"]]
    for ratio in report.get("ratios", []):
        name = ratio["runtime"] + ("" if ratio["delegate"] else " without delegate")
        stages = ", ".join(f"{stage} {ratio[stage]:.2f}" for stage in _STAGES)
        lines.append(
            f"{ratio['file']} on {name}, {ratio['threads']} threads, new over old: {stages}, size {ratio['bytes']:.2f}"
        )
    return [*lines, "times in ms; memory: MB that loading and running added"]


def _case_line(case: dict[str, Any]) -> str:
    name = case["runtime"] + ("" if case["delegate"] else " without delegate")
    stages = "  ".join(
        f"{case[stage]['p50_ms']:7.3f}/{case[stage]['p95_ms']:7.3f}/{case[stage]['p99_ms']:7.3f}" for stage in _STAGES
    )
    added = (case["rss_after_bytes"] - case["rss_before_bytes"]) / 1e6
    return f"{name:<34} {case['threads']:7d} {case['load_ms']:6.1f} {case['first_run_ms']:6.2f}  {stages}  {added:6.1f}"


def _loop_lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['model']}, 640x480"]
    for name in ("comparison", "one_processor"):
        found = report[name]
        lines.append(
            f"loop {found['loop']['wall_ms']:.3f} ms a frame, bare script {found['bare']['wall_ms']:.3f} ms on "
            f"{'all' if name == 'comparison' else 'one'} of the processors: ratio {found['loop_ratio']:.2f} "
            f"(of processor time {found['cpu_ratio']:.2f}; above 1 the loop is faster)"
        )
    start = report["start"]
    lines.append(
        f"first answer after {start['camera_first_answer_ms']:.0f} ms, bare {start['bare_first_answer_ms']:.0f} ms: ratio "
        f"{start['start_ratio']:.2f}; peak memory {start['camera_peak_rss_bytes'] / 1e6:.0f} MB, bare "
        f"{start['bare_peak_rss_bytes'] / 1e6:.0f} MB: ratio {start['rss_ratio']:.2f}"
    )
    sinks = {name: pace["cpu_ms"] for name, pace in report["sinks"].items()}
    lines.append(f"without a sink {sinks.pop('none'):.3f} ms of processor time a frame; each sink adds:")
    lines += [f"  {name:<9} {ms:+.3f} ms" for name, ms in sinks.items()]
    lines.append("tiles: " + ", ".join(f"{count} {pace['cpu_ms']:.2f} ms" for count, pace in report["tiles"].items()))
    lines.append("a live camera at 30 frames a second with its page:")
    lines += [
        f"  {row['viewers']:2d} viewers: {row['cpu_percent']:5.1f} % of a processor, {row['fps']:.1f} frames a second, "
        f"age p95 {row['age_p95_ms']:.1f} ms, publish p50 {row['publish_p50_ms']:.3f} p95 {row['publish_p95_ms']:.3f} ms"
        for row in report["viewers"]
    ]
    return lines
