"""What a board has and what it lacks: one check a thing, each with a way out."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from edgecnn.artifacts import Artifact
from edgecnn.errors import EdgecnnError
from edgecnn_device.benchmarking import board
from edgecnn_device.sinks.reach import duration

_MIN_FREE_BYTES = 200_000_000
_HOT_CELSIUS = 80.0
# 3.65 TB a year: a card of 32 GB would be written full more than a hundred times.
_HARD_WEAR_BYTES_A_DAY = 10e9
_STARTING_S = 6 * 3600.0  # a system that starts, or is set up, writes more than it does later


@dataclass(frozen=True)
class Check:
    """One finding: `warn` still runs, `fail` does not."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str


def examine(models: list[str], root: Path = Path("/"), *, config: Path | None = None) -> Iterator[Check]:
    """Yield the findings about this machine, about `models` (paths or task names) and about a camera's `config`.

    `root` is where /sys and /dev lie.
    """
    yield check_python()
    for package in ("numpy", "opencv-python-headless", "click"):
        yield check_package(package)
    yield check_runtime()
    yield from check_cameras(root)
    yield check_temperature(root)
    yield check_throttling()
    yield check_disk(Path.cwd())
    yield check_wear(root)
    yield check_clock()
    if config is not None:
        yield from check_secrets(config)
    for model in models:
        yield check_model(model)


def check_python() -> Check:
    """Report Python and the processor."""
    where = "in a virtual environment" if sys.prefix != sys.base_prefix else "outside of any virtual environment"
    return Check("python", "ok", f"{platform.python_version()} on {platform.machine()}, {where}")


