"""Decodes images of unknown origin in child processes, each with limits of memory and time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from models.decoding.jobs import DecodedFile, DecodeJob
from models.decoding.process import DecodeProcess, NeedsMemory, ProcessEnded
from models.decoding.turns import Caller, Purpose, Refused, Turn, Turns
from models.imaging import ImageRejected

SMALL_IMAGE = 80 << 20  # bytes that any image may take: 10 megapixels, or most JPEGs of any size
PROCESS_MEMORY = 56 << 20  # bytes of an idle process, with what it keeps for the next file
_MOST_TURNS = 4  # of an image: one that gives way, and more as its estimates grow
_QUICK = 0.25  # seconds that a small image may take before it counts as costly
_ADDRESS_SPACE = 256 << 20  # bytes for everything but pixels


class _GaveWay(Exception):
    """A small image took long while every place for costly ones was taken."""


@dataclass(frozen=True)
class DecodeLimits:
    """What decoding may take. ``memory`` is that of all costly images together, in bytes.

    ``seconds`` is the CPU time of one image; ``slots`` the number of images at a time.
    """

    slots: int
    memory: int
    seconds: float
    max_waiting: int


class DecodePool:
    """Child processes, started when they are needed and replaced when they end. Thread-safe."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._turns = Turns(limits.slots, limits.memory, limits.max_waiting)
        self._reading = Turns(2 * limits.slots, limits.memory, limits.max_waiting)
        self._lock = threading.Lock()
        self._idle: list[DecodeProcess] = []
        self._busy: set[DecodeProcess] = set()
        self._closed = False

    def decode(
        self,
        source: BinaryIO | Callable[[], BinaryIO],
        job: DecodeJob,
        purpose: Purpose,
        caller: Caller | None = None,
    ) -> DecodedFile:
        """Decode a file when its turn has come.

        ``source`` may also be a function that reads the file into memory. A costly image has to
        wait again, perhaps several times, and is read again. Raises ImageRejected, TooManyWaiting,
        Refused, Abandoned, DecoderUnavailable and what ``source`` raises.
        """
        caller = caller or Caller()
        memory: int | None = None
        for _ in range(_MOST_TURNS):
            try:
                return self._decode_in_turn(source, job, purpose, memory, caller)
            except NeedsMemory as error:
                memory = error.memory
            except _GaveWay:
                memory = 0
            if memory > self._limits.memory:
                break
        raise _too_costly(
            f"it takes about {(memory or 0) / 1e6:.0f} MB, and an image may take"
            f" {self._limits.memory / 1e6:.0f} MB (LOOKALIKE_MEMORY_LIMIT)"
        )

    def _decode_in_turn(
        self,
        source: BinaryIO | Callable[[], BinaryIO],
        job: DecodeJob,
        purpose: Purpose,
        memory: int | None,
        caller: Caller,
    ) -> DecodedFile:
        with ExitStack() as stack:
            if callable(source):
                # Reading has turns of its own, so that a slow store does not keep cores idle.
                stack.enter_context(self._reading.take(purpose, memory, caller))
                source = source()
            turn = stack.enter_context(self._turns.take(purpose, memory, caller))
            return self._run_job(source, job, turn)

    def stop(self) -> None:
        """Refuse images that wait or come; those in work go on."""
        self._reading.stop()
        self._turns.stop()

    def close(self) -> None:
        """End all processes; images in work fail."""
        self.stop()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = [*self._busy]
        for process in idle:
            process.close()
        for process in busy:
            process.end()

    def _run_job(self, file: BinaryIO, job: DecodeJob, turn: Turn) -> DecodedFile:
        is_small = turn.memory is None
        allowed = max(turn.memory or 0, SMALL_IMAGE)
        with self._process() as process:
            process.send_job(file, job, allowed, self._limits.seconds)
            started = process.cpu_seconds
            while not process.wait_for_answer(_QUICK):
                is_slow = process.cpu_seconds - started > _QUICK
                if is_small and is_slow and not self._turns.make_costly(turn):
                    raise _GaveWay
                is_small = is_small and not is_slow
            return process.receive_answer()

    @contextmanager
    def _process(self) -> Iterator[DecodeProcess]:
        """Lend a process. One that does not survive the block is an image's fault."""
        process = self._lend()
        try:
            yield process
        except ProcessEnded:
            process.end()
            if self._closed:
                raise Refused from None
            reason = f"it takes over {self._limits.seconds:g} seconds, or more memory than its size"
            raise _too_costly(f"{reason} explains, or it crashes the decoder") from None
        except BaseException as error:
            if not isinstance(error, ImageRejected | NeedsMemory):
                process.end()  # it is in the middle of a job
            raise
        finally:
            self._take_back(process)

    def _lend(self) -> DecodeProcess:
        with self._lock:
            found = next((process for process in self._idle if process.is_alive), None)
            ended = [process for process in self._idle if not process.is_alive]
            self._idle = [process for process in self._idle if process.is_alive]
            if found is not None:
                self._idle.remove(found)
                self._busy.add(found)
        for process in ended:
            process.close()
        if found is not None:
            return found
        started = DecodeProcess(SMALL_IMAGE + self._limits.memory + _ADDRESS_SPACE)
        with self._lock:
            self._busy.add(started)
            if not self._closed:
                return started
        started.close()
        raise Refused

    def _take_back(self, process: DecodeProcess) -> None:
        with self._lock:
            self._busy.discard(process)
            if process.is_alive and not self._closed:
                self._idle.append(process)
                return
        process.close()


def _too_costly(reason: str) -> ImageRejected:
    message = (
        f"The image is too costly to decode: {reason}. Send a smaller version, or save it again in"
        " an image editor."
    )
    return ImageRejected("image-too-costly", message)
