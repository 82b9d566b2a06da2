"""Transfers many images in parallel over HTTP, and exports a collection."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeVar
from uuid import UUID

from app.cli.client import Client
from app.cli.console import ExitCode, err, progress_bar, show_printable
from app.cli.service_errors import HopelessError, ServiceError
from app.services.names import clean_name
from storage.hashing import sha256_of_file
from storage.unicode_text import cut_text

_Item = TypeVar("_Item")
_MOST_SUFFIXES = 8  # of skipped files that are named


@dataclass
class Outcome:
    """What a transfer did. ``counts`` maps what happened to an image to the number of images."""

    verb: str
    counts: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    rejected: int = 0  # because they are nearly identical to others
    near_duplicates: int = 0  # accepted although they are
    truncated: int = 0  # accepted although their last bytes are missing
    interrupted: bool = False
    stopped_by: str = ""  # the error that would have hit every other image, too
    skipped: list[str] = field(default_factory=list)  # names of files that are not images
    seconds: float = 0.0

    def add(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def exit_code(self) -> ExitCode:
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self.stopped_by:
            return ExitCode.CANNOT_CONTINUE
        return ExitCode.FINDINGS if self.failed else ExitCode.OK

    def summary(self) -> str:
        done = sum(self.counts.values())
        if not (done or self.rejected or self.failed or self.stopped_by or self.interrupted):
            return "\n".join(["No images found.", *self._skipped_files()])
        parts = [f"{count} {what}" for what, count in self.counts.items()]
        if self.rejected:
            parts.append(f"{self.rejected} rejected as nearly identical")
        if self.failed:
            parts.append(f"{self.failed} failed")
        rate = done / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.verb} {done} image{'s' * (done != 1)} in {self.seconds:.1f} s ({rate:.0f}/s):"
            f" {', '.join(parts) or 'none'}.",
            *self._skipped_files(),
        ]
        if self.stopped_by:
            lines.append(f"Stopped: {self.stopped_by}")
            lines.append("Once this is solved, run the command again to resume.")
        elif self.interrupted:
            lines.append("Run the same command again to resume.")
        return "\n".join(lines)

    def _skipped_files(self) -> list[str]:
        """Return a line that counts the skipped files by suffix, if there are any."""
        if not self.skipped:
            return []
        suffixes = Counter(PurePath(name).suffix.lower() for name in self.skipped)
        named = suffixes.most_common(_MOST_SUFFIXES)
        kinds = [f"{n} {show_printable(suffix) or 'without a suffix'}" for suffix, n in named]
        if others := suffixes.total() - sum(n for _, n in named):
            kinds.append(f"{others} of other types")
        total = len(self.skipped)
        files = (
            "1 file that is not an image" if total == 1 else f"{total} files that are not images"
        )
        return [f"Skipped {files}: {', '.join(kinds)}."]


def run_in_parallel(
    items: Iterable[_Item],
    total: int,
    work: Callable[[_Item], int],
    jobs: int,
    outcome: Outcome,
    client: Client,
) -> None:
    """Run ``work`` on each item with a progress bar. It returns the number of images in the item.

    Ctrl-C and a HopelessError stop it; items under way are finished first.
    """
    start = time.monotonic()
    with progress_bar() as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task(outcome.verb, total=total)
        under_way: set[Future[int]] = set()

        def collect(until: int) -> None:
            while len(under_way) > until:
                finished = wait(under_way, return_when=FIRST_COMPLETED).done
                under_way.difference_update(finished)
                for future in finished:
                    progress.advance(task, future.result())

        try:
            for item in items:
                under_way.add(pool.submit(work, item))
                collect(jobs * 2)
            collect(0)
        except (KeyboardInterrupt, HopelessError) as error:
            client.stopping.set()
            outcome.interrupted = isinstance(error, KeyboardInterrupt)
            outcome.stopped_by = str(error)
            for future in under_way:
                future.cancel()
        finally:
            outcome.seconds = time.monotonic() - start


class Exporter:
    """Downloads the originals of a collection."""

    def __init__(self, client: Client, collection: str, jobs: int) -> None:
        self._client = client
        self._collection = collection
        self._jobs = jobs
        self._lock = threading.Lock()

    def run(self, directory: Path) -> Outcome:
        """Write every original and masters.jsonl to ``directory``. Raises ServiceError, OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        outcome = Outcome("Exported")
        masters = [master for master, _ in self._client.masters(self._collection)]
        lines = (
            json.dumps(master | {"file": _file_name(master)}, ensure_ascii=False) + "\n"
            for master in masters
        )
        with _new_file(directory / "masters.jsonl") as manifest:
            manifest.writelines(line.encode(errors="replace") for line in lines)
        run_in_parallel(
            masters,
            len(masters),
            lambda master: self._download(master, directory, outcome),
            self._jobs,
            outcome,
            self._client,
        )
        return outcome

    def _download(self, master: dict[str, Any], directory: Path, outcome: Outcome) -> int:
        what = self._fetch(master, directory)
        with self._lock:
            if what:
                outcome.add(what)
            else:
                outcome.failed += 1
        return 1

    def _fetch(self, master: dict[str, Any], directory: Path) -> str:
        """Write the original unless it is there. Return what happened; nothing if it failed."""
        target = directory / _file_name(master)
        if target.is_file() and _sha256(target) == master["sha256"]:
            return "already present"
        try:
            with _new_file(target) as output:
                self._client.content(master, output)
                output.seek(0)
                if sha256_of_file(output).hex() != master["sha256"]:
                    raise ServiceError(
                        "the downloaded bytes differ from those that were uploaded", "wrong-bytes"
                    )
        except HopelessError:
            raise
        except ServiceError as error:
            err.print(f"{master['id']}: {error}", style="red")
            return ""
        return "written"


@contextmanager
def _new_file(target: Path) -> Iterator[BinaryIO]:
    """Write a file beside ``target`` that replaces it once the block has ended without an error.

    No symbolic link is followed that another user may have put there.
    """
    unfinished = target.with_name(target.name + ".part")
    unfinished.unlink(missing_ok=True)
    try:
        with unfinished.open("x+b") as output:
            yield output
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _file_name(master: dict[str, Any]) -> str:
    """Return a unique file name: the ID, then the master's name cut to 150 bytes.

    Both are made safe here, because the service may be hostile.
    """
    name = cut_text(clean_name(master["name"]), 150, lambda text: len(text.encode()))
    return f"{UUID(master['id'])}-{name}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return sha256_of_file(file).hex()
