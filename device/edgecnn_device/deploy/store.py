"""The versions of one model file on a board: each whole under its SHA-256, a journal, and the file itself, which is a copy.

Beside `model.tflite` lies `model.tflite.versions/`. The journal says what is live, what was before, and whether a deployment is
under way: whoever finds one that nobody holds the lock of puts the model before it back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edgecnn.errors import EdgecnnError, InputError, OutputError
from edgecnn.files import flush, read_bytes, write_bytes, write_json
from edgecnn.records import read_record
from edgecnn_device.deploy.plan import Event, Measured, What
from edgecnn_device.tap import versions_folder

_MOST_EVENTS = 200
_MOST_BYTES = 2**24


class BusyError(OutputError):
    """Another deployment to the same model file is going on."""


@dataclass(frozen=True)
class Version:
    """A content that lies in the store."""

    digest: str
    export_id: str


@dataclass(frozen=True)
class Pending:
    """A switch from the version `before` to `version` that is not proven yet."""

    version: str
    before: str | None


@dataclass(frozen=True)
class Journal:
    """What the store knows; `versions` in the order in which they were last live, the newest at the end."""

    live: str | None = None
    previous: str | None = None
    versions: tuple[Version, ...] = ()
    pending: Pending | None = None
    events: tuple[Event, ...] = ()

    def export_id(self, digest: str) -> str:
        """Return the export ID of a version, empty for an unknown one."""
        return next((each.export_id for each in self.versions if each.digest == digest), "")

    def with_version(self, digest: str, export_id: str | None = None) -> Journal:
        """Name a version as the newest."""
        version = Version(digest, self.export_id(digest) if export_id is None else export_id)
        return replace(self, versions=(*(each for each in self.versions if each.digest != digest), version))


def _now() -> datetime:
    return datetime.now(UTC)


class Store:
    """The versions of the model file `live`."""

    def __init__(self, live: Path, *, clock: Callable[[], datetime] = _now) -> None:
        """Look at nothing yet."""
        self.live = live
        self.folder = versions_folder(live)
        self._clock = clock

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store; BusyError when another deployment does, OutputError when the folder cannot be written."""
        try:
            self.folder.mkdir(exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            way_out = "deploy as its owner" if self.live.parent.is_dir() else "make the folder of the model file first"
            raise OutputError(f"cannot write to {self.folder}: {(error.strerror or str(error)).lower()}; {way_out}") from error
        try:
            self._take(descriptor)
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another deployment to {self.live} is going on; try again when it is over") from None

    def journal(self) -> Journal:
        """Return what is known; InputError when the journal cannot be read."""
        path = self.folder / "journal.json"
        if not path.exists():
            return Journal()
        try:
            return read_record(Journal, json.loads(read_bytes(path, at_most=_MOST_BYTES)), str(path))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); move it away: {self.live} is not touched by that") from error

    def write(self, journal: Journal) -> None:
        """Keep what is known, whole or not at all."""
        write_json(self.folder / "journal.json", dataclasses.asdict(journal))

    def path(self, digest: str) -> Path:
        """Return where a version lies."""
        return self.folder / f"{digest}{self.live.suffix}"

    def holds(self, digest: str) -> bool:
        """Tell whether a version lies here and is whole."""
        return digest_of(self.path(digest)) == digest

    def add(self, data: bytes, export_id: str) -> str:
        """Keep a content and return its digest."""
        digest, journal = hashlib.sha256(data).hexdigest(), self.journal()
        if digest not in [each.digest for each in journal.versions]:
            # Named first: a file that is not named is never removed.
            self.write(journal.with_version(digest, export_id))
        if not self.holds(digest):
            write_bytes(self.path(digest), data)
        return digest

    def note(self, what: What, version: str, before: str | None, reason: str = "", measured: Measured | None = None) -> None:
        """Add an event to the journal."""
        self.write(self._noted(self.journal(), what, version, before, reason, measured))

    def begin(self, version: str) -> None:
        """Put a version live, unproven: until `keep` or `take_back` it is pending."""
        journal = self.journal()
        self.write(replace(journal, pending=Pending(version, digest_of(self.live))))
        try:
            self._put(version)
        except (EdgecnnError, OSError):
            self.write(journal)
            raise

    def keep(self, most: int, reason: str, measured: Measured) -> None:
        """Say that the pending version is proven, and remove what is older than the `most` last ones."""
        journal = self.journal()
        assert journal.pending is not None
        version, before = journal.pending.version, journal.pending.before
        previous = journal.previous if before == version else before
        journal = replace(journal.with_version(version), live=version, previous=previous, pending=None)
        self.write(self._noted(journal, "live", version, before, reason, measured))
        self._prune(most)

    def take_back(self, reason: str, measured: Measured | None = None) -> None:
        """Put back what was live before the pending version; where there was nothing, that stays."""
        journal = self.journal()
        assert journal.pending is not None
        version, before = journal.pending.version, journal.pending.before
        if before is not None and digest_of(self.live) != before:
            self._put(before)
        what: What = "rolled back" if before else "live"
        journal = replace(journal, live=before or version, pending=None)
        with contextlib.suppress(OutputError):  # a full disk: the model is back, and the next one to look writes it down
            self.write(self._noted(journal, what, version, before, reason, measured))

    def settle(self) -> str:
        """Take back a deployment that nobody watches any more; return what was done, empty for nothing.

        One whose watcher lives holds the lock, and is left alone. Raises OutputError for a user who may not do it.
        """
        if self.journal().pending is None:
            return ""
        try:
            with self.locked():
                return self.recover()
        except BusyError:
            return ""

    def recover(self) -> str:
        """Do what `settle` does, with the lock held."""
        pending = self.journal().pending
        if pending is None:
            return ""
        reason = "the deployment was interrupted before its watch was over"
        self.take_back(reason)
        return f"{self.live} is what it was before version {pending.version[:12]}: {reason}"

    def adopt(self, export_id: str) -> str | None:
        """Keep the live file's content, whoever put it there, so that nothing is lost; None where there is no file."""
        if not self.live.exists():
            return None
        data = read_bytes(self.live)
        digest = hashlib.sha256(data).hexdigest()
        journal = self.journal()
        if journal.live != digest or not self.holds(digest):
            self.add(data, export_id)
            adopted = replace(self.journal().with_version(digest), live=digest, previous=journal.live)
            self.write(self._noted(adopted, "adopted", digest, journal.live))
        return digest

    def forget(self, digest: str) -> None:
        """Remove a version that was refused, unless it is live or can be put back."""
        journal = self.journal()
        if digest not in (journal.live, journal.previous):
            self._remove(journal, {digest})

    def _noted(
        self, journal: Journal, what: What, version: str, before: str | None, reason: str = "", measured: Measured | None = None
    ) -> Journal:
        number = journal.events[-1].number + 1 if journal.events else 1
        at = self._clock().isoformat(timespec="seconds")
        event = Event(number, at, what, version, before, journal.export_id(version), reason, measured or Measured())
        return replace(journal, events=(*journal.events, event)[-_MOST_EVENTS:])

    def _put(self, digest: str) -> None:
        """Make a version the live file, in one rename."""
        data = read_bytes(self.path(digest))
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"{self.path(digest)} is damaged: its content is no longer of this SHA-256; deploy the file again")
        beside = self.folder / f"next{self.live.suffix}"
        try:
            self._copy(data, beside, self.path(digest))
            beside.replace(self.live)
            flush(self.live.parent)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"cannot write {self.live}: {(error.strerror or str(error)).lower()}") from error

    def _copy(self, data: bytes, path: Path, version: Path) -> None:
        """Write `data` to `path`; a disk without room for it has some for a second name of the `version`."""
        try:
            write_bytes(path, data)
        except OutputError as error:
            if getattr(error.__cause__, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
                raise
            path.unlink(missing_ok=True)
            os.link(version, path)

    def _sweep(self) -> None:
        """Remove what a writer that was killed has left; nobody else writes here while the lock is held."""
        for left in (*self.folder.glob(".*.part.*"), self.folder / f"next{self.live.suffix}"):
            left.unlink(missing_ok=True)

    def _prune(self, most: int) -> None:
        journal = self.journal()
        kept = {journal.live, journal.previous, *(each.digest for each in journal.versions[-most:])}
        self._remove(journal, {each.digest for each in journal.versions if each.digest not in kept})

    def _remove(self, journal: Journal, digests: set[str]) -> None:
        """Remove versions; a file goes before its name, since one without a name would stay for ever."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)
        self.write(replace(journal, versions=tuple(each for each in journal.versions if each.digest not in digests)))


def digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's content, None where there is none to be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
