"""Real MJPEG and RTSP servers that die, hang, stall and come back, fifty times each, before a real camera process.

EDGECNN_OUTAGES sets another number. All six run at the same time, since most of it is waiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_time import read_time
from running import CameraProcess, CameraServer, Holdings, a_second, wait_until

pytestmark = pytest.mark.timeout(1200)
OUTAGES = int(os.environ.get("EDGECNN_OUTAGES", "50"))
KINDS = [(server, trouble) for server in ("mjpeg", "rtsp") for trouble in ("die", "hang", "stall")]
# A frame that was on its way when the server stopped may still be classified: socket, decoder, and two busy cores.
SLACK_S = 0.3
# Two seconds, of which the camera waits 1.75 on purpose; the rest is work, which a busy machine does more slowly.
WAITING_S, REPORTING_S = 1.75, 0.25
RECOVERY_S = 30.0
OLDEST_PICTURE_S = 1.5


@dataclass
class Outage:
    """One outage by the wall clock, how long the report and the first class after it took, and how long the report might."""

    began: float
    ended: float
    reported_s: float
    recovered_s: float
    report_limit_s: float


@dataclass
class Ordeal:
    """What one camera went through; its files are in `folder`."""

    folder: Path
    outages: list[Outage] = field(default_factory=list)
    before: Holdings | None = None
    after: Holdings | None = None
    orphans: list[int] = field(default_factory=list)
    end_s: float = 0.0
    end_limit_s: float = 1.0
    returncode: int | None = None
    said: str = ""
    camera: CameraProcess | None = None
    failure: BaseException | None = None


class Ending:
    """Lets each camera end alone, when all have come through, so that six do not fight for two cores at that moment."""

    def __init__(self, count: int) -> None:
        self._all_through = threading.Barrier(count)
        self._one = threading.Lock()

    def __enter__(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self._all_through.wait()
        self._one.acquire()

    def __exit__(self, *failure: object) -> None:
        self._one.release()

    def nobody_waits(self) -> None:
        """One has failed: the others need not wait for it."""
        self._all_through.abort()


def undergo(ordeal: Ordeal, ending: Ending, model: str, server_kind: str, trouble: str) -> None:
    """Run a camera before a server that is in `trouble` OUTAGES times, until that is reported and at least 1.6 to 2.6 s."""
    rng = random.Random(f"{server_kind} {trouble}")
    server = CameraServer(server_kind)
    camera = ordeal.camera = CameraProcess(
        ordeal.folder, model, "--source", server.address, "--keep", str(ordeal.folder / "seen"), "--keep-every", "0.2",
        "--open-timeout", "5", "--read-timeout", "2", "--smooth", "1", "--reject", "0", "--novelty", "100",
    )  # fmt: skip
    try:
        await_class(camera, 0.0)
        ordeal.before = camera.holdings()
        for _ in range(OUTAGES):
            ordeal.outages.append(suffer(camera, server, trouble, rng.uniform(1.6, 2.6)))
            assert camera.alive, camera.said
            time.sleep(rng.uniform(0.3, 0.6))
        ordeal.after = camera.holdings()
        with ending:
            children = camera.children()
            ordeal.end_limit_s = a_second()
            ordeal.end_s = camera.end()
        ordeal.orphans = [child for child in children if (Path("/proc") / str(child)).exists()]
    except BaseException as error:  # it is raised in the tests; a thread has nobody to tell
        ordeal.failure = error
        ending.nobody_waits()
    finally:
        ordeal.said, ordeal.returncode = camera.said, camera.returncode
        camera.close()
        server.close()


def suffer(camera: CameraProcess, server: CameraServer, trouble: str, lasting_s: float) -> Outage:
    """Let the server be in trouble once."""
    server.trouble(trouble)
    began = time.time()
    try:
        reported_s = wait_until(lambda: camera.state_since(began) in ("stale", "blind"), 10, "report")
        time.sleep(max(0.0, began + lasting_s - time.time()))
    finally:
        ended = time.time()
        server.recover(trouble)
    report_limit_s = WAITING_S + REPORTING_S * a_second()
    return Outage(began, ended, reported_s, await_class(camera, ended), report_limit_s)


def await_class(camera: CameraProcess, since: float) -> float:
    """Wait for a class that was seen after `since`."""
    return wait_until(lambda: any(line.has_class for line in camera.lines[-3:] if line.at > since), RECOVERY_S, "class")


@pytest.fixture(scope="module")
def ordeals(tmp_path_factory: pytest.TempPathFactory, model: str) -> dict[tuple[str, str], Ordeal]:
    ordeals = {kind: Ordeal(tmp_path_factory.mktemp("-".join(kind))) for kind in KINDS}
    ending = Ending(len(KINDS))
    threads = [threading.Thread(target=undergo, args=(ordeal, ending, model, *kind)) for kind, ordeal in ordeals.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*(f"{' '.join(kind)}: {figures(ordeal)}" for kind, ordeal in ordeals.items()), sep="\n")
    return ordeals


@pytest.fixture(params=KINDS, ids=" ".join)
def ordeal(request: pytest.FixtureRequest, ordeals: dict[tuple[str, str], Ordeal]) -> Ordeal:
    return ordeals[request.param]


def picture_ages(folder: Path) -> list[float]:
    """Return how old each kept picture was when it counted as captured, by the time that is drawn in it."""
    ages = []
    for path in sorted((folder / "seen").glob("*.png")):
        captured = datetime.fromisoformat(json.loads(path.with_suffix(".json").read_text())["captured_at"])
        ages.append(captured.timestamp() - read_time(np.asarray(cv2.imread(str(path)), np.uint8)))
    return ages


def figures(ordeal: Ordeal) -> dict[str, float]:
    """Summarise an ordeal."""
    outages, ages = ordeal.outages, picture_ages(ordeal.folder)
    return {
        "outages": len(outages),
        "worst_report_s": round(max((o.reported_s for o in outages), default=0.0), 2),
        "median_recovery_s": round(float(np.median([o.recovered_s for o in outages] or [0.0])), 2),
        "worst_recovery_s": round(max((o.recovered_s for o in outages), default=0.0), 2),
        "pictures": len(ages),
        "oldest_picture_s": round(max(ages, default=0.0), 2),
        "end_s": round(ordeal.end_s, 2),
    }


def test_the_camera_survives_every_outage(ordeal: Ordeal) -> None:
    if ordeal.failure is not None:
        raise ordeal.failure

    assert len(ordeal.outages) == OUTAGES
    assert "Traceback" not in ordeal.said


def test_each_outage_is_reported_within_two_seconds(ordeal: Ordeal) -> None:
    late = [outage for outage in ordeal.outages if outage.reported_s >= outage.report_limit_s]

    assert late == []


def test_no_class_is_published_of_a_picture_taken_during_an_outage(ordeal: Ordeal) -> None:
    assert ordeal.camera is not None
    answers = [line.body for line in ordeal.camera.lines if line.has_regions]
    captured = [datetime.fromisoformat(body["captured_at"]).timestamp() for body in answers]

    during = [at for at in captured for outage in ordeal.outages if outage.began + SLACK_S < at < outage.ended]

    assert during == []


def test_no_old_picture_passes_for_a_new_one(ordeal: Ordeal) -> None:
    ages = picture_ages(ordeal.folder)

    assert len(ages) >= len(ordeal.outages)
    assert max(ages) < OLDEST_PICTURE_S


def test_nothing_is_left_behind_by_reconnecting(ordeal: Ordeal) -> None:
    assert ordeal.after == ordeal.before
    assert ordeal.orphans == []


def test_sigterm_ends_it_within_a_second(ordeal: Ordeal) -> None:
    assert ordeal.returncode == 0
    assert ordeal.end_s < ordeal.end_limit_s
