"""What can be set at a camera itself: exposure, gain, focus, white balance, and the frequency of the mains."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from edgecnn.quick_dataclass import dataclass

Setting = float | Literal["auto"] | None


@dataclass(frozen=True)
class CameraControls:
    """What to set; None leaves a control as it is, `auto` gives it to the camera's own automatic.

    `exposure` is in milliseconds and `white_balance` in kelvin. `gain` and `focus` are factor and dioptres for CSI cameras, and
    in the camera's own units for V4L2. `mains` is 50 or 60 Hz: automatic exposure then takes times in which lamps do not
    flicker.
    """

    exposure: Setting = None
    gain: Setting = None
    focus: Setting = None
    white_balance: Setting = None
    mains: float | None = None

    def asked(self) -> dict[str, float | Literal["auto"]]:
        """Return what is to be set by the name of its option."""
        return {option(name): value for name, value in asdict(self).items() if value is not None}


NO_CONTROLS = CameraControls()


def option(name: str) -> str:
    """Return the name of the option for a field."""
    return "--" + name.replace("_", "-")


def out_of_range(name: str, value: float, low: float, high: float, unit: str = "") -> str:
    """Say that a camera does not go so far."""
    return f"{name} {value:g}: this camera takes {low:g} to {high:g}{unit and ' ' + unit}"


def missing(name: str, there: list[str]) -> str:
    """Say that a camera lacks a control, and what it has."""
    return f"this camera has no control for {name}; it has {', '.join(there) or 'none of these controls'}"
