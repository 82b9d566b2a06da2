"""Many images at a time over HTTP: importing directories and zip files, exporting a collection."""

from __future__ import annotations

import fnmatch
import json
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.cli.client import Client, HopelessError, ServiceError
from storage.durable_files import replace_durably
from storage.hashing import sha256_of_file

_IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".avif", ".heic", ".heif"}
)
_SPOOL = 8 * 1024 * 1024  # bytes of a zip's member held in memory
_LARGEST_MEMBER = 256 * 1024 * 1024  # bytes; the service's own limit for a request
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
    hopeless: str = ""  # why the rest was not tried
    passed_over: int = 0
    seconds: float = 0.0

    def add(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def exit_code(self) -> int:
        return 130 if self.interrupted else 2 if self.hopeless else 1 if self.failed else 0

    def summary(self) -> str:
        done = sum(self.counts.values())
        if not done and not self.failed and not self.hopeless and not self.interrupted:
            return (
                f"No images found ({self.passed_over} other files passed over)."
                if self.passed_over
                else "No images found."
            )
        parts = [f"{count} {what}" for what, count in self.counts.items()]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += (
            [f"{self.passed_over} files passed over, which do not look like images"]
            if self.passed_over
            else []
        )
        rate = done / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.verb} {done} image{'s' * (done != 1)} in {self.seconds:.1f} s ({rate:.0f}/s): {', '.join(parts) or 'none'}."
        ]
        if self.hopeless:
            lines.append(f"Stopped: {self.hopeless}")
        if self.interrupted or self.hopeless:
            lines.append("Run the same command again to go on.")
        return "\n".join(lines)


def find_images(
    paths: Iterable[Path], glob: str, pass_over: Callable[[str], None] = lambda where: None
) -> Iterator[Source]:
    """Images below directories and inside zip files, there too, in a stable order. Raises UnreadableInput.

    ``pass_over`` hears of every file that does not look like one.
    """
    for path in paths:
        if path.is_dir():
            for found in sorted(path.rglob("*")):
                if found.suffix.lower() == ".zip" and zipfile.is_zipfile(found):
                    yield from _members(found, glob, pass_over)
                elif found.is_file():
                    yield from _chosen(_file(found), glob, pass_over)
        elif path.suffix.lower() == ".zip" or (
            path.suffix.lower() not in _IMAGE_SUFFIXES and zipfile.is_zipfile(path)
        ):
            yield from _members(path, glob, pass_over)
        elif path.is_file():
            yield _file(path)
        else:
            raise UnreadableInput(f"{path} is neither a file nor a directory")


def _chosen(source: Source, glob: str, pass_over: Callable[[str], None]) -> Iterator[Source]:
    if source.name.startswith("."):  # what the Finder and others leave behind
        return
    if (
        fnmatch.fnmatch(source.name, glob)
        if glob
        else PurePosixPath(source.name).suffix.lower() in _IMAGE_SUFFIXES
    ):
        yield source
    else:
        pass_over(source.where)


def _file(path: Path) -> Source:
    return Source(
        _shown(path),
        _shown(path.name),
        _shown(path.absolute().parent.name),
        lambda: path.open("rb"),
    )


def _shown(name: object) -> str:
    """A name that can be sent and printed, whatever bytes the file system has."""
    return str(name).encode("utf-8", "replace").decode()


