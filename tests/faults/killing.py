"""Kills writers at random moments: `python killing.py KIND FOLDER SEED KILLS`.

A forked child writes as fast as it can, counting in shared memory what it was told is written; the parent kills it (SIGKILL)
after a random time and looks at what lies there. Prints the counts as JSON; an AssertionError says what was half-written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Prediction
from edgecnn.pictures import read_picture
from edgecnn_device.frames import OK, STAGES, Frame, Observation, Region, RegionPrediction

Write = Callable[[int], None]
Look = Callable[..., None]
START = datetime(2026, 1, 2, tzinfo=UTC)


@dataclasses.dataclass
class Victim:
    """What is killed: `write(n)` writes the n-th thing; `look(done)` checks the folder, `done` being told as written.

    Of several `writers` at once each is told by `open` which one it is, and `look` hears what each has done.
    """

    write: Write
    look: Look
    open: Callable[[int], None] = lambda writer: None
    most_s: float = 0.03
    writers: int = 1


def export_victim(folder: Path) -> Victim:
    """Puts sets of four artifacts and their report in place, the third of them now good, now rejected."""
    import edgecnn
    from edgecnn_export.staging import install, staging

    source = Artifact.open(Path(edgecnn.__file__).parent / "shipped" / "mnist-int8.tflite")
    names = [f"m{number}.tflite" for number in range(4)]

    def write(number: int) -> None:
        with staging(folder) as staged:
            placed = [f"{name}.rejected" if name == "m2.tflite" and number % 3 == 0 else name for name in names]
            for name in placed:
                contract = dataclasses.replace(source.contract, export_id=str(number))
                dataclasses.replace(source, path=staged / name, contract=contract).save(staged / name)
            (staged / "parity.json").write_text(json.dumps({"export": number}))
            install(staged, folder, placed, reports=["parity.json"])

    def look(done: int) -> None:
        found = {path.name: _open(path) for path in folder.glob("m*.tflite*")}
        exports = {name: int(artifact.contract.export_id) for name, artifact in found.items()}
        current = {name: number for name, number in exports.items() if not name.endswith(".previous")}
        if done >= 0:
            assert {name.removesuffix(".rejected") for name in current} == set(names), exports
            assert all(number >= done for name, number in current.items() if "m2" not in name), (exports, done)
        report = folder / "parity.json"
        if report.exists():
            stated = json.loads(report.read_text())["export"]
            assert set(current.values()) == {stated}, (exports, stated)

    return Victim(write, look, most_s=0.1)


def _open(path: Path) -> Artifact:
    """Open an artifact; one that was superseded, which must be whole too, under the name that it had."""
    if path.suffix != ".previous":
        return Artifact.open(path)
    with tempfile.TemporaryDirectory() as folder:
        return Artifact.open(shutil.copy(path, Path(folder) / path.stem))


def checkpoint_victim(folder: Path) -> Victim:
    """Writes checkpoints as large as those of the steel model."""
    from edgecnn_export.run_folder import CHECKPOINT_FILE
    from edgecnn_export.training.checkpoints import Checkpoint

    path = folder / CHECKPOINT_FILE

    def write(number: int) -> None:
        arrays = [np.full((120, 100), number, np.float32) for _ in range(8)]
        Checkpoint({"epoch": number}, [{"loss": float(number)}], arrays, arrays[:4], arrays[:2]).save(path)

    def look(done: int) -> None:
        if done < 0 and not path.exists():
            return
        opened = Checkpoint.open(path)
        number = opened.settings["epoch"]
        assert number >= done, (number, done)
        values = {float(value) for part in (opened.weights, opened.best_weights) for a in part for value in np.unique(a)}
        assert values == {float(number)}, values

    return Victim(write, look, most_s=0.1)


def observation(number: int) -> Observation:
    """Return an observation of a frame of noise, with a class."""
    image = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
    frame = Frame(image, number, "camera", START + timedelta(seconds=number), float(number))
    prediction = Prediction("a", 0, 0.5, np.array([0.5, 0.5], np.float32))
    region = RegionPrediction(1, Region((0, 0, 80, 60), image), image[:28, :28, :1], prediction, prediction)
    return Observation("camera", OK, frame, (region,), 2.0, dict.fromkeys(STAGES, 1.0))


def samples_victim(folder: Path) -> Victim:
    """Keeps a ring of twenty samples or so."""
    from edgecnn_device.sinks.samples import SampleOptions, SampleSink

    options, sinks = SampleOptions(folder, every_s=1e-9, max_bytes=300_000), list[SampleSink]()

    def begin(writer: int) -> None:
        sinks[:] = [SampleSink(options)]

    def write(number: int) -> None:
        sinks[0].write(observation(number))

    def look(done: int) -> None:
        for picture in folder.glob("*.png"):
            image = read_picture(picture)
            body = json.loads(picture.with_suffix(".json").read_text())
            assert f"-{body['frame']}-" in picture.name
            assert np.array_equal(image, np.random.default_rng(body["frame"]).integers(0, 256, (60, 80, 3), np.uint8))
        numbers = {int(picture.name.split("-")[1]) for picture in folder.glob("*.png")}
        assert done < 0 or done in numbers, (done, sorted(numbers)[-3:])

    return Victim(write, look, begin)


def jsonl_victim(folder: Path) -> Victim:
    """Appends lines to a file that is set aside every hundred lines or so."""
    from edgecnn_device.sinks.jsonl import JsonLinesSink

    path, sinks = folder / "out.jsonl", list[JsonLinesSink]()

    def begin(writer: int) -> None:
        sinks[:] = [JsonLinesSink(path, max_bytes=30_000, keep=3)]

    def write(number: int) -> None:
        sinks[0].write(observation(number))

    def look(done: int) -> None:
        begin(0)  # what follows a crash: the next start
        sinks[0].__exit__(None, None, None)
        files = [path.with_name(f"out.jsonl.{number}") for number in (3, 2, 1)]
        lines = [line for file in [*files, path] if file.exists() for line in file.read_bytes().splitlines(keepends=True)]
        assert all(line.endswith(b"\n") for line in lines)
        numbers = [json.loads(line)["frame"] for line in lines]
        # After a kill the child begins again with what it was not told is written: a line may stand there twice.
        assert all(after - before in (0, 1) for before, after in itertools.pairwise(numbers)), "a line is missing"
        assert done < 0 or numbers[-1] >= done, (numbers[-1:], done)

    return Victim(write, look, begin)


class Foreign:
    """Files of somebody else among those of a sink, named as much like them as can be."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Make them."""
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {folder / name: f"the user's own {name}, without a line end".encode() for name in names}
        for path, content in self._files.items():
            path.write_bytes(content)

    def check(self) -> None:
        """Demand that they are as they were."""
        assert {path: path.read_bytes() for path in self._files if path.exists()} == self._files

    def __contains__(self, path: Path) -> bool:
        return path in self._files