def check_package(name: str) -> Check:
    """Report the version of an installed package; another build of OpenCV will do."""
    candidates = ("opencv-python-headless", "opencv-python", "opencv-contrib-python") if name.startswith("opencv") else (name,)
    for candidate in candidates:
        try:
            return Check(name, "ok", f"{candidate} {importlib.metadata.version(candidate)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if name.startswith("opencv") and importlib.util.find_spec("cv2") is not None:
        import cv2

        return Check(name, "ok", f"OpenCV {cv2.__version__} of the system")
    return Check(name, "fail", f"not installed; pip install {name}")


def check_runtime() -> Check:
    """Report the first runtime whose interpreter can be imported."""
    from edgecnn.runtimes.opening import TFLITE_RUNTIMES

    for module, _ in TFLITE_RUNTIMES.values():
        if module.endswith(".tensorflow"):
            continue  # never on a board
        try:
            found = importlib.import_module(module)
        except (ImportError, SystemError):
            continue
        return Check("runtime", "ok", f"{found.NAME} on {os.cpu_count()} processors")
    return Check("runtime", "fail", "no TFLite runtime; pip install ai-edge-litert")


def check_cameras(root: Path = Path("/")) -> Iterator[Check]:
    """Report the V4L2 devices with their formats, and the CSI camera's library."""
    devices = sorted(str(path) for path in (root / "dev").glob("video*"))
    if not devices:
        yield Check("cameras", "warn", "no /dev/video*: no USB camera is plugged in")
    for device in devices:
        name_file = root / "sys/class/video4linux" / Path(device).name / "name"
        name = name_file.read_text().strip() if name_file.exists() else "unnamed"
        if not os.access(device, os.R_OK | os.W_OK):
            yield Check(device, "fail", f"{name}: no permission; sudo usermod -aG video $USER, then log in anew")
            continue
        yield Check(device, "ok", f"{name}: {formats(device)}")
    if importlib.util.find_spec("picamera2") is not None:
        yield Check("csi", "ok", "picamera2 is there")
    elif is_raspberry_pi(root):
        from edgecnn_device.sources.csi import INSTALL

        yield Check("csi", "warn", INSTALL)


def formats(device: str, ask: Callable[[str], str] | None = None) -> str:
    """Return the picture formats of a device in words; `ask` gives the text of `v4l2-ctl --list-formats-ext`."""
    text = (ask or _ask_v4l2)(device)
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if line.strip().startswith("[") and "'" in line:
            found.append(line.split("'")[1])
        elif words[:2] == ["Size:", "Discrete"] and found:
            found[-1] += f" {words[2]}"
    return "; ".join(found) if found else "formats unknown (sudo apt install v4l-utils shows them)"


def _ask_v4l2(device: str) -> str:
    return board.output(["v4l2-ctl", "--device", device, "--list-formats-ext"])


def check_temperature(root: Path = Path("/")) -> Check:
    """Report the temperature of the processor."""
    celsius = board.celsius(root)
    if celsius is None:
        return Check("temperature", "ok", "this machine does not tell")
    if celsius >= _HOT_CELSIUS:
        return Check("temperature", "warn", f"{celsius:.0f} C; a Pi slows down from 80 C on: give it a heat sink or air")
    return Check("temperature", "ok", f"{celsius:.0f} C")


def check_throttling(ask: Callable[[], str] | None = None) -> Check:
    """Report the throttle flags of a Raspberry Pi; `ask` gives the text of `vcgencmd get_throttled`."""
    flags = board.throttling(ask)
    if flags is None:
        return Check("throttling", "ok", "not a Raspberry Pi, or no vcgencmd")
    if flags.now:
        return Check("throttling", "warn", f"{', '.join(flags.now)} right now; check power supply, cable and cooling")
    if flags.since_boot:
        return Check("throttling", "warn", f"{', '.join(flags.since_boot)} since boot; check power supply, cable and cooling")
    return Check("throttling", "ok", "never since boot")


def check_disk(folder: Path) -> Check:
    """Report the free space of the file system that `folder` lies on."""
    free = shutil.disk_usage(folder).free
    status: Literal["ok", "warn"] = "ok" if free >= _MIN_FREE_BYTES else "warn"
    advice = "" if status == "ok" else "; lower --rotate-mb and --keep-mb"
    return Check("disk", status, f"{free / 1e6:.0f} MB free at {folder}{advice}")


def check_wear(root: Path = Path("/")) -> Check:
    """Report how many bytes a day are written to each disk or card, by everything that runs here."""
    written, uptime_s = board.disk_written_bytes(root), board.uptime_s(root)
    if not written or not uptime_s:
        return Check("wear", "ok", "this machine does not tell what is written to its disks")
    a_day = {disk: count * 86400 / uptime_s for disk, count in written.items()}
    rates = ", ".join(f"{disk} {rate / 1e9:.3g} GB a day" for disk, rate in a_day.items())
    hard = uptime_s >= _STARTING_S and max(a_day.values()) >= _HARD_WEAR_BYTES_A_DAY
    advice = "; a card wears out: camera --write changes, no --video, or another disk" if hard else ""
    return Check("wear", "warn" if hard else "ok", f"written since boot, {duration(uptime_s)} ago: {rates}{advice}")


def check_clock(now: Callable[[], float] = time.time) -> Check:
    """Report the time; a Pi without network begins in the past, and captured_at would be wrong."""
    stamp = datetime.fromtimestamp(now()).astimezone().isoformat(timespec="seconds")
    built_s = Path(__file__).stat().st_mtime
    if now() < built_s - 86400:
        return Check("clock", "warn", f"{stamp} lies before this software was installed; wait for NTP (timedatectl)")
    return Check("clock", "ok", stamp)


def check_secrets(config: Path) -> Iterator[Check]:
    """Report the files with secrets that a camera's configuration names, itself among them, that everybody can read."""
    from edgecnn.addresses import holds_secret
    from edgecnn_device.config import read_values
    from edgecnn_device.secret_files import OPTIONS, exposure

    try:
        values = read_values(config)
    except EdgecnnError as error:
        yield Check("configuration", "fail", str(error))
        return
    files = [Path(str(values[name])) for name in OPTIONS if name in values]
    files += [config] if holds_secret(str(values.get("source", ""))) else []
    exposed = [line for file in files if (line := exposure(file))]
    for line in exposed:
        yield Check("secrets", "warn", line)
    if not exposed:
        yield Check("secrets", "ok", f"{config}: no file with a secret that everybody can read")


def check_model(model: str) -> Check:
    """Open a model and replay its golden vectors."""
    from edgecnn_device.model import ModelOptions, open_model

    try:
        opened = open_model(ModelOptions(model))
    except EdgecnnError as error:
        return Check(f"model {model}", "fail", str(error))
    contract = opened.artifact.contract
    return Check(
        f"model {model}",
        "ok",
        f"{opened.artifact.path.name} verified on {opened.classifier.runtime.name} ({delegate(opened.artifact)}), "
        f"parity {contract.parity.verdict}",
    )


def delegate(artifact: Artifact) -> str:
    """Say whether a delegate (XNNPACK) runs a `.tflite`, or the slow built-in kernels; nothing is known of others."""
    if artifact.format != "tflite":
        return "its own kernels"
    try:
        from edgecnn.runtimes.litert import open_interpreter
    except ImportError:
        return "delegate unknown"
    interpreter = open_interpreter(artifact.model, 1)
    interpreter.allocate_tensors()
    # The only way to ask: a delegate stands in the plan as an operator of this name.
    operators = {details["op_name"] for details in interpreter._get_ops_details()}
    return "XNNPACK delegate" if "DELEGATE" in operators else "no delegate: built-in kernels"


def is_raspberry_pi(root: Path = Path("/")) -> bool:
    """Say whether the device tree names a Raspberry Pi."""
    model = root / "proc/device-tree/model"
    return model.exists() and "Raspberry Pi" in model.read_text(errors="replace")