def _members(path: Path, glob: str, pass_over: Callable[[str], None]) -> Iterator[Source]:
    try:
        members = [info for info in _archive(path).infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{path} cannot be read as a zip file: {error}") from None
    for member in sorted(members, key=lambda info: info.filename):
        inside = PurePosixPath(member.filename)
        if "__MACOSX" not in inside.parts:
            where = _shown(f"{path}!{member.filename}")
            folder = _shown(inside.parent.name or path.stem)
            yield from _chosen(
                Source(where, _shown(inside.name), folder, partial(_extract, path, member)),
                glob,
                pass_over,
            )


@lru_cache(maxsize=16)
def _archive(path: Path) -> zipfile.ZipFile:
    """Opened once: each opening reads the archive's whole directory."""
    return zipfile.ZipFile(path)


def _extract(path: Path, member: zipfile.ZipInfo) -> IO[bytes]:
    with ExitStack() as on_failure:
        spooled = on_failure.enter_context(tempfile.SpooledTemporaryFile(_SPOOL))
        with _archive(path).open(member) as source:
            while chunk := source.read(1024 * 1024):
                spooled.write(chunk)
                if spooled.tell() > _LARGEST_MEMBER:  # its header may say anything
                    raise UnreadableInput(f"unpacks to more than {_LARGEST_MEMBER // 2**20} MiB")
        spooled.seek(0)
        on_failure.pop_all()
        return spooled


def progress_bar() -> Progress:
    """What is done of what there is, the rate (a field of the task), the time gone and left; on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _in_parallel(
    items: Iterable[_Item],
    total: int,
    work: Callable[[_Item], None],
    jobs: int,
    outcome: Outcome,
    client: Client,
) -> None:
    """Run ``work`` on each item with a progress bar. Ctrl-C and a HopelessError let those under way end, and stop."""
    start = time.monotonic()
    with progress_bar() as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task(outcome.verb, total=total, rate="")
        under_way: set[Future[None]] = set()

        def collect(until: int) -> None:
            while len(under_way) > until:
                finished = wait(under_way, return_when=FIRST_COMPLETED).done
                under_way.difference_update(finished)
                for future in finished:
                    future.result()
                rate = (progress.tasks[0].completed + len(finished)) / max(
                    1e-3, time.monotonic() - start
                )
                progress.update(task, advance=len(finished), rate=f"{rate:.0f}/s")

        try:
            for item in items:
                under_way.add(pool.submit(work, item))
                collect(jobs * 2)
            collect(0)
        except (KeyboardInterrupt, HopelessError) as error:
            client.stopping.set()
            outcome.interrupted = isinstance(error, KeyboardInterrupt)
            outcome.hopeless = str(error)
            for future in under_way:
                future.cancel()
        finally:
            outcome.seconds = time.monotonic() - start


class Importer:
    def __init__(
        self, client: Client, collection: str, attributes_from_folder: bool, jobs: int, report: Path
    ) -> None:
        self._client = client
        self._collection = collection
        self._attributes_from_folder = attributes_from_folder
        self._jobs = jobs
        self._report = report
        self._lock = threading.Lock()

    def run(self, paths: list[Path], glob: str) -> Outcome:
        """Raises UnreadableInput."""
        outcome = Outcome("Imported")
        passed_over: list[str] = []
        sources = list(find_images(paths, glob, passed_over.append))
        outcome.passed_over = 0 if glob else len(passed_over)
        self._start_report()
        _in_parallel(
            sources,
            len(sources),
            lambda source: self._one(source, outcome),
            self._jobs,
            outcome,
            self._client,
        )
        return outcome

    def _start_report(self) -> None:
        try:
            self._report.open("w").close()
            self._report.unlink()
        except OSError as error:
            raise UnreadableInput(
                f"the report cannot be written: {error}; name another file with --report"
            ) from None

    def _one(self, source: Source, outcome: Outcome) -> None:
        fields = {"collection": self._collection}
        if self._attributes_from_folder:
            fields["attributes"] = json.dumps({"folder": source.folder})
        try:
            with closing(source.open()) as file:
                result = self._client.upload(file, source.name, fields)
        except HopelessError:
            raise
        except Exception as error:  # whatever is wrong with one file, the others go in
            self._fail(source, error, outcome)
            return
        with self._lock:
            outcome.add("new" if result["created"] else "there already")

    def _fail(self, source: Source, error: Exception, outcome: Outcome) -> None:
        if self._client.stopping.is_set():
            return
        entry = {
            "file": source.where,
            "code": getattr(error, "code", "unreadable"),
            "detail": str(error),
        }
        with self._lock:
            outcome.failed += 1
            with self._report.open("a") as report:
                report.write(json.dumps(entry, ensure_ascii=False) + "\n")


class Exporter:
    def __init__(self, client: Client, collection: str, jobs: int) -> None:
        self._client = client
        self._collection = collection
        self._jobs = jobs
        self._lock = threading.Lock()

    def run(self, directory: Path) -> Outcome:
        """Raises ServiceError, OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        outcome = Outcome("Exported")
        masters = [master for master, _ in self._client.masters(self._collection)]
        with (directory / "masters.jsonl").open("w") as manifest:
            for master in masters:
                manifest.write(
                    json.dumps(master | {"file": _file_name(master)}, ensure_ascii=False) + "\n"
                )
        _in_parallel(
            masters,
            len(masters),
            lambda master: self._one(master, directory, outcome),
            self._jobs,
            outcome,
            self._client,
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
            with replace_durably(target, temporary=unfinished) as output:
                self._client.content(master, output)
                if sha256_of_file(output).hex() != master["sha256"]:
                    raise ServiceError(
                        "the bytes that came are not those that were put in", "wrong-bytes"
                    )
        except HopelessError:
            raise
        except ServiceError as error:
            Console(stderr=True).print(
                f"{master['id']}: {error}", style="red", markup=False, highlight=False
            )
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
        return sha256_of_file(file).hex()
