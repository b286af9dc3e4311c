"""How much memory this process may have: that of the machine, or less where a service or a container has a limit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from edgecnn.numbers import whole_number

_MOST = 2**63
_UNKNOWN_BYTES = 2**30  # a machine that does not tell is taken for a small one


@lru_cache(maxsize=4)
def limit_bytes(root: Path = Path("/")) -> int:
    """Return the least of the machine's memory and the limits of the control groups that this process is in.

    `root` is where /proc and /sys lie.
    """
    return min((limit for limit in (*_machine(root), *_groups(root)) if limit), default=_UNKNOWN_BYTES)


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemTotal:"):
            yield 1024 * (whole_number(line.split()[1], at_most=_MOST) or 0)


def _groups(root: Path) -> Iterator[int]:
    """Yield the limits of our control group and of those around it, of version 1 or 2 (Linux, Documentation/admin-guide)."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            top, names = root / "sys/fs/cgroup/memory", ["memory.limit_in_bytes"]
        elif not controllers:
            # Above the second nothing is killed, but slowed down so much that a camera is of no use.
            top, names = root / "sys/fs/cgroup", ["memory.max", "memory.high"]
        else:
            continue
        folder = top / path.lstrip("/")
        # In a container the path may be that of the machine around it: what is not there says nothing.
        for each in (folder, *folder.parents):
            for name in names:
                yield from (whole_number(text, at_most=_MOST) or 0 for text in _lines(each / name))
            if each == top:
                break


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
