"""The board's half of a deployment: it takes a request and a file on stdin, and decides by itself, whoever still listens.

What it says goes to stdout, one JSON object a line. Whoever reads that may go away: before the switch that ends the deployment,
after it nothing changes, since the watch is what decides.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import MAX_FILE_BYTES
from edgecnn.errors import ArtifactError, EdgecnnError, InputError, OutputError
from edgecnn.records import read_record
from edgecnn.runtimes import probe
from edgecnn.text import counted
from edgecnn_device.deploy.judge import (
    FEW_ANSWERS,
    Agreement,
    Counts,
    describe_unjudged,
    judge_agreement,
    judge_doubt,
    judge_latency,
    judge_states,
    judge_work,
)
from edgecnn_device.deploy.listener import Listener, Seen
from edgecnn_device.deploy.plan import PROTOCOL, History, Measured, Outcome, Plan, Request
from edgecnn_device.deploy.site import Site
from edgecnn_device.deploy.store import Store, digest_of
from edgecnn_device.deploy.trial import Shadow, compare_latency

_MOST_REQUEST = 2**16
_HEAR_S, _TELL_S = 0.2, 1.0
_ALL_FOUND_S = 1.2  # every camera looks once a second whether somebody listens
_SILENT_S = 30.0
_NO_FRAME_S = 120.0


class RefusedError(Exception):
    """The new model does not go live, or does not stay it; the text is the reason."""


class Channel:
    """What the workstation hears."""

    def __init__(self, out: IO[bytes]) -> None:
        """Say everything to `out`."""
        self._out = out
        self.is_open = True

    def tell(self, kind: str, **body: Any) -> None:
        """Say one thing; nothing when nobody is there any more."""
        try:
            if self.is_open:
                self._out.write(json.dumps({"kind": kind} | body).encode() + b"\n")
                self._out.flush()
        except OSError:
            self.is_open = False

    def say(self, text: str) -> None:
        """Say a line that stays."""
        self.tell("say", text=text)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is; before the switch, nobody to hear it ends the deployment."""
        self.tell("progress", stage=stage, done=done, total=total)


def serve(source: IO[bytes], out: IO[bytes]) -> None:
    """Do what one request on `source` asks for."""
    os.umask(0o022)  # the camera may be another user
    channel = Channel(out)
    try:
        request = _read_request(source)
        site = Site.find(request.plan)
        if request.verb == "history":
            channel.tell("history", **asdict(read_history(Store(site.live))))
            return
        deployment = Deployment(request.plan, site, Store(site.live), channel)
        outcome = deployment.deploy(request, source) if request.verb == "deploy" else deployment.roll_back()
        channel.tell("outcome", **asdict(outcome))
    except EdgecnnError as error:
        channel.tell("error", text=str(error))


def _read_request(source: IO[bytes]) -> Request:
    line = source.readline(_MOST_REQUEST)
    try:
        body = json.loads(line)
    except ValueError as error:
        raise InputError("the request is not a line of JSON; this command is run by `edgecnn deploy`") from error
    if isinstance(body, dict) and body.get("protocol") != PROTOCOL:
        raise InputError(
            f"the board speaks version {PROTOCOL} of the deployment's protocol, the workstation {body.get('protocol')}: "
            "install the same edgecnn on both (edgecnn deploy --bootstrap)"
        )
    return read_record(Request, body, "the request")


def read_history(store: Store) -> History:
    """Return what the store of a model file knows, after settling what nobody watches any more."""
    with contextlib.suppress(OutputError):  # somebody who may only look
        store.settle()
    journal = store.journal()
    pending = None if journal.pending is None else journal.pending.version
    versions = tuple(each.digest for each in journal.versions if store.path(each.digest).exists())
    return History("", str(store.live), digest_of(store.live), journal.previous, pending, versions, journal.events)


