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
from edgecnn_device import board
from edgecnn_device.clock import kernel_says, synchronisation
from edgecnn_device.sinks.reach import duration
from edgecnn_device.sources import v4l2_device
from edgecnn_device.sources.v4l2_device import Node

_MIN_FREE_BYTES = 200_000_000
_HOT_CELSIUS = 80.0
# 3.65 TB a year: a card of 32 GB would be written full more than a hundred times.
_HARD_WEAR_BYTES_A_DAY = 10e9
_STARTING_S = 6 * 3600.0  # a system that starts, or is set up, writes more than it does later


KernelSays = Callable[[], bool | None]


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


def verdict(checks: list[Check]) -> str:
    """Return in one line whether a camera can run here, and what keeps it from it or may."""
    failed = [check.name for check in checks if check.status == "fail"]
    warned = [check.name for check in checks if check.status == "warn"]
    if failed:
        return f"not ready: {', '.join(failed)}" + (f"; warnings: {', '.join(warned)}" if warned else "")
    return f"ready, with warnings: {', '.join(warned)}" if warned else "ready"


def check_python() -> Check:
    """Report Python and the processor."""
    where = "in a virtual environment" if sys.prefix != sys.base_prefix else "outside of any virtual environment"
    return Check("python", "ok", f"{platform.python_version()} on {platform.machine()}, {where}")


