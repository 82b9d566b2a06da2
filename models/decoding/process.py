"""One child process that decodes, as its parent sees it."""

from __future__ import annotations

import json
import math
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO

import numpy as np

from models.capture.limits import check_capture
from models.decoding.jobs import DecodedFile, DecodeJob
from models.decoding.wire import receive_message, send_message, split
from models.decoding.worker import READY, JobHeader
from models.imaging import FORMATS, TRUNCATED, ImageRejected

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG")
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # each arena reserves address space, which is limited
    # The memory of pixels is returned at once. That of files is kept for the next one, because
    # getting 2 MB from the kernel again takes 2 ms.
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_CHUNK = 256 * 1024  # bytes
_MAX_HEADER = 64 * 1024  # bytes
_MAX_BODY = 256 << 20  # bytes; the inputs of all spaces
_START_TIMEOUT = 60.0  # seconds
_TIMEOUT = 30  # seconds until a process that stops in the middle of a message counts as ended
_WALL_CLOCK = 6.0  # times the CPU time that a job may take
_MOST_PIXELS = 1 << 32  # that any format can have
_MOST_MEMORY = 1 << 80  # bytes that the header of any format can claim
_MEDIA_TYPES = set(FORMATS.values())
# What reading an answer raises if the process ended in its middle, or something took it over.
_NO_ANSWER = (
    EOFError,
    OSError,
    LookupError,
    TypeError,
    ValueError,
    OverflowError,  # infinity as a whole number
    RecursionError,  # JSON that is nested deep
)


class DecoderUnavailable(Exception):
    """No process can be started that decodes."""


class ProcessEnded(Exception):
    """The process ended before it answered: it reached a limit, or its decoder crashed."""


class NeedsMemory(Exception):
    """The image needs ``memory`` bytes, more than its job may take. Nothing was decoded."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.memory = memory


class DecodeProcess:
    """Runs one job at a time in a child process. Not thread-safe."""

    def __init__(self, address_space: int) -> None:
        """Start the process, which may take ``address_space`` bytes more than it starts with.

        Its environment holds no credentials. Returns once it is ready. Raises DecoderUnavailable.
        """
        try:
            self._start(address_space)
        except OSError as error:
            raise DecoderUnavailable(f"it cannot be started: {error.strerror}") from error
        with suppress(EOFError, OSError, ValueError):
            if self._poll(_START_TIMEOUT) and receive_message(self._socket, 64, 0)[0] == READY:
                return
        self.close()
        raise DecoderUnavailable(f"it ended at its start, with status {self._child.returncode}")

    def _start(self, address_space: int) -> None:
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _TIMEOUT, 0))
        command = [sys.executable, "-P", "-m", "models.decoding.worker"]
        command += [str(theirs.fileno()), str(address_space)]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with ExitStack() as stack, theirs:
            stack.enter_context(ours)
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter and a module of ours
                command,
                env=environment | _ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # hostile images make the decoders print
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C ends the parent, which ends its children
            )
            stack.pop_all()  # the socket stays open from here on
        self._socket = ours

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the process has taken; on macOS, the time that has passed instead."""
        # The clock of another process: see MAKE_PROCESS_CPUCLOCK in Linux' posix-timers.h.
        clock = (~self._child.pid << 3) | 2
        try:
            return time.clock_gettime(clock)
        except OSError:
            return time.monotonic()

    def send_job(self, file: BinaryIO, job: DecodeJob, memory: int, seconds: float) -> None:
        """Send a job with its limits in bytes and in seconds of CPU time. Raises ProcessEnded."""
        self._job = job
        self._deadline = time.monotonic() + seconds * _WALL_CLOCK
        header = pickle.dumps(JobHeader(job, memory, seconds))
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            send_message(self._socket, header, length, iter(lambda: file.read(_CHUNK), b""))
        except OSError as error:
            raise ProcessEnded from error

    def wait_for_answer(self, seconds: float) -> bool:
        """Wait until the process has answered or ended; return False if ``seconds`` pass before.

        Raises ProcessEnded if the job takes too long.
        """
        if self._poll(seconds):
            return True
        if time.monotonic() > self._deadline:
            raise ProcessEnded
        return False

    def _poll(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def receive_answer(self) -> DecodedFile:
        """Return what the job made. Raises ImageRejected, NeedsMemory, ProcessEnded."""
        try:
            header, body = receive_message(self._socket, _MAX_HEADER, _MAX_BODY)
            answer = json.loads(bytes(header))
            status = answer["status"]
            if status == "decoded":
                return self._read_decoded(answer, body)
            if status == "rejected":
                raise ImageRejected(_text(answer["code"], 64), _text(answer["message"], 1000))
            if status == "needs-memory" and 0 < (memory := int(answer["memory"])) < _MOST_MEMORY:
                raise NeedsMemory(memory)
        except _NO_ANSWER as error:
            raise ProcessEnded from error
        raise ProcessEnded  # it ran out of memory

    def _read_decoded(self, answer: dict[str, Any], body: memoryview) -> DecodedFile:
        media_type = str(answer["mime"]), str(answer["extension"])
        size = int(answer["width"]), int(answer["height"])
        shapes = [tuple(int(side) for side in shape) for shape in answer["shapes"]]
        rules, warnings = self._job.rules, answer["warnings"]
        valid = (
            media_type in _MEDIA_TYPES
            and warnings in ([], [TRUNCATED])
            and min(size) > 0
            and math.prod(size) <= (self._job.accept.max_pixels or _MOST_PIXELS)
            and shapes == [rule.shape for rule in rules]
        )
        if not valid:
            raise ValueError("not an answer of the worker")
        lengths = [math.prod(shape) for shape in shapes]
        *pixels, thumbnail = split(body, [*lengths, int(answer["thumbnail"])])
        inputs = {
            rule: np.frombuffer(part, np.uint8).reshape(shape)
            for rule, part, shape in zip(rules, pixels, shapes, strict=True)
        }
        capture = check_capture(answer["capture"]) if self._job.capture else None
        return DecodedFile(*media_type, *size, inputs, bytes(thumbnail), capture, tuple(warnings))

    def end(self) -> None:
        """Kill the process, and wait until it has ended. A call under way raises ProcessEnded."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """End the process, and free what belongs to it."""
        self.end()
        self._socket.close()


def _text(value: object, length: int) -> str:
    """Return a text of limited length that can be sent on. Raises ValueError."""
    text = str(value)[:length]
    text.encode()  # half a surrogate pair cannot be sent
    return text
