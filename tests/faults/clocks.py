"""Runs the camera loop while the wall clock is set again and again: `python clocks.py FOLDER JUMPS`; prints what was seen."""

from __future__ import annotations

import datetime as real
import json
import sys
import time
from pathlib import Path
from typing import Any

OFFSET = [0.0]
_time = time.time


class SetClock(real.datetime):
    """`datetime` by a clock that somebody sets."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return the time that the clock shows."""
        return real.datetime.fromtimestamp(_time() + OFFSET[0], tz)


def main() -> None:
    """Let 40 frames pass between two settings of the clock."""
    real.datetime = SetClock  # type: ignore[misc]  # before the camera's modules take the name
    time.time = lambda: _time() + OFFSET[0]
    import numpy as np
    from device_fakes import watcher

    from edgecnn.testing import gray_picture
    from edgecnn_device.loop import Statistics, run_loop
    from edgecnn_device.sinks.jsonl import JsonLinesSink
    from edgecnn_device.sinks.samples import SampleOptions, SampleSink
    from edgecnn_device.sources.live import LiveCapture, Picture
    from edgecnn_device.web.counters import Counters
    from edgecnn_device.web.history import History

    folder, jumps = Path(sys.argv[1]), json.loads(sys.argv[2])
    per_jump = 40

    class Pictures:
        name = "camera"

        def pictures(self) -> Any:
            for number in range(per_jump * (len(jumps) + 1)):
                if number and number % per_jump == 0:
                    OFFSET[0] += jumps[number // per_jump - 1]
                yield Picture(gray_picture(128, number), time.monotonic())
                time.sleep(0.02)

        def interrupt(self) -> None:
            pass

    history, counters, grew = History(time.time), Counters(time.monotonic), []

    class Remember:
        name = "history"

        def write(self, observation: Any) -> None:
            counters.count(observation, time.monotonic())
            history.add(observation, time.monotonic())
            grew.append(len(history.entries(time.monotonic())))

    started_s = time.monotonic()
    statistics = Statistics()
    samples = SampleSink(SampleOptions(folder / "kept", every_s=0.02 * per_jump, max_age_s=3600))
    with JsonLinesSink(folder / "a.jsonl", max_bytes=10**8, keep=1) as lines, LiveCapture(Pictures()) as source:
        run_loop(source, watcher(time.monotonic), [lines, samples, Remember()], statistics=statistics)  # type: ignore[list-item]
    seconds = time.monotonic() - started_s
    print(
        json.dumps(
            {
                "frames": statistics.frames,
                "states": dict(statistics.states),
                "lines": sum(len(file.read_text().splitlines()) for file in folder.glob("a.jsonl*")),  # a day ends a file
                "samples": len(list((folder / "kept").glob("*.png"))),
                "jumps": len(jumps),
                "history_grew": bool(np.all(np.diff(grew) >= 0) and grew[-1] > grew[len(grew) // 2]),
                "seconds": seconds,
                "state_seconds": sum(counters.states.seconds(time.monotonic()).values()),
            }
        )
    )


if __name__ == "__main__":
    main()