def check_package(name: str) -> Check:
    """Report the version of an installed package; another build of OpenCV will do."""
    if name.startswith("opencv") and (warning := warn_of_opencv()):
        return Check(name, "warn", warning)
    candidates = ("opencv-python-headless", "opencv-python", "opencv-contrib-python") if name.startswith("opencv") else (name,)
    for candidate in candidates:
        try:
            return Check(name, "ok", f"{candidate} {importlib.metadata.version(candidate)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if name.startswith("opencv") and importlib.util.find_spec("cv2") is not None:
        import cv2

        return Check(name, "ok", f"OpenCV {cv2.__version__} from the system")
    return Check(name, "fail", f"not installed; pip install {name}")


def warn_of_opencv() -> str:
    """Say that this OpenCV cannot decode interlaced video, or return an empty text."""
    if importlib.util.find_spec("cv2") is None:
        return ""
    import cv2

    from edgecnn_device.sources import decoder_log

    if decoder_log.converts_interlaced():
        return ""
    return (
        f"OpenCV {cv2.__version__} returns interlaced video as black or old pictures, which is refused here; "
        f"pip install {decoder_log.REQUIREMENT}"
    )


def check_runtime() -> Check:
    """Report the first runtime whose interpreter can be imported."""
    from edgecnn.runtimes.select import TFLITE_RUNTIMES

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
    """Report the V4L2 cameras with their formats and controls, the other video devices, and the CSI cameras."""
    devices = sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    nodes = {str(path): identify_node(path, root) for path in devices}
    cameras = [path for path, node in nodes.items() if node.kind == "camera"]
    if not cameras:
        yield Check("cameras", "warn", "no /dev/video* is a camera: is a USB camera plugged in?")
    for path in cameras:
        yield check_v4l2(path, nodes[path].name)
    others = [f"{path} {node.name} ({node.kind})" for path, node in nodes.items() if node.kind != "camera"]
    if others:
        yield Check("video devices", "ok", f"no cameras: {', '.join(others)}")
    if importlib.util.find_spec("picamera2") is not None:
        yield check_csi()
    elif is_raspberry_pi(root):
        from edgecnn_device.sources.csi import INSTALL

        yield Check("csi", "warn", INSTALL)


def identify_node(path: Path, root: Path) -> Node:
    """Return what a device is, as it says itself or, where it cannot be asked, as its name in /sys lets guess."""
    name_file = root / "sys/class/video4linux" / path.name / "name"
    name = name_file.read_text(errors="replace").strip() if name_file.exists() else "unnamed"
    found = v4l2_device.identify(str(path))
    return found if found is not None else Node(name, name, v4l2_device.kind_by_name(name))


def check_v4l2(device: str, name: str) -> Check:
    """Report what a camera can do."""
    if not os.access(device, os.R_OK | os.W_OK):
        return Check(device, "fail", f"{name}: no permission; sudo usermod -aG video $USER, then log in again")
    controls = v4l2_device.describe_controls(device)
    return Check(device, "ok", f"{name}: {formats(device)}" + (f"; {', '.join(controls)}" if controls else ""))


def check_csi() -> Check:
    """Report the CSI cameras with their controls, as picamera2 tells them."""
    from edgecnn_device.sources import csi

    try:
        from picamera2 import Picamera2

        found = []
        for number, model in enumerate(csi.list_cameras(Picamera2)):
            with Picamera2(number) as camera:
                found.append(f"csi:{number} {model}: {', '.join(csi.describe(camera.camera_controls))}")
    except Exception as error:  # whatever a camera's library raises, this command only reports it
        return Check("csi", "warn", f"picamera2 is installed, but cannot list its cameras: {error or type(error).__name__}")
    return Check("csi", "ok", "; ".join(found) or "picamera2 is installed, but there is no camera")


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
        return Check("temperature", "ok", "not available on this machine")
    if celsius >= _HOT_CELSIUS:
        return Check("temperature", "warn", f"{celsius:.0f} C; a Pi throttles above 80 C: add a heat sink or a fan")
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
    advice = "" if status == "ok" else "; lower --log-max-mb and --keep-mb"
    return Check("disk", status, f"{free / 1e6:.0f} MB free at {folder}{advice}")


def check_wear(root: Path = Path("/")) -> Check:
    """Report how many bytes a day are written to each disk or card, by everything that runs here."""
    written, uptime_s = board.disk_written_bytes(root), board.uptime_s(root)
    if not written or not uptime_s:
        return Check("wear", "ok", "not available on this machine")
    a_day = {disk: count * 86400 / uptime_s for disk, count in written.items()}
    rates = ", ".join(f"{disk} {rate / 1e9:.3g} GB a day" for disk, rate in a_day.items())
    hard = uptime_s >= _STARTING_S and max(a_day.values()) >= _HARD_WEAR_BYTES_A_DAY
    advice = "; a card wears out: camera --write changes, no --video, or another disk" if hard else ""
    return Check("wear", "warn" if hard else "ok", f"written since boot, {duration(uptime_s)} ago: {rates}{advice}")


def check_clock(
    now: Callable[[], float] = time.time, ask: Callable[[list[str]], str] = board.output, kernel: KernelSays = kernel_says
) -> Check:
    """Report the time and whether the system holds it for right; a Pi without network begins in the past."""
    stamp = datetime.fromtimestamp(now()).astimezone().isoformat(timespec="seconds")
    built_s = Path(__file__).stat().st_mtime
    if now() < built_s - 86400:
        return Check("clock", "warn", f"{stamp} is before this software was installed; wait for NTP (timedatectl)")
    match synchronisation(ask, kernel):
        case ("yes", who):
            return Check("clock", "ok", f"{stamp}, synchronised as {who} says")
        case ("no", who):
            advice = "captured_at may be wrong; sudo timedatectl set-ntp true, and a network"
            return Check("clock", "warn", f"{stamp}, not synchronised as {who} says: {advice}")
        case _:
            return Check("clock", "ok", f"{stamp}; no service here reports whether it is synchronised")


def check_secrets(config: Path) -> Iterator[Check]:
    """Report the files with secrets that a camera's configuration names, itself among them, that everybody can read."""
    from edgecnn.addresses import holds_secret
    from edgecnn.files import exists
    from edgecnn_device.config import read_values
    from edgecnn_device.secret_files import OPTIONS, exposure

    try:
        values = read_values(config)
    except EdgecnnError as error:
        yield Check("configuration", "fail", str(error))
        return
    files = [Path(str(values[name])) for name in OPTIONS if name in values]
    files += [config] if holds_secret(str(values.get("source", ""))) else []
    warnings = [line for file in files if (line := exposure(file))]
    warnings += [f"{file}, which {config} names, cannot be looked at from {Path.cwd()}" for file in files if not exists(file)]
    for line in warnings:
        yield Check("secrets", "warn", line)
    if not warnings:
        yield Check("secrets", "ok", f"{config}: no secret file is readable by everybody")


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
