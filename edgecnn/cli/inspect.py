"""`edgecnn inspect`: what an exported file promises and what is in it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import echo_json, json_option
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.artifacts import Artifact, Contract
    from edgecnn.artifacts.operators import Graph


@click.command(short_help="Show an exported file's contract, tensors, operators and sizes.")
@click.argument("file", metavar="FILE|TASK")
@json_option
def inspect(file: str, as_json: bool) -> None:
    """Show the contract inside an exported file, its tensors, its operators and its sizes; the file is checked first."""
    from edgecnn.artifacts import Artifact
    from edgecnn.classifier import artifact_path

    artifact = Artifact.open(artifact_path(file))
    graph, remark = _graph(artifact)
    if as_json:
        echo_json(_as_json(artifact, graph))
    else:
        for name, value in [*_contract_rows(artifact.contract), *_file_rows(artifact, graph, remark)]:
            click.echo(printable(f"{name:<18}{value}"))


def _graph(artifact: Artifact) -> tuple[Graph | None, str]:
    from edgecnn.errors import MissingDependencyError
    from edgecnn.runtimes.probe import describe

    try:
        return describe(artifact), ""
    except MissingDependencyError as error:  # the contract is worth showing without the operators
        return None, str(error)


def _threshold(contract: Contract) -> str:
    from edgecnn.classifier import NO_THRESHOLDS

    if contract.good_parts is not None:
        return f"novel above a distance of {contract.good_parts.novel_above:.3g}: {contract.good_parts.describe()}"
    if contract.evidence is not None:
        found = contract.evidence
        return f"unsure below {found.unsure_below:.3f}, novel above {found.novel_above:.3f}: {found.describe()}"
    if contract.reject_threshold is None:
        return f"NONE: {NO_THRESHOLDS}"
    if contract.rejection is None:
        return f"{contract.reject_threshold:.3f}"
    kept, accepted = contract.rejection.kept, contract.rejection.false_accepts
    shares = f"keeps {kept:.1%} of validation, accepts {accepted:.1%} of out-of-distribution pictures"
    return f"{contract.reject_threshold:.3f}: {shares}"


def _features(contract: Contract) -> str:
    """Say what the second output is, or that there is none, and what that costs."""
    if contract.features is None:
        return "none: without a dense layer and a softmax at its end, no picture can be judged novel and no answer located"
    if contract.head is None:
        return f"{_tensor(contract.features)}; the dense layer behind them is too large to be carried: nothing is made of them"
    what = "probabilities are" if contract.good_parts is None else "likeness to good parts is"
    return f"{_tensor(contract.features)}, of which the {what} computed"


def _contract_rows(contract: Contract) -> list[tuple[str, str]]:
    parity, fitted = contract.parity, contract.preprocessing
    rows = [
        ("task", f"{contract.task}: {contract.title}"),
        ("labels", ", ".join(f"{i} {label}" for i, label in enumerate(contract.labels))),
        ("model", f"{contract.model}, {contract.parameters:,} parameters, {contract.precision}"),
        ("input", f"{_tensor(contract.input)}; any picture -> {fitted.height} x {fitted.width} {fitted.color} by {fitted.fit}"),
        ("output", f"{_tensor(contract.output)} -> {'probabilities' if contract.good_parts is None else 'not read'}"),
        ("features", _features(contract)),
        ("reject threshold", _threshold(contract)),
        ("made with", ", ".join(f"{name} {version}" for name, version in contract.versions.items())),
        ("training data", _data(contract.training_data)),
    ]
    if (origin := contract.pretrained) is not None:
        rows.append(("pretrained", f"{origin.name} on {origin.trained_on}, {origin.license}, {origin.source}"))
    if contract.calibration is not None:
        calibration = contract.calibration
        rows.append(("calibration", f"{calibration.method}, seed {calibration.seed}, {_data(calibration.data)}"))
    if contract.float_layers:
        rows.append(("in floats", ", ".join(contract.float_layers)))
    if contract.repair is not None:
        floats = f"; in floats: {', '.join(contract.repair.float_layers)}" if contract.repair.float_layers else ""
        rows.append(("repair", f"{contract.repair.technique}, the last of {len(contract.repair.tried)} tried{floats}"))
    rows.append(("drift", "NOT NOTICED: no baseline" if contract.drift is None else f"by {contract.drift.describe()}"))
    for each in contract.taught:
        rows.append(("taught", f"{each.label} at {each.at} by {len(each.pictures)} pictures, without training"))
    rows.append(("parity", parity.verdict if parity.data is None else f"{parity.verdict} on {_data(parity.data)}"))
    least = min((each for each in (parity.drop_bound, parity.margin_bound) if each is not None), default=0.0)
    if parity.verdict == "pass" and parity.max_drop is not None and least > parity.max_drop:  # so few pass by equality alone
        rows.append(("", "every answer is that of the reference, but for the rounding of probabilities"))
    elif parity.drop is not None and parity.drop_bound is not None and parity.confidence is not None:
        sharper = "" if parity.margin_bound is None else f" ({parity.margin_bound:.2f} by margins)"
        bound = f"at most {parity.drop_bound:.2f}{sharper} at {parity.confidence:.0%} confidence"
        rows.append(("", f"drop {parity.drop:.2f} points, {bound}; allowed {parity.max_drop}"))
    rows.append(("golden vectors", f"{len(contract.golden.seeds)}, tolerance {contract.golden.tolerance:.2g}"))
    rows.append(("export", contract.export_id))
    return rows


def _file_rows(artifact: Artifact, graph: Graph | None, remark: str) -> list[tuple[str, str]]:
    rows = [
        ("file", f"{artifact.path}, {artifact.path.stat().st_size:,} bytes, of these {len(artifact.model):,} the model"),
        ("SHA-256", f"{artifact.contract.model_sha256} (model, checked)"),
    ]
    if graph is None:
        return [*rows, ("operators", remark)]
    rows.append(("operators", ", ".join(f"{count} {name}" for name, count in graph.counts().items())))
    floating = graph.float_operators()
    rows.append(("", "all integer" if not floating else f"{len(floating)} of {len(graph.operators)} in floating point"))
    rows.append(("weights", ", ".join(f"{size:,} bytes {dtype}" for dtype, size in graph.constant_bytes.items())))
    return rows


def _tensor(spec: Any) -> str:
    shape = ", ".join("n" if side is None else str(side) for side in spec.shape)
    quantization = "" if spec.scale is None else f", scale {spec.scale:g}, zero point {spec.zero_point}"
    return f"{spec.name} ({shape}) {spec.dtype}{quantization}"


def _data(data: Any) -> str:
    if data is None:
        return "unknown"
    synthetic = "SYNTHETIC " if data.synthetic else ""
    unlabelled = "" if data.labelled else "unlabelled "
    return f"{data.count} {synthetic}{unlabelled}pictures of {data.source}, {data.split} split (SHA-256 {data.digest[:12]})"


def _as_json(artifact: Artifact, graph: Graph | None) -> dict[str, Any]:
    contract = dataclasses.asdict(artifact.contract)
    for who in ("reference", "artifact"):
        answers = contract["golden"][who]
        contract["golden"][who] = [dict(zip(artifact.contract.labels, row, strict=True)) for row in answers]
    value: dict[str, Any] = {
        "file": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "model_bytes": len(artifact.model),
        "contract": contract,
    }
    if graph is not None:
        value["operators"] = graph.counts()
        value["float_operators"] = [operator.name for operator in graph.float_operators()]
        value["weights_bytes"] = graph.constant_bytes
    return value