class Deployment:
    """One model file on its way to one board."""

    def __init__(
        self, plan: Plan, site: Site, store: Store, channel: Channel, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Do nothing yet."""
        self.plan, self.site, self.store, self.channel, self.clock = plan, site, store, channel, clock
        self.measured = Measured()
        self.before, self.after, self.watched, self.agreement = Counts(), Counts(), Counts(), Agreement()
        self.live_digest: str | None = None
        self.version = ""
        self._told_s = clock()

    def deploy(self, request: Request, source: IO[bytes]) -> Outcome:
        """Receive, prove, shadow, switch and watch; raises EdgecnnError for what is no model or cannot be done."""
        live_path = self.store.live
        if Path(request.name).suffix.lower() != live_path.suffix.lower():
            raise InputError(f"{request.name} cannot replace {live_path}: deploy the {live_path.suffix} of the same export")
        with self.store.locked():
            self._recover()
            live = self._adopt()
            self._begin()
            data = self._receive(request, source, live)
            try:
                artifact = Artifact.read(data, Path(request.name), trusted=self.site.trusted)
            except ArtifactError as error:
                return self._refuse(request.sha256, str(error))
            if digest_of(self.store.live) == request.sha256:
                self.channel.say("this version is live already")
                return Outcome("", request.sha256, live=True, rolled_back=False, reason="it was live already")
            self.store.add(data, artifact.contract.export_id)
            return self._try(request.sha256, artifact, live)

    def roll_back(self) -> Outcome:
        """Put the version before back live, and see that the camera runs it."""
        with self.store.locked():
            self._recover()
            live = self._adopt()
            self._begin()
            previous = self.store.journal().previous
            if previous is None or not self.store.holds(previous):
                raise InputError(f"there is no version before to roll back to: no other was deployed to {self.store.live}")
            found = Artifact.open(self.store.path(previous))
            artifact = replace(found, path=Path(f"version {previous[:12]}{found.path.suffix}"))
            self.channel.say(f"rolling back to {artifact.contract.export_id} ({previous[:12]})")
            anything = replace(self.plan.limits, latency=math.inf)
            self.plan = replace(self.plan, shadow=0, watch_s=0.0, new_labels=True, limits=anything)
            return self._try(previous, artifact, live)

    def _recover(self) -> None:
        if done := self.store.recover():
            self.channel.say(done)

    def _begin(self) -> None:
        """Say which events there were before, for those who ask after a lost connection what came of it."""
        events = self.store.journal().events
        self.channel.tell("begin", events=events[-1].number if events else 0)

    def _adopt(self) -> Artifact | None:
        """Keep what is live; None where there is nothing, or nothing that is a model of ours."""
        try:
            artifact = Artifact.open(self.store.live)
        except EdgecnnError:
            self.store.adopt("unknown")
            return None
        self.store.adopt(artifact.contract.export_id)
        return artifact

    def _receive(self, request: Request, source: IO[bytes], live: Artifact | None) -> bytes:
        """Return the file's bytes, which are not sent again when they lie here; InputError when they come cut or altered."""
        if request.size > MAX_FILE_BYTES:
            raise InputError(f"{request.name} has {request.size} bytes; at most {MAX_FILE_BYTES} are taken")
        if self.store.holds(request.sha256):
            self.channel.tell("have")
            return self.store.path(request.sha256).read_bytes()
        self.channel.tell("need")
        data = source.read(request.size)
        if hashlib.sha256(data).hexdigest() != request.sha256:
            raise InputError(f"{request.name} came with {len(data)} of {request.size} bytes, or altered; deploy it again")
        return data

    def _try(self, version: str, artifact: Artifact, live: Artifact | None) -> Outcome:
        self.live_digest, self.version = digest_of(self.store.live), version
        try:
            self._check(artifact, live)
            # Listening from here on: cameras are found, and their answers counted, while the model is verified.
            with Listener(self.store.folder, clock=self.clock) as listener:
                self._verify(version, artifact, live)
                return self._go_live(version, artifact, live, listener)
        except (RefusedError, EdgecnnError) as error:
            return self._refuse(version, str(error))

    def _refuse(self, version: str, reason: str) -> Outcome:
        self.store.note("refused", version, digest_of(self.store.live), reason, self._measured())
        self.store.forget(version)
        return Outcome("", version, live=False, rolled_back=False, reason=reason, measured=self._measured())

    def _check(self, artifact: Artifact, live: Artifact | None) -> None:
        """Refuse what parity has rejected, and what the running camera cannot take over."""
        if artifact.contract.parity.verdict == "fail":
            raise RefusedError("it failed its parity with the trained model: export it again, with --repair")
        self._check_labels(artifact, live)

    def _check_labels(self, artifact: Artifact, live: Artifact | None) -> None:
        """Refuse what the running camera cannot take over, unless that is meant and the camera can be restarted."""
        difference = None if live is None else artifact.contract.differs_from(live.contract)
        if difference is None:
            return
        if not self.plan.new_labels:
            raise RefusedError(f"it {difference} than the live model; if that is meant, give --new-labels")
        if self.site.restart is None:
            raise RefusedError(
                f"it {difference} than the live model, for which the camera must be restarted, and no unit of "
                "`edgecnn service` runs it; say how with --restart COMMAND"
            )
        try:
            self.site.demand_labels(artifact.contract)
        except InputError as error:
            raise RefusedError(f"the camera would not start with it: {error}") from error

    def _verify(self, version: str, artifact: Artifact, live: Artifact | None) -> None:
        """Replay the golden vectors and compare the latency, in child processes that have their time."""
        self.channel.say("verifying on the board")
        serving, path = self.site.serving, self.store.path(version)
        found = probe.verify(artifact, runtime=serving.runtime, threads=serving.threads, timeout_s=self.plan.verify_s)
        found.demand()
        paths = [path] if live is None else [path, self.store.live]
        new, *others = compare_latency(paths, serving, self.plan.verify_s)
        before = others[0] if others else None
        before_ms = None if before is None else round(before.ms, 3)
        self.measured = replace(self.measured, latency_ms=round(new.ms, 3), latency_before_ms=before_ms)
        beside = "" if before_ms is None else f", before {before_ms:.1f} ms"
        self.channel.say(f"verified on {found.runtime}: {new.ms:.1f} ms a picture{beside}")
        if before is not None and (reason := judge_latency(new, before, self.plan.limits)):
            raise RefusedError(reason)

    def _go_live(self, version: str, artifact: Artifact, live: Artifact | None, listener: Listener) -> Outcome:
        self._find_cameras(listener)
        if self.plan.shadow:
            self._shadow(version, artifact, live, listener)
        if self.plan.watch_s:
            self._look_before(listener)
        if not self.channel.is_open:
            raise RefusedError("the connection to the workstation was lost before the switch")
        if digest_of(self.store.path(version)) != version:
            raise RefusedError(f"{self.store.path(version)} was altered while it was tried")
        needs_restart = live is not None and artifact.contract.differs_from(live.contract) is not None
        self.store.begin(version)
        try:
            self._confirm(version, listener, restart=needs_restart)
            self._watch(version, listener)
        except (RefusedError, EdgecnnError) as error:
            return self._take_back(version, str(error), listener, restart=needs_restart)
        except BaseException:
            self.store.take_back("the board's half of the deployment was interrupted", self._measured())
            raise
        reason = self._reserve(listener)
        self.store.keep(self.plan.keep, reason, self._measured())
        return Outcome("", version, live=True, rolled_back=False, reason=reason, measured=self._measured())

    def _reserve(self, listener: Listener) -> str:
        """Say what was not proven of a model that went live; empty for nothing."""
        if not listener.cameras:
            return "no camera ran it yet"
        return describe_unjudged(self.before, self.after, self.agreement, self.plan)

    def _find_cameras(self, listener: Listener) -> None:
        """Wait until the cameras that run this file have said so."""
        self._until(listener.began_s + _ALL_FOUND_S, listener, lambda: False)
        self._until(listener.began_s + self.plan.find_s, listener, lambda: bool(listener.running))
        if not listener.running and (self.plan.watch_s or self.plan.shadow):
            raise RefusedError(
                f"no camera runs {self.store.live}, so nothing can be watched: start it, or put the file in place "
                "unwatched with --watch 0"
            )

    def _until(self, until_s: float, listener: Listener, is_over: Callable[[], bool]) -> bool:
        """Hear until something is so, and count what is seen; False when that was not so in time."""
        while not is_over():
            if self.clock() >= until_s:
                return False
            for seen in listener.hear(_HEAR_S):
                self._count(seen)
        return True

    def _count(self, seen: Seen) -> None:
        """Count what is seen of the live model, and of the new one from its first frame on."""
        if seen.digest == self.live_digest:
            self.before.add(seen)
        elif seen.digest == self.version:
            self.watched.add(seen)

    def _shadow(self, version: str, artifact: Artifact, live: Artifact | None, listener: Listener) -> None:
        """Let the new model answer live frames beside the live one, and refuse it by its limits."""
        same = live is not None and artifact.contract.preprocessing == live.contract.preprocessing
        listener.want("inputs" if same else "views")
        self.channel.say(f"shadowing {self.plan.shadow:,} frames")
        self.before, frame_s = Counts(), self.clock()  # both models are to have seen the same
        with Shadow(self.store.path(version), self.site.serving, self.plan.verify_s) as shadow:
            while self.agreement.frames < self.plan.shadow:
                answered = [self._answer_beside(seen, shadow, are_inputs=same) for seen in listener.hear(_HEAR_S)]
                if any(answered):
                    frame_s = self.clock()
                self._tell("shadowing", self.agreement.frames, self.plan.shadow)
                self._demand_frames(frame_s)
        listener.want("answers")
        self._report_shadow()
        self._judge_shadow()

    def _answer_beside(self, seen: Seen, shadow: Shadow, *, are_inputs: bool) -> bool:
        """Let the shadow answer a frame, if it is one of those that are wanted; True when it was."""
        is_wanted = seen.state == "ok" and len(seen.pictures) == len(seen.answers)
        if not is_wanted or self.agreement.frames >= self.plan.shadow:
            return False
        self.before.add(seen)
        answered = shadow.answer(seen.pictures, are_inputs=are_inputs)
        self.agreement.add(seen, answered)
        self.after.add_answers(answered.answers, seen.counts)
        return True

    def _demand_frames(self, frame_s: float) -> None:
        """Raise RefusedError when no frame was answered since `frame_s` for too long, or when nobody listens any more."""
        if self.clock() > frame_s + _NO_FRAME_S:
            raise RefusedError(f"the camera saw no frame to judge by for {_NO_FRAME_S:g} s, after {self.agreement.frames:,}")
        if not self.channel.is_open:
            raise RefusedError("the connection to the workstation was lost while the model was shadowed")

    def _judge_shadow(self) -> None:
        limits = self.plan.limits
        if reason := judge_agreement(self.agreement, limits) or judge_doubt(self.after, self.before, limits, at_end=True):
            raise RefusedError(reason)

    def _report_shadow(self) -> None:
        share, answers = self.agreement.share, self.agreement.answers.total()
        same = (
            "the live model gave no label to compare with"
            if share is None
            else f"{share:.1%} of {counted(answers, 'answer')} to different pictures the same"
        )
        self.channel.say(f"shadow: {same}; {_doubt(self.after)} unsure or novel, live {_doubt(self.before)}")
        for label, (count, of_class) in self.agreement.by_class().items():
            self.channel.say(f"shadow: {label}: {of_class:.1%} of {count:,} the same")

    def _look_before(self, listener: Listener) -> None:
        """Look at the live model for a while, if no shadow did, and until there is enough to compare with."""
        started_s, enough_s = self.clock(), 0.0 if self.plan.shadow else self.plan.before_s
        while (passed_s := self.clock() - started_s) < enough_s or (
            self.before.answers < FEW_ANSWERS and passed_s < enough_s + self.plan.watch_s
        ):
            for seen in listener.hear(_HEAR_S):
                self._count(seen)
            total_s = enough_s if passed_s < enough_s else enough_s + self.plan.watch_s
            self._tell("looking at the live model", int(passed_s), math.ceil(total_s))

    def _confirm(self, version: str, listener: Listener, *, restart: bool) -> None:
        """Wait until every camera runs the version."""
        old = {camera.pid for camera in listener.running} if restart else set()  # they refuse what they are ended for
        if restart:
            self.channel.say(f"restarting the camera: {self.site.restart}")
            self.site.restart_camera()
        if not listener.cameras:
            return
        self.channel.say("switched; waiting for the camera to take it over")
        refusals = {camera.pid: camera.refusals for camera in listener.running}

        began_s = self.clock()

        def is_over() -> bool:
            self.channel.progress("waiting for the camera", int(self.clock() - began_s), math.ceil(self.plan.confirm_s))
            if any(camera.pid in old for camera in listener.running):
                return False
            for camera in listener.running:
                if camera.refusals > refusals.get(camera.pid, camera.refusals):
                    raise RefusedError(f"the camera refused it: {camera.warning}")
            return bool(listener.running) and all(camera.digest == version for camera in listener.running)

        if not self._until(self.clock() + self.plan.confirm_s, listener, is_over):
            why = "" if listener.running else ", and none runs: its log says why"
            raise RefusedError(f"the camera did not take it over within {self.plan.confirm_s:g} s{why}")

    def _watch(self, version: str, listener: Listener) -> None:
        """See for the time of the watch that nothing is worse than before; RefusedError when it is."""
        if not self.plan.watch_s:
            return
        pids = {camera.pid for camera in listener.running}
        watched, started_s = self.watched, self.clock()
        self.after = watched
        while (passed_s := self.clock() - started_s) < self.plan.watch_s:
            for seen in listener.hear(_HEAR_S):
                self._count(seen)
            self._demand_cameras(pids, version, listener)
            self._demand(watched, at_end=False)
            self._tell("watching", int(passed_s), round(self.plan.watch_s))
        self.channel.say(
            f"watched for {self.plan.watch_s:g} s: {counted(watched.answers, 'answer')} to different pictures, "
            f"{_doubt(watched)} unsure or novel, before {_doubt(self.before)}"
        )
        self._demand(watched, at_end=True)
        if not watched.work_ms and self.before.work_ms:
            raise RefusedError("it gave no answer in the whole watch, and the model before did; choose a longer --watch")

    def _demand_cameras(self, pids: set[int], version: str, listener: Listener) -> None:
        """Raise RefusedError when a camera has crashed, hangs, or runs something else."""
        now_s = self.clock()
        for camera in listener.running:
            if camera.pid not in pids:
                raise RefusedError("the camera was restarted in the middle of the watch")
            if now_s - camera.heard_s > _SILENT_S:
                raise RefusedError(f"the camera has stood still for {_SILENT_S:g} s")
            if camera.digest != version:
                raise RefusedError(f"the camera runs something else by now: {camera.warning or camera.digest[:12]}")
        if any(not listener.cameras[pid].is_connected for pid in pids):
            raise RefusedError("the camera ended in the middle of the watch")

    def _demand(self, watched: Counts, *, at_end: bool) -> None:
        limits = self.plan.limits
        reason = judge_states(watched, self.before) or judge_work(watched, self.before, limits)
        if reason := reason or judge_doubt(watched, self.before, limits, at_end=at_end):
            raise RefusedError(reason)

    def _take_back(self, version: str, reason: str, listener: Listener, *, restart: bool) -> Outcome:
        """Put back what was live, and see that the camera runs it."""
        self.channel.say(f"rolling back: {reason}")
        before = self.store.journal().pending
        self.store.take_back(reason, self._measured())
        with contextlib.suppress(OutputError):  # a full disk keeps it
            self.store.forget(version)
        if before is None or before.before is None:
            return Outcome(
                "", version, live=True, rolled_back=False, reason=f"{reason}; there was none before", measured=self._measured()
            )  # a board must never be without a model
        try:
            runs_it = all(camera.digest == before.before for camera in listener.running)
            self._confirm(before.before, listener, restart=restart and not runs_it)
        except (RefusedError, EdgecnnError) as error:
            reason = f"{reason}; the file is put back, but {error}"
        else:
            self.channel.say("the model before is live again")
        return Outcome("", version, live=False, rolled_back=True, reason=reason, measured=self._measured())

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.clock() >= self._told_s + _TELL_S:
            self._told_s = self.clock()
            self.channel.progress(stage, done, total)

    def _measured(self) -> Measured:
        """Return what was measured until now."""
        share = self.agreement.share
        return replace(
            self.measured,
            shadow_frames=self.agreement.frames,
            shadow_answers=self.agreement.answers.total(),
            agreement=None if share is None else round(share, 4),
            by_class=self.agreement.by_class(),
            answers=self.after.answers,
            doubt=_rounded(self.after.doubt),
            answers_before=self.before.answers,
            doubt_before=_rounded(self.before.doubt),
        )


def _doubt(counts: Counts) -> str:
    return "nothing seen" if counts.doubt is None else f"{counts.doubt:.1%}"


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def main() -> None:
    """Serve one request on stdin and stdout; what native code prints goes nowhere.

    A connection that is lost hangs up, which is no reason to stop; a board that shuts down takes the model back first.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    serve(sys.stdin.buffer, out)
