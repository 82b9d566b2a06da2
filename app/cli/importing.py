"""Imports image files: groups them into requests, sends these in parallel, and reports failures."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from app.cli.answers import NEAR_DUPLICATE, TRUNCATED
from app.cli.client import Client
from app.cli.console import CommandError
from app.cli.image_files import ImageFile, find_images
from app.cli.service_errors import HopelessError, ServiceError
from app.cli.transfers import Outcome, run_in_parallel
from app.cli.uploads import upload_files

_MOST_FILES = 16  # of a request; more save little, and a broken connection would repeat more
_MOST_BYTES = 900_000  # of a request with several files; many proxies accept 1 MB by default

_Opened = tuple[ImageFile, IO[bytes]]


class Importer:
    """Uploads image files to a collection and writes failures and near duplicates to a report."""

    def __init__(
        self,
        client: Client,
        fields: dict[str, str],
        attributes_from_folder: bool,
        jobs: int,
        report: Path,
    ) -> None:
        """``fields`` are those of every upload."""
        self._client = client
        self._fields = fields
        self._attributes_from_folder = attributes_from_folder
        self._jobs = jobs
        self._report = report
        self._lock = threading.Lock()

    def run(self, paths: list[Path], glob: str) -> Outcome:
        """Upload the images found in ``paths``. Raises UnreadableInput, CommandError."""
        outcome = Outcome("Imported")
        skipped: list[str] = []
        images = list(find_images(paths, glob, skipped.append))
        outcome.skipped = [] if glob else skipped
        self._clear_report()
        run_in_parallel(
            group_files(images, by_folder=self._attributes_from_folder),
            len(images),
            lambda group: self._upload_group(group, outcome),
            self._jobs,
            outcome,
            self._client,
        )
        return outcome

    def _clear_report(self) -> None:
        """Remove an older report. Raises CommandError if a new one could not be written."""
        try:
            self._report.open("w").close()
            self._report.unlink()
        except OSError as error:
            raise CommandError(
                f"cannot write the report {self._report}: {error.strerror}."
                " Name another file with --report."
            ) from None

    def _upload_group(self, group: list[ImageFile], outcome: Outcome) -> int:
        """Upload files that have the same attributes, and return their number.

        They are sent in several requests if they have grown since they were listed.
        """
        opened: list[_Opened] = []
        size = 0
        for image in group:
            try:
                with closing(image.open()) as file:
                    content = file.read(_MOST_BYTES + 1)
                    if len(content) > _MOST_BYTES:
                        self._upload_opened([(image, file)], outcome)
                        continue
            except HopelessError:
                raise
            except Exception as error:  # one bad file must not stop the import
                self._report_failure(image, error, outcome)
                continue
            if size + len(content) > _MOST_BYTES:
                self._upload_opened(opened, outcome)
                opened, size = [], 0
            opened.append((image, BytesIO(content)))
            size += len(content)
        if opened:
            self._upload_opened(opened, outcome)
        return len(group)

    def _upload_opened(self, opened: list[_Opened], outcome: Outcome) -> None:
        fields = dict(self._fields)
        if self._attributes_from_folder:
            fields["attributes"] = json.dumps({"folder": opened[0][0].folder})
        files = [(image.name, file) for image, file in opened]
        for (image, _), result in zip(
            opened, upload_files(self._client, files, fields), strict=True
        ):
            if isinstance(result, ServiceError):
                self._report_failure(image, result, outcome)
                continue
            with self._lock:
                outcome.add("new" if result["created"] else "already present")
                outcome.truncated += TRUNCATED in result.get("warnings", [])
            if result.get("near_duplicates"):
                self._report_near_duplicate(image, result, outcome)

    def _report_near_duplicate(
        self, image: ImageFile, result: dict[str, Any], outcome: Outcome
    ) -> None:
        entry = {
            "file": image.where,
            "code": NEAR_DUPLICATE,
            "detail": "The image was stored. It is nearly identical to others.",
            "master": result["master"]["id"],
            "near_duplicates": result["near_duplicates"],
        }
        with self._lock:
            outcome.near_duplicates += 1
            self._write_entry(entry)

    def _report_failure(self, image: ImageFile, error: Exception, outcome: Outcome) -> None:
        if self._client.stopping.is_set():
            return
        code = getattr(error, "code", "unreadable")
        entry = {"file": image.where, "code": code, "detail": str(error)}
        if near_duplicates := getattr(error, "near_duplicates", []):
            entry["near_duplicates"] = near_duplicates
        with self._lock:
            if code == NEAR_DUPLICATE:
                outcome.rejected += 1
            else:
                outcome.failed += 1
            self._write_entry(entry)

    def _write_entry(self, entry: dict[str, Any]) -> None:
        with self._report.open("a") as report:
            report.write(json.dumps(entry, ensure_ascii=False) + "\n")


def group_files(images: Iterable[ImageFile], *, by_folder: bool) -> Iterator[list[ImageFile]]:
    """Yield the images in groups that one request can take. Large ones are alone.

    With ``by_folder`` a group is of one folder.
    """
    group: list[ImageFile] = []
    size = 0
    for image in images:
        is_full = len(group) == _MOST_FILES or size + image.size > _MOST_BYTES
        if group and (is_full or (by_folder and image.folder != group[0].folder)):
            yield group
            group, size = [], 0
        group.append(image)
        size += image.size
    if group:
        yield group
