"""Many images at a time over HTTP: importing directories and zip files, exporting a collection."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.client import Client, ServiceError

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".avif", ".heic", ".heif"})
_SPOOL = 8 * 1024 * 1024  # bytes of a zip's member held in memory
_Item = TypeVar("_Item")


class UnreadableInput(Exception):
    """A path given cannot be read; the message says which."""


@dataclass(frozen=True)
class Source:
    """One image to import: where it is, for messages; its name and folder; how to open it."""

    where: str
    name: str
    folder: str
    open: Callable[[], IO[bytes]]


@dataclass
class Outcome:
    """What a transfer did."""

    verb: str
    counts: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    interrupted: bool = False
    seconds: float = 0.0

    def add(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def summary(self) -> str:
        done = sum(self.counts.values())
        parts = [f"{count} {what}" for what, count in self.counts.items()] + ([f"{self.failed} failed"] if self.failed else [])
        stopped = " Interrupted: run the same command again to go on." if self.interrupted else ""
        rate = done / self.seconds if self.seconds else 0.0
        return (
            f"{self.verb} {done} images in {self.seconds:.1f} s ({rate:.0f}/s): {', '.join(parts) or 'nothing to do'}.{stopped}"
        )


def find_images(paths: Iterable[Path], glob: str) -> Iterator[Source]:
    """Images below directories and inside zip files, in a stable order. Raises UnreadableInput."""
    for path in paths:
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                if found.is_file() and _wanted(found.name, glob):
                    yield _file(found)
        elif zipfile.is_zipfile(path):
            yield from _members(path, glob)
        elif path.is_file():
            yield _file(path)
        else:
            raise UnreadableInput(f"{path} is neither a file nor a directory")


def _wanted(name: str, glob: str) -> bool:
    if name.startswith("."):  # what the Finder and others leave behind
        return False
    return fnmatch.fnmatch(name, glob) if glob else PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES


def _file(path: Path) -> Source:
    return Source(str(path), path.name, path.absolute().parent.name, lambda: path.open("rb"))


def _members(path: Path, glob: str) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{path}: {error}") from None
    for member in sorted(members):
        inside = PurePosixPath(member)
        if _wanted(inside.name, glob) and "__MACOSX" not in inside.parts:
            yield Source(f"{path}!{member}", inside.name, inside.parent.name or path.stem, partial(_extract, path, member))


def _extract(path: Path, member: str) -> IO[bytes]:
    spooled = tempfile.SpooledTemporaryFile(_SPOOL)  # noqa: SIM115 - the caller closes it
    with zipfile.ZipFile(path) as archive, archive.open(member) as source:
        while chunk := source.read(1024 * 1024):
            spooled.write(chunk)
    spooled.seek(0)
    return spooled


def _in_parallel(
    items: Iterable[_Item], total: int | None, work: Callable[[_Item], None], jobs: int, outcome: Outcome, console: Console
) -> None:
    """Run ``work`` on each item with a progress bar; Ctrl-C lets those under way end and stops."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task(outcome.verb, total=total, rate="")
        under_way: set[Future[None]] = set()

        def collect(until: int) -> None:
            while len(under_way) > until:
                finished = wait(under_way, return_when=FIRST_COMPLETED).done
                under_way.difference_update(finished)
                for future in finished:
                    future.result()
                rate = (progress.tasks[0].completed + len(finished)) / max(1e-3, time.monotonic() - start)
                progress.update(task, advance=len(finished), rate=f"{rate:.0f}/s")

        try:
            for item in items:
                under_way.add(pool.submit(work, item))
                collect(jobs * 2)
            collect(0)
        except KeyboardInterrupt:
            outcome.interrupted = True
            for future in under_way:
                future.cancel()
        finally:
            outcome.seconds = time.monotonic() - start


class Importer:
    def __init__(
        self, client: Client, collection: str, attributes_from_folder: bool, jobs: int, report: Path, console: Console
    ) -> None:
        self._client = client
        self._collection = collection
        self._attributes_from_folder = attributes_from_folder
        self._jobs = jobs
        self._report = report
        self._console = console
        self._lock = threading.Lock()

    def run(self, paths: list[Path], glob: str) -> Outcome:
        """Raises UnreadableInput."""
        sources = list(find_images(paths, glob))
        outcome = Outcome("Imported")
        self._report.unlink(missing_ok=True)
        _in_parallel(sources, len(sources), lambda source: self._one(source, outcome), self._jobs, outcome, self._console)
        return outcome

    def _one(self, source: Source, outcome: Outcome) -> None:
        fields = {"collection": self._collection}
        if self._attributes_from_folder:
            fields["attributes"] = json.dumps({"folder": source.folder})
        try:
            with closing(source.open()) as file:
                result = self._client.upload(file, source.name, fields)
        except (ServiceError, OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # zipfile's own kinds
            self._fail(source, error, outcome)
            return
        with self._lock:
            outcome.add("new" if result["created"] else "there already")

    def _fail(self, source: Source, error: Exception, outcome: Outcome) -> None:
        entry = {"file": source.where, "code": getattr(error, "code", "unreadable"), "detail": str(error)}
        with self._lock:
            outcome.failed += 1
            with self._report.open("a") as report:
                report.write(json.dumps(entry, ensure_ascii=False) + "\n")


class Exporter:
    def __init__(self, client: Client, collection: str, jobs: int, console: Console) -> None:
        self._client = client
        self._collection = collection
        self._jobs = jobs
        self._console = console
        self._lock = threading.Lock()

    def run(self, directory: Path) -> Outcome:
        """Raises ServiceError, OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        outcome = Outcome("Exported")
        masters = [master for master, _ in self._client.masters(self._collection)]
        with (directory / "masters.jsonl").open("w") as manifest:
            for master in masters:
                manifest.write(json.dumps(master | {"file": _file_name(master)}, ensure_ascii=False) + "\n")
        _in_parallel(
            masters, len(masters), lambda master: self._one(master, directory, outcome), self._jobs, outcome, self._console
        )
        return outcome

    def _one(self, master: dict[str, Any], directory: Path, outcome: Outcome) -> None:
        target = directory / _file_name(master)
        if target.exists() and _sha256(target) == master["sha256"]:
            with self._lock:
                outcome.add("there already")
            return
        unfinished = target.with_name(target.name + ".part")
        try:
            with unfinished.open("wb") as output:
                self._client.content(master, output)
            if _sha256(unfinished) != master["sha256"]:
                raise ServiceError(f"{master['id']}: the bytes that came are not those that were put in")
            unfinished.replace(target)
        except ServiceError as error:
            unfinished.unlink(missing_ok=True)
            self._console.print(f"{master['id']}: {error}", style="red", markup=False, highlight=False)
            with self._lock:
                outcome.failed += 1
            return
        with self._lock:
            outcome.add("written")


def _file_name(master: dict[str, Any]) -> str:
    """The master's own name behind its id, so that equal names do not meet and none is a path."""
    name = master["name"].encode()[:150].decode(errors="ignore")
    return f"{master['id']}-{name}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
