"""The Raspberry Pi's own camera, through picamera2, which comes from apt and not from PyPI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecnn.errors import CameraError, InputError, MissingDependencyError
from edgecnn_device.frames import Image
from edgecnn_device.sources.controls import CameraControls, missing, out_of_range
from edgecnn_device.sources.process import Request

_USUAL_SIZE_WH = (640, 480)
# Lamps flicker at twice the frequency of the mains.
_FLICKER_US = {50.0: 10000, 60.0: 8333}


@dataclass(frozen=True)
class LibcameraControl:
    """One of our options as libcamera's control: how much a unit of ours is, and what switches its automatic on and off."""

    name: str
    per_unit: float = 1.0
    unit: str = ""
    is_float: bool = True
    manual: tuple[tuple[str, Any], ...] = ()
    automatic: tuple[tuple[str, Any], ...] = ()

    def switches(self, is_auto: bool) -> dict[str, Any]:
        """Return the controls that switch; a camera has those of its libcamera's version."""
        return dict(self.automatic if is_auto else self.manual)


_CONTROLS = {
    "--exposure": LibcameraControl(
        "ExposureTime", 1000.0, "ms", False, (("ExposureTimeMode", 1),), (("ExposureTimeMode", 0), ("AeEnable", True))
    ),
    "--gain": LibcameraControl(
        "AnalogueGain", 1.0, "", True, (("AnalogueGainMode", 1),), (("AnalogueGainMode", 0), ("AeEnable", True))
    ),
    "--focus": LibcameraControl("LensPosition", 1.0, "dioptres", True, (("AfMode", 0),), (("AfMode", 2),)),
    "--white-balance": LibcameraControl("ColourTemperature", 1.0, "K", False, (("AwbEnable", False),), (("AwbEnable", True),)),
    "--mains": LibcameraControl("AeFlickerPeriod", is_float=False, manual=(("AeFlickerMode", 1),)),
}
INSTALL = (
    "picamera2 is not installed. Install it with: sudo apt install python3-picamera2, "
    "and make the environment with: python3 -m venv --system-site-packages"
)


def open_csi(request: Request) -> Callable[[], Image]:
    """Start a camera (`csi`, `csi:1`, `csi:imx708`) and return the function that reads the next picture.

    Raises MissingDependencyError without picamera2, InputError for a control that the camera lacks, CameraError when there is
    no such camera.
    """
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error
    try:
        wanted = request.target.partition(":")[2]
        camera = Picamera2(choose(wanted, list_cameras(Picamera2))) if wanted else Picamera2()
        # picamera2 names formats by their place in a little-endian word: RGB888 is B, G, R in memory.
        controls = {"FrameRate": request.fps} if request.fps else {}
        if request.controls.asked():
            controls |= translate(request.controls, camera.camera_controls)
        size_wh = request.size_wh or _USUAL_SIZE_WH
        camera.configure(camera.create_video_configuration(main={"size": size_wh, "format": "RGB888"}, controls=controls))
        camera.start()
    except InputError:
        raise
    except (RuntimeError, IndexError, OSError, ValueError) as error:
        raise CameraError(f"the CSI camera cannot be started: {error}") from error

    def read() -> Image:
        return np.ascontiguousarray(camera.capture_array("main"), np.uint8)

    return read


def list_cameras(library: Any) -> list[str]:
    """Return the models of the CSI cameras by their numbers; `library` is `picamera2.Picamera2`."""
    found = sorted(library.global_camera_info(), key=lambda camera: int(camera.get("Num", 0)))
    return [str(camera.get("Model", "unknown")) for camera in found]


def choose(wanted: str, models: list[str]) -> int:
    """Return the number of the camera that a number or the name of a model means; CameraError when that is none or several."""
    wanted = wanted.strip().lower()
    there = ", ".join(f"csi:{number} ({model})" for number, model in enumerate(models)) or "none; is its cable connected?"
    if wanted.isdecimal():
        if int(wanted) >= len(models):
            raise CameraError(f"no CSI camera {wanted}; there are: {there}")
        return int(wanted)
    # A model goes by its sensor, `imx708`, of which there are variants, `imx708_wide`.
    exact = [number for number, model in enumerate(models) if model.lower() == wanted]
    found = exact or [number for number, model in enumerate(models) if model.lower().startswith(wanted)]
    if len(found) != 1:
        raise CameraError(f"{'no' if not found else 'more than one'} CSI camera {wanted!r}; there are: {there}")
    return found[0]


def translate(asked: CameraControls, limits: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return libcamera's controls for what was asked; `limits` maps those that the camera has to (least, most, default).

    Raises InputError for one that it lacks or that does not go so far. Names: libcamera, control_ids_core.yaml.
    """
    controls: dict[str, Any] = {}
    for name, value in asked.asked().items():
        mapping = _CONTROLS[name]
        if mapping.name not in limits:
            raise InputError(missing(name, describe(limits)))
        switches = {switch: state for switch, state in mapping.switches(value == "auto").items() if switch in limits}
        controls |= switches
        if value == "auto":
            if not switches:
                raise InputError(missing(f"{name} auto", describe(limits)))
            continue
        raw = _FLICKER_US[float(value)] if name == "--mains" else value * mapping.per_unit
        low, high = limits[mapping.name][:2]
        if name != "--mains" and not low <= raw <= high:
            raise InputError(out_of_range(name, value, low / mapping.per_unit, high / mapping.per_unit, mapping.unit))
        controls[mapping.name] = raw if mapping.is_float else round(raw)
    return controls


def describe(limits: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return our options that a CSI camera has, with their ranges."""
    found = []
    for name, mapping in _CONTROLS.items():
        if mapping.name in limits and name != "--mains":
            low, high = (float(limit) / mapping.per_unit for limit in limits[mapping.name][:2])
            found.append(f"{name} {low:.4g}..{high:.4g}{mapping.unit and ' ' + mapping.unit}")
    return [*found, "--mains 50|60"] if _CONTROLS["--mains"].name in limits else found
