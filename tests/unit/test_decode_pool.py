"""The processes that decode: their limits, their end, and what they may answer."""

from __future__ import annotations

import io
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from app.bootstrap import plan_decoding
from app.settings import Settings
from models.bundles.framing import Framing
from models.bundles.manifest import ImageTower
from models.decoding import process as process_module
from models.decoding.jobs import DecodedFile, DecodeJob
from models.decoding.pool import DecodeLimits, DecodePool
from models.decoding.process import (
    DecodeProcess,
    DecoderUnavailable,
    NeedsMemory,
    ProcessEnded,
)
from models.decoding.turns import Purpose, Refused
from models.decoding.wire import send_message
from models.imaging import Acceptance, Box, ImageRejected
from models.transforms import CentreSquare
from tests.support.images import encoded, jpeg_of_several_scans, photograph, plain_jpeg
from tests.support.jpeg_xl import jpeg_xl_of_pixels
from tests.support.processes import ROOT
from tests.support.service import eventually

_MIB = 1 << 20
_JOB = DecodeJob((CentreSquare(),))
_PHOTOGRAPH = encoded(photograph("coffee"))


def flat_png(side: int) -> bytes:
    """Return a small file of ``side`` x ``side`` pixels, which takes 8 bytes a pixel to decode."""
    return encoded(Image.new("RGBA", (side, side), (200, 10, 10, 100)), "PNG")


def open_pool(seconds: float = 5.0, memory: int = 200 * _MIB) -> DecodePool:
    return DecodePool(DecodeLimits(slots=1, memory=memory, seconds=seconds, max_waiting=8))


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    pool = open_pool()
    yield pool
    pool.close()


@pytest.fixture
def large_pool() -> Iterator[DecodePool]:
    pool = open_pool(memory=400 * _MIB)
    yield pool
    pool.close()


def decode(pool: DecodePool, content: bytes) -> DecodedFile:
    return pool.decode(io.BytesIO(content), _JOB, Purpose.SEARCH)


def pid_of(pool: DecodePool) -> int:
    (process,) = pool._idle
    return process._child.pid