def shared_samples_victim(folder: Path) -> Victim:
    """Two cameras that are given one ring: one has it, the other one asks until that is dead."""
    from edgecnn.errors import OutputError
    from edgecnn_device.sinks.samples import SampleOptions, SampleSink

    ring, largest = folder / "ring", 40_000
    options, sinks = SampleOptions(ring, every_s=1e-9, max_bytes=150_000), list[SampleSink]()
    foreign = Foreign(ring, ["holiday.png", "holiday.json", "20260102T000000Z-1-1.png", ".holiday.png.part", "a-1-1.json"])

    def begin(writer: int) -> None:
        while not sinks:
            try:
                sinks.append(SampleSink(options))
            except OutputError as error:
                assert "another camera keeps its samples there" in str(error)
                time.sleep(0.001)

    def write(number: int) -> None:
        sinks[0].write(observation(number))

    def look(*done: int) -> None:
        foreign.check()
        begin(0)  # what follows a crash: the next start
        sinks.pop().__exit__(None, None, None)
        ours = [path for path in ring.iterdir() if path not in foreign]
        assert not [path for path in ours if path.name.startswith(".")]
        assert sum(path.stat().st_size for path in ours) <= options.max_bytes + largest
        for picture in (path for path in ours if path.suffix == ".png"):
            image, body = read_picture(picture), json.loads(picture.with_suffix(".json").read_text())
            assert np.array_equal(image, np.random.default_rng(body["frame"]).integers(0, 256, (60, 80, 3), np.uint8))

    return Victim(write, look, begin, writers=2)


def shared_jsonl_victim(folder: Path) -> Victim:
    """Two cameras append to one file, which either of them sets aside."""
    from edgecnn_device.sinks.jsonl import JsonLinesSink

    path, sinks, name = folder / "out.jsonl", list[JsonLinesSink](), [""]
    most_bytes, keep = 30_000, 3
    foreign = Foreign(folder, ["out.jsonl.2", "out.jsonl.bak", "out.jsonl.10", "out.csv"])

    def begin(writer: int) -> None:
        name[0] = f"camera {writer}"
        sinks[:] = [JsonLinesSink(path, max_bytes=most_bytes, keep=keep)]

    def write(number: int) -> None:
        said = dataclasses.replace(observation(number), source=name[0])
        while True:
            try:
                return sinks[0].write(said)
            except BlockingIOError:  # the other one had the file all the time
                time.sleep(0.001)

    def look(*done: int) -> None:
        foreign.check()
        begin(0)
        sinks[0].__exit__(None, None, None)
        numbered = [file for n in range(1, 20) if (file := folder / f"out.jsonl.{n}").exists() and file not in foreign]
        lines = [line for file in [*reversed(numbered), path] for line in file.read_bytes().splitlines(keepends=True)]
        assert sum(map(len, lines)) <= (keep + 1) * most_bytes
        assert all(line.endswith(b"\n") for line in lines)
        bodies = [json.loads(line) for line in lines]
        for writer, last in enumerate(done):
            numbers = [body["frame"] for body in bodies if body["source"] == f"camera {writer}"]
            assert all(after - before in (0, 1) for before, after in itertools.pairwise(numbers)), "a line is missing"
            assert last < 0 or not numbers or numbers[-1] >= last, (numbers[-1:], last)

    return Victim(write, look, begin, writers=2)


