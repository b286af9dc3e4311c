"""What a board says about its own health: temperature, clock, what wears its disks, and a Raspberry Pi's throttle flags."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "os.adoc"): now, and since boot 16 bits higher.
_THROTTLED = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
THROTTLE_WORDS = tuple(_THROTTLED.values())
_BUSY = 1.2
_WRITTEN_SECTORS = 6


@dataclass(frozen=True)
class Throttling:
    """What slows a Raspberry Pi down right now, and what has since it was started."""

    now: tuple[str, ...]
    since_boot: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """One look at the board; None where the machine does not tell."""

    celsius: float | None
    clock_mhz: float | None
    throttling: Throttling | None


def look(root: Path = Path("/"), ask: Callable[[], str] | None = None) -> Board:
    """Look at the board; `root` is where /sys lies, `ask` gives the text of `vcgencmd get_throttled`."""
    clock_khz = _read_number(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return Board(celsius(root), None if clock_khz is None else clock_khz / 1000, throttling(ask))


def celsius(root: Path = Path("/")) -> float | None:
    """Return the temperature of the processor, None where the machine does not tell."""
    millidegrees = _read_number(root / "sys/class/thermal/thermal_zone0/temp")
    return None if millidegrees is None else millidegrees / 1000


def throttling(ask: Callable[[], str] | None = None, root: Path = Path("/")) -> Throttling | None:
    """Return the throttle flags, None when this is no Raspberry Pi.

    `ask` gives the text of `vcgencmd get_throttled`; without it they are read below `root`/sys, or that command is asked.
    """
    text = ask() if ask else _firmware_flags(root) or output(["vcgencmd", "get_throttled"])
    try:
        flags = int(text.strip().rpartition("=")[2], 16)
    except ValueError:
        return None
    now = tuple(word for bit, word in _THROTTLED.items() if flags >> bit & 1)
    return Throttling(now, tuple(word for bit, word in _THROTTLED.items() if flags >> (bit + 16) & 1))


def disk_written_bytes(root: Path = Path("/")) -> dict[str, int]:
    """Return the bytes written to each disk or card since boot.

    Form: Linux, Documentation/block/stat.rst; the seventh number counts sectors of 512 bytes, whatever the disk's own are.
    """
    written = {}
    for disk in sorted((root / "sys/block").glob("*")):
        fields = _read_text(disk / "stat").split()
        if (disk / "device").exists() and len(fields) > _WRITTEN_SECTORS:  # not memory that behaves like a disk
            written[disk.name] = 512 * int(fields[_WRITTEN_SECTORS])
    return written


def own_written_bytes(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process has caused to be written to disks, None where the system does not tell."""
    lines = _read_text(root / "proc/self/io").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), None)


def uptime_s(root: Path = Path("/")) -> float | None:
    """Return the seconds since boot, None where the system does not tell."""
    fields = _read_text(root / "proc/uptime").split()
    return float(fields[0]) if fields else None


def _firmware_flags(root: Path) -> str:
    return next((_read_text(path) for path in (root / "sys/devices/platform").glob("soc*/soc*firmware/get_throttled")), "")


def slowed_down(before: Board, after: Board) -> str:
    """Say in a sentence that the board slowed down between two looks, or return an empty text."""
    flags = after.throttling
    if flags is None:
        return ""
    during = [word for word in flags.now if before.throttling is None or word not in before.throttling.now]
    if flags.now:
        return f"the board is slowed down: {', '.join(flags.now)}" + (" (began during the run)" if during else "")
    new = [word for word in flags.since_boot if before.throttling is not None and word not in before.throttling.since_boot]
    return f"the board was slowed down during the run: {', '.join(new)}" if new else ""


def identity(root: Path = Path("/")) -> str:
    """Return what tells this board from all others, the same at every start.

    A copied card brings /etc/machine-id along, and boards of one make differ by nothing but the serial number of their
    processor; one that has none differs by the burned-in address of its first network interface.
    """
    machine = _read_text(root / "etc/machine-id").strip()
    return "\n".join([machine, _serial_number(root) or _hardware_address(root)])


def _serial_number(root: Path) -> str:
    serial = _read_text(root / "proc/device-tree/serial-number").strip("\0\n ")
    if not serial:
        lines = _read_text(root / "proc/cpuinfo").splitlines()
        serial = next((line.partition(":")[2].strip() for line in lines if line.startswith("Serial")), "")
    return serial if serial.strip("0") else ""


def _hardware_address(root: Path) -> str:
    for interface in sorted((root / "sys/class/net").glob("*")):
        burned_in = _read_text(interface / "addr_assign_type").strip() == "0"
        address = _read_text(interface / "address").strip()
        if burned_in and address.strip("0:") and (interface / "device").exists():
            return address
    return ""


def output(command: list[str]) -> str:
    """Return what a command prints, an empty text when it is not there or does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _read_number(path: Path) -> int | None:
    text = _read_text(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def describe() -> str:
    """Return the processor, how many of them this process may use, the system and Python in one line."""
    allowed = len(os.sched_getaffinity(0))
    return f"{_processor()}, {allowed} processors, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def to_json(before: Board, after: Board) -> dict[str, Any]:
    """Return two looks and, as `notes`, what they say about the figures measured between them."""
    busy = os.getloadavg()[0] / len(os.sched_getaffinity(0))
    notes = [note] if (note := slowed_down(before, after)) else []
    if busy > _BUSY:
        notes.append(f"the machine was busy (load {busy:.1f} per processor): believe ratios of one run, not milliseconds")
    return {"before": asdict(before), "after": asdict(after), "notes": notes}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return named[0] if named else platform.processor() or "unknown processor"