def count_page_faults(pid: int) -> int:
    """Return how many pages of memory the process has been given so far."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def refusal(pool: DecodePool, content: bytes) -> str:
    with pytest.raises(ImageRejected) as caught:
        decode(pool, content)
    assert caught.value.code == "image-too-costly"
    return str(caught.value)


def test_a_large_image_of_several_scans_is_decoded(pool: DecodePool) -> None:
    decoded = decode(pool, jpeg_of_several_scans(4000))
    assert (decoded.width, decoded.height) == (4000, 4000)


def test_a_process_is_used_again(pool: DecodePool) -> None:
    decode(pool, _PHOTOGRAPH)
    first = pid_of(pool)
    with pytest.raises(ImageRejected, match="empty"):
        decode(pool, b"")
    decode(pool, _PHOTOGRAPH)
    assert pid_of(pool) == first


def test_a_process_uses_the_memory_of_one_file_again_for_the_next(pool: DecodePool) -> None:
    content = _PHOTOGRAPH + bytes(2 * _MIB)
    for _ in range(3):
        decode(pool, content)
    mapped = count_page_faults(pid_of(pool))
    decode(pool, content)
    assert count_page_faults(pid_of(pool)) - mapped < len(content) // resource.getpagesize() // 2


def test_a_costly_image_is_decoded_with_the_memory_it_needs(pool: DecodePool) -> None:
    assert decode(pool, flat_png(4000)).width == 4000


def test_an_image_is_decoded_whose_file_is_large(large_pool: DecodePool) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((2500, 2500, 3), np.float32), photometric="rgb")
    assert len(file.getvalue()) > 70 * _MIB
    for _ in range(2):
        assert decode(large_pool, file.getvalue()).width == 2500


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_large_jpeg_xl_is_decoded_with_the_memory_it_needs(
    kind: str, large_pool: DecodePool
) -> None:
    most = 1 if kind == "f4" else np.iinfo(kind).max
    pixels = np.random.default_rng(1).random((2000, 2000, 3)) * most
    content = jpeg_xl_of_pixels(pixels.astype(kind), lossless=True, effort=1)
    for _ in range(2):
        assert decode(large_pool, content).width == 2000


def test_a_truncated_image_is_decoded_that_needs_more_memory_for_its_pixels_than_for_its_end(
    large_pool: DecodePool,
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    image = Image.fromarray(noise).resize((4500, 4500))
    content = encoded(image, "JPEG", progressive=True)[:-20]
    job = replace(_JOB, box=Box(0, 0, 100, 100), accept=Acceptance(truncated=True))
    decoded = large_pool.decode(io.BytesIO(content), job, Purpose.SEARCH)
    assert (decoded.width, decoded.warnings) == (4500, ("truncated",))


def test_a_process_that_always_asks_for_more_memory_is_not_asked_for_ever(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = itertools.count(1)

    def ask_for_more(process: DecodeProcess) -> DecodedFile:
        raise NeedsMemory(next(claims))

    monkeypatch.setattr(DecodeProcess, "receive_answer", ask_for_more)
    assert "it takes about" in refusal(pool, _PHOTOGRAPH)
    assert next(claims) < 10


def test_an_image_that_needs_more_memory_than_there_is_is_refused(pool: DecodePool) -> None:
    assert "LOOKALIKE_MEMORY_LIMIT" in refusal(pool, flat_png(6000))
    assert decode(pool, _PHOTOGRAPH).width == 600


_PHONE = DecodeJob((CentreSquare(),), accept=Acceptance(max_pixels=200_000_000))


@pytest.mark.parametrize("size", [(12_000, 9_000), (16_320, 12_240)], ids=["108 MP", "200 MP"])
def test_the_photographs_of_phones_fit_into_the_default_memory(size: tuple[int, int]) -> None:
    pool = DecodePool(plan_decoding(Settings(slots=1, _env_file=None)))
    try:
        file = io.BytesIO(plain_jpeg(*size))
        decoded = pool.decode(file, _PHONE, Purpose.SEARCH)
        assert (decoded.width, decoded.height) == size
        progressive = io.BytesIO(plain_jpeg(*size, frame=0xC2))
        with pytest.raises(ImageRejected, match="LOOKALIKE_MEMORY_LIMIT") as caught:
            pool.decode(progressive, _PHONE, Purpose.SEARCH)
        assert caught.value.code == "image-too-costly"
    finally:
        pool.close()


@pytest.mark.parametrize("cut", [0, 2], ids=["whole", "without an end"])
def test_a_file_that_is_larger_than_its_pixels_is_decoded(pool: DecodePool, cut: int) -> None:
    comment = b"\xff\xfe\xff\xff" + bytes(65_533)
    content = _PHOTOGRAPH[:2] + comment * 1000 + _PHOTOGRAPH[2 : len(_PHOTOGRAPH) - cut]
    assert decode(pool, content).width == 600


def test_an_image_that_takes_too_long_is_refused_and_the_process_replaced() -> None:
    pool = open_pool(seconds=0.02)
    try:
        assert "over 0.02 seconds" in refusal(pool, flat_png(4000))
        assert decode(pool, encoded(photograph("coffee").resize((64, 64)))).width == 64
    finally:
        pool.close()


def test_an_image_that_takes_more_memory_than_its_size_explains_is_refused(
    pool: DecodePool,
) -> None:
    decode(pool, _PHOTOGRAPH)
    limits = Path(f"/proc/{pid_of(pool)}/limits").read_text()
    hard = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert int(hard.split()[4]) < 1000 * _MIB


def test_a_process_that_is_killed_at_work_costs_only_its_image(pool: DecodePool) -> None:
    decode(pool, _PHOTOGRAPH)
    pid = pid_of(pool)

    def read() -> io.BytesIO:  # the image's turn has come, and its process is still idle
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
        return io.BytesIO(_PHOTOGRAPH)

    with pytest.raises(ImageRejected) as caught:
        pool.decode(read, _JOB, Purpose.SEARCH)
    assert caught.value.code == "image-too-costly"
    decode(pool, _PHOTOGRAPH)
    assert pid_of(pool) != pid


def test_a_process_that_ends_while_it_is_idle_is_replaced(pool: DecodePool) -> None:
    decode(pool, _PHOTOGRAPH)
    ended = pid_of(pool)
    pool._idle[0].end()
    decode(pool, _PHOTOGRAPH)
    assert pid_of(pool) != ended


def test_the_processes_know_no_credentials(
    pool: DecodePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKALIKE_API_KEYS", "admin:geheim")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    decode(pool, _PHOTOGRAPH)
    assert b"geheim" not in Path(f"/proc/{pid_of(pool)}/environ").read_bytes()


def test_closing_ends_the_processes_and_what_they_work_on(pool: DecodePool) -> None:
    decode(pool, _PHOTOGRAPH)
    process = pool._idle[0]
    os.kill(process._child.pid, signal.SIGSTOP)
    refused: list[Exception] = []

    def work() -> None:
        try:
            decode(pool, _PHOTOGRAPH)
        except Refused as error:
            refused.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert eventually(lambda: process in pool._busy)
    pool.close()
    thread.join(10)
    assert refused
    assert not process.is_alive


def test_the_processes_end_with_their_parent() -> None:
    program = (
        "import io, sys, time\n"
        "from tests.unit import test_decode_pool as test\n"
        "pool = test.open_pool(); test.decode(pool, test._PHOTOGRAPH)\n"
        "print(test.pid_of(pool), flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert eventually(lambda: not _is_running(pid))


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_process_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecoderUnavailable, match="No such file"):
        DecodeProcess(100 * _MIB)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DecoderUnavailable, match="status 1"):
        DecodeProcess(100 * _MIB)


_TINY = Framing(ImageTower("image.onnx", 8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
_TINY_JOB = DecodeJob((_TINY,))
_PIXELS = bytes(range(8 * 8 * 3))
_ANSWER = {
    "status": "decoded",
    "mime": "image/png",
    "extension": "png",
    "width": 4,
    "height": 4,
    "shapes": [[8, 8, 3]],
    "thumbnail": 0,
    "warnings": [],
    "capture": None,
}


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        b"[]",
        b'{"status": "unknown"}',
        _ANSWER | {"mime": "text/html"},
        _ANSWER | {"extension": "../../x"},
        _ANSWER | {"width": -4},
        _ANSWER | {"width": 10**9},
        _ANSWER | {"shapes": []},
        _ANSWER | {"shapes": [[8, 8, 3], [8, 8, 3]]},
        _ANSWER | {"shapes": [[8, 6, 4]]},
        _ANSWER | {"shapes": [[4, 16, 3]]},
        _ANSWER | {"shapes": [[-8, -8, 3]]},
        _ANSWER | {"shapes": [["2", None, 3]]},
        _ANSWER | {"thumbnail": 5},
        _ANSWER | {"thumbnail": -1},
        _ANSWER | {"warnings": ["<b>unknown</b>"]},
        _ANSWER | {"warnings": {"truncated": 1}},
        b"[" * 60_000,
        {"status": "needs-memory", "memory": float("inf")},
        {"status": "needs-memory", "memory": -(10**12)},
        {"status": "needs-memory", "memory": 10**400},
        {"status": "rejected", "code": "\ud800", "message": "It has no message."},
        {"status": "rejected", "code": "invalid-image", "message": "\ud800"},
    ],
    ids=lambda answer: repr(answer)[:60],
)
def test_a_process_that_was_taken_over_is_not_believed(answer: bytes | dict[str, object]) -> None:
    process = DecodeProcess(100 * _MIB)
    try:
        process.send_job(io.BytesIO(_PHOTOGRAPH), _TINY_JOB, 50 * _MIB, 5)
        process._socket.close()
        process._socket, theirs = socket.socketpair()
        header = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        send_message(theirs, header, len(_PIXELS), [_PIXELS])
        theirs.close()
        with pytest.raises(ProcessEnded):
            process.receive_answer()
    finally:
        process.close()


@pytest.mark.parametrize(
    "capture",
    [
        None,
        [],
        {"camera": "x" * 300},
        {"camera": "\ud800"},
        {"camera": "<b>\u0000"},
        {"time": 1e400},
        {"gps": {"latitude": 1e400, "longitude": 0.0}},
        {"keywords": ["x"] * 200},
        {"__class__": "x"},
        {"caption": "\U0001f600" * 2000, "keywords": ["x" * 100, "y" * 100]},
    ],
    ids=lambda capture: repr(capture)[:60],
)
def test_metadata_of_a_process_that_was_taken_over_are_not_believed(capture: object) -> None:
    with pytest.raises(ProcessEnded):
        answer_of_a_process(replace(_TINY_JOB, capture=True), _ANSWER | {"capture": capture})


def test_metadata_that_were_not_asked_for_are_dropped() -> None:
    said = {"capture": {"camera": "Canon"}}
    assert answer_of_a_process(_TINY_JOB, _ANSWER | said).capture is None
    asked = replace(_TINY_JOB, capture=True)
    assert answer_of_a_process(asked, _ANSWER | said).capture == {"camera": "Canon"}


def answer_of_a_process(job: DecodeJob, answer: dict[str, object]) -> DecodedFile:
    """Return what the parent makes of an answer to a job."""
    process = DecodeProcess(100 * _MIB)
    try:
        process.send_job(io.BytesIO(_PHOTOGRAPH), job, 50 * _MIB, 5)
        process._socket.close()
        process._socket, theirs = socket.socketpair()
        send_message(theirs, json.dumps(answer).encode(), len(_PIXELS), [_PIXELS])
        theirs.close()
        return process.receive_answer()
    finally:
        process.close()


def test_a_process_that_stops_in_the_middle_of_its_answer_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_module, "_TIMEOUT", 1)
    process = DecodeProcess(100 * _MIB)
    try:
        os.kill(process._child.pid, signal.SIGSTOP)
        process._socket.shutdown(socket.SHUT_WR)
        with pytest.raises(ProcessEnded):
            process.receive_answer()
    finally:
        process.close()


def test_the_pixels_are_those_that_the_process_sent() -> None:
    process = DecodeProcess(100 * _MIB)
    try:
        process.send_job(io.BytesIO(_PHOTOGRAPH), _TINY_JOB, 50 * _MIB, 5)
        process._socket.close()
        process._socket, theirs = socket.socketpair()
        send_message(theirs, json.dumps(_ANSWER).encode(), len(_PIXELS), [_PIXELS])
        theirs.close()
        pixels = process.receive_answer().inputs[_TINY]
        assert np.array_equal(pixels, np.arange(8 * 8 * 3).reshape(8, 8, 3))
    finally:
        process.close()
