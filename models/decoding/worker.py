"""The child process that decodes: it reads jobs from a socket until its parent closes it.

``models.decoding.process`` starts it. The header of a job is a pickled ``JobHeader``, and its body
the file. The header of an answer is JSON, because hostile bytes may have taken this process over:
the parent must not unpickle what it sends. Its body is the pixels, or the thumbnail.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.decoding.jobs import DecodedFile, DecodeJob, run_job
from models.decoding.wire import receive_message, send_message
from models.imaging import ImageRejected

READY = b"ready"
_MAX_LENGTH = 1 << 31  # bytes; the parent bounds what it sends
_NICENESS = 5  # the process that answers HTTP goes first
_ESTIMATE_ERROR = 1.5  # of the memory of an image
_COPIES = 2  # of the file: its own, and what libraries copy of it
_SLACK = 64 << 20  # bytes of address space for everything but pixels


@dataclass(frozen=True)
class JobHeader:
    """A job and its limits: ``memory`` bytes for the pixels, ``seconds`` of CPU time."""

    job: DecodeJob
    memory: int
    seconds: float


class _NeedsMemoryError(Exception):
    """The image needs ``memory`` bytes, more than the job was given."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.memory = memory


def main(descriptor: int, address_space: int) -> None:
    """Answer jobs that arrive at the socket ``descriptor``, until its other end closes.

    ``address_space`` is what the process may take at most, in bytes, beyond what it has now.
    """
    os.nice(_NICENESS)
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):  # it writes no file
        resource.setrlimit(limit, (0, 0))
    memory = _Memory(address_space)
    with socket.socket(fileno=descriptor) as parent, suppress(EOFError, OSError):
        send_message(parent, READY, 0, ())
        while True:
            job, content = _receive_job(parent)
            signal.setitimer(signal.ITIMER_PROF, job.seconds)  # SIGPROF ends the process
            answer, body = _answer(content, job, memory)
            del content
            signal.setitimer(signal.ITIMER_PROF, 0)
            memory.allow_all()
            send_message(parent, json.dumps(answer).encode(), sum(map(len, body)), body)


def _receive_job(parent: socket.socket) -> tuple[JobHeader, bytes]:
    """Return the next job and its file, of which there is only one copy then."""
    header, file = receive_message(parent, _MAX_LENGTH, _MAX_LENGTH)
    return pickle.loads(header), bytes(file)  # noqa: S301 - from our own parent


class _Memory:
    """Limits the address space of this process to what the image in work may take."""

    def __init__(self, most: int) -> None:
        """``most`` is what an image may take at most, in bytes."""
        used = _used_address_space()
        self._base, self._most = used, used + most
        self._limited = used > 0
        self.allow_all()

    def allow_all(self) -> None:
        """Allow as much as the most costly image may take."""
        self._set_limit(self._most)

    def allow(self, estimate: int, file: int) -> None:
        """Allow what an image of ``estimate`` bytes may take, in a file of ``file`` bytes."""
        pixels = int(estimate * _ESTIMATE_ERROR)
        self._set_limit(min(self._most, self._base + pixels + _COPIES * file + _SLACK))

    def _set_limit(self, size: int) -> None:
        if self._limited:
            with suppress(ValueError, OSError):  # the hard limit is lower already
                resource.setrlimit(resource.RLIMIT_AS, (size, self._most))


def _answer(
    content: bytes, header: JobHeader, memory: _Memory
) -> tuple[dict[str, object], list[bytes]]:
    def admit(estimate: int) -> None:
        if estimate > header.memory:
            raise _NeedsMemoryError(estimate)
        memory.allow(estimate, len(content))

    try:
        return _describe(run_job(io.BytesIO(content), header.job, admit), header.job)
    except _NeedsMemoryError as error:
        return {"status": "needs-memory", "memory": error.memory}, []
    except ImageRejected as error:
        if isinstance(error.__cause__, MemoryError):
            return {"status": "out-of-memory"}, []
        return {"status": "rejected", "code": error.code, "message": str(error)}, []
    except MemoryError:
        return {"status": "out-of-memory"}, []


def _describe(decoded: DecodedFile, job: DecodeJob) -> tuple[dict[str, object], list[bytes]]:
    inputs = [decoded.inputs[rule] for rule in job.rules]
    answer = {
        "status": "decoded",
        "mime": decoded.mime,
        "extension": decoded.extension,
        "width": decoded.width,
        "height": decoded.height,
        "shapes": [list(pixels.shape) for pixels in inputs],
        "thumbnail": len(decoded.thumbnail),
        "capture": decoded.capture,
        "warnings": decoded.warnings,
    }
    body = [pixels.tobytes() for pixels in inputs]
    return answer, [*body, decoded.thumbnail] if decoded.thumbnail else body


def _used_address_space() -> int:
    """Return the bytes of address space that this process uses; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return 0
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