def labels_victim(folder: Path) -> Victim:
    """Two editors label the same samples, and now and then one of them takes back what it said."""
    from edgecnn.errors import InputError
    from edgecnn.samples.labels import LabelLog

    log, name = LabelLog(folder), [""]

    def begin(writer: int) -> None:
        name[0] = f"editor {writer}"

    def write(number: int) -> None:
        log.label([f"20260102T000000.{number % 50:06}Z-{number}-1"], f"class {number}", by=name[0])
        if number % 7 == 6:
            with contextlib.suppress(InputError):  # a kill came before the label
                log.undo(by=name[0])
                log.label([f"20260102T000000.{number % 50:06}Z-{number}-1"], f"class {number}", by=name[0])

    def look(*done: int) -> None:
        labels = log.read()
        lines = log.path.read_bytes().split(b"\n") if log.path.exists() else []
        assert labels.damaged <= sum(not line.endswith(b"}") for line in lines)
        for writer, last in enumerate(done):
            said = {int(act.label.split()[1]) for act in labels.acts if act.by == f"editor {writer}" and act.label}
            assert said >= set(range(last + 1)), "a label is missing"

    return Victim(write, look, begin, writers=2)


def deployment_victim(folder: Path) -> Victim:
    """Puts one version after the other live, and takes every other one back, as a board does in a deployment."""
    from edgecnn.errors import OutputError
    from edgecnn_device.deploy.plan import Measured
    from edgecnn_device.deploy.store import Store

    store, size = Store(folder / "model.tflite"), 100_000
    foreign = Foreign(store.folder, ["holiday.tflite", f"{'0' * 64}.tflite", ".notes"])

    def content(number: int) -> bytes:
        return f"{number:10}".encode() * (size // 10)

    store.live.write_bytes(content(-2))

    def write(number: int) -> None:
        with store.locked():
            store.recover()
            store.adopt("adopted")
            store.begin(store.add(content(number), str(number)))
            store.keep(2, "", Measured()) if number % 2 == 0 else store.take_back("as asked")

    def look(done: int) -> None:
        foreign.check()
        store.settle()  # what follows a crash: the next start
        live = int(store.live.read_bytes()[:10])
        assert store.live.read_bytes() == content(live), "half of a model"
        assert live % 2 == 0 and done - 1 <= live <= done + 1, (live, done)
        journal = store.journal()
        assert journal.pending is None and journal.live in {None, hashlib.sha256(content(live)).hexdigest()}
        with contextlib.suppress(OutputError), store.locked():
            versions = [path for path in store.folder.glob("*.tflite") if path not in foreign]
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.stem for path in versions), "half of a version"
        assert len(versions) <= 5

    return Victim(write, look, most_s=0.8)  # a version takes a dozen writes that wait for the disk


VICTIMS = {
    "deployment": deployment_victim,
    "export": export_victim,
    "checkpoint": checkpoint_victim,
    "samples": samples_victim,
    "jsonl": jsonl_victim,
    "shared samples": shared_samples_victim,
    "shared jsonl": shared_jsonl_victim,
    "labels": labels_victim,
}


def main() -> None:
    """Kill one kind of writer so many times."""
    kind, folder, seed, kills = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    victim, rng, counts = VICTIMS[kind](folder), random.Random(f"{seed} {kind}"), Counter[str]()
    shared = mmap.mmap(-1, 8 * victim.writers)
    shared[:] = struct.pack("q", -1) * victim.writers
    for _ in range(kills):
        before = _done(shared)
        children = [_begin_to_write(victim, shared, writer) for writer in range(victim.writers)]
        if rng.random() < 0.8:  # the others die while they begin
            _await_first(shared, before)
        for child in rng.sample(children, len(children)):
            time.sleep(rng.uniform(0.0, victim.most_s))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"the writer ended by itself: {status}"
        done = _done(shared)
        leftovers = [path for path in folder.iterdir() if path.name.startswith(".")]
        counts["in the middle of a file"] += bool(leftovers)
        counts["written"] += sum(done) - sum(before)
        victim.look(*done)
        for path in leftovers:
            _remove(path)
    counts["kills"] = kills
    print(json.dumps(counts))


def _begin_to_write(victim: Victim, shared: mmap.mmap, writer: int) -> int:
    """Fork a child that goes on writing behind what it has done, and return its process id."""
    child = os.fork()
    if child == 0:
        victim.open(writer)
        for number in itertools.count(_done(shared)[writer] + 1):
            victim.write(number)
            shared[8 * writer : 8 * writer + 8] = struct.pack("q", number)
    return child


def _done(shared: mmap.mmap) -> tuple[int, ...]:
    """Return the number of the last thing that each writer was told is written."""
    return struct.unpack(f"{len(shared) // 8}q", shared[:])


def _await_first(shared: mmap.mmap, before: tuple[int, ...]) -> None:
    deadline_s = time.monotonic() + 20
    while _done(shared) == before and time.monotonic() < deadline_s:
        time.sleep(0.001)


def _remove(path: Path) -> None:
    if path.is_dir():
        for inside in path.rglob("*"):
            if inside.is_file():
                inside.unlink()
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
