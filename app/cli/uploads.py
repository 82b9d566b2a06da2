"""Uploads several images in one request, and sends those again that the service could not take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from app.cli.client import ATTEMPTS, Backoff, Client
from app.cli.service_errors import HopelessError, ServiceError, error_of, is_worth_a_retry

_NamedFile = tuple[str, IO[bytes]]


def upload_files(
    client: Client, files: Sequence[_NamedFile], fields: dict[str, str]
) -> list[dict[str, Any] | ServiceError]:
    """Return the result or the error of each file, in the order of the files.

    The service acknowledges each file for itself. A file that is not acknowledged is sent again if
    it may be accepted later; bytes that were stored nevertheless are found again. Raises
    HopelessError if no other file can succeed either.
    """
    outcomes: dict[int, dict[str, Any] | ServiceError] = {}
    waiting = list(range(len(files)))
    backoff = Backoff(client.stopping)
    for attempt in range(1, ATTEMPTS + 1):
        answered = _send_files(client, [files[number] for number in waiting], fields)
        refused = []
        for number, result in zip(waiting, answered, strict=True):
            outcome = outcomes[number] = _read_result(result)
            is_own = isinstance(result, dict)  # that of a whole request was retried already
            if is_own and isinstance(outcome, ServiceError) and is_worth_a_retry(outcome):
                refused.append(number)
        waiting = refused
        if not waiting or attempt == ATTEMPTS:
            break
        client.announce_retries(str(outcomes[waiting[0]]))
        if not backoff.wait():
            break
    return [outcomes[number] for number in range(len(files))]


def _send_files(
    client: Client, files: Sequence[_NamedFile], fields: dict[str, str]
) -> list[dict[str, Any] | ServiceError]:
    """Send the files in one request, or in halves if it is too large for the service or a proxy."""
    try:
        return [*client.upload(files, fields)]
    except HopelessError:
        raise
    except ServiceError as error:
        if error.status != 413 or len(files) == 1:
            return [error] * len(files)
    half = len(files) // 2
    return _send_files(client, files[:half], fields) + _send_files(client, files[half:], fields)


def _read_result(result: dict[str, Any] | ServiceError) -> dict[str, Any] | ServiceError:
    """Return the result of a file, or the error in it. Raises HopelessError."""
    if isinstance(result, ServiceError) or "error" not in result:
        return result
    error = error_of(result["error"], result["status"])
    if isinstance(error, HopelessError):
        raise error
    return error
