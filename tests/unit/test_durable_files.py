"""Files are replaced completely or not at all; digests do not depend on the chunk size."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.durable_files import _flushes, flush_directory, replace_durably, write_durably
from storage.hashing import sha256_of_chunks, sha256_of_file
from tests.support.service import eventually


def test_a_file_is_written_into_directories_that_did_not_exist(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.json"
    write_durably(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["file.json"]


def test_the_target_changes_only_after_the_block(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with replace_durably(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
        assert sha256_of_file(file) == hashlib.sha256(b"new").digest()
    assert target.read_bytes() == b"new"


def test_an_error_in_the_block_leaves_the_target_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), replace_durably(target) as file:  # noqa: PT012
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_while_flushing_leaves_the_target_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_durably(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_bytes_are_on_the_disk_before_the_rename_and_the_rename_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flush(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(f"flush {kind}")
        fsync(descriptor)

    def move(old: Path, new: Path) -> None:
        steps.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", move)
    write_durably(tmp_path / "file", b"new")
    assert steps == ["flush file", "rename", "flush directory"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(b"a much longer half of a file")
    write_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_files_in_one_directory_share_its_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that began before a rename does not count for it, but the next one does for all."""
    flush, running, go_on, flushed = (
        os.fsync,
        threading.Event(),
        threading.Event(),
        list[list[str]](),
    )

    def count(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            names = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".partial")
            flushed.append(names)
            running.set()
            go_on.wait(10)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    with ThreadPoolExecutor(6) as pool:
        writes = [pool.submit(write_durably, tmp_path / "0", b"first")]
        running.wait(10)
        writes += [pool.submit(write_durably, tmp_path / f"{n}", b"more") for n in range(1, 6)]
        assert eventually(lambda: len(list(tmp_path.glob("[0-5]"))) == 6, 10)
        assert eventually(lambda: _flushes[tmp_path].threads == 6, 10)
        assert not any(write.done() for write in writes)
        go_on.set()
        for write in writes:
            write.result(10)
    assert flushed == [["0"], ["0", "1", "2", "3", "4", "5"]]
    assert not _flushes


def test_a_flush_that_fails_is_tried_again_by_those_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go_on, calls = threading.Event(), threading.Event(), list[int]()

    def fail_first(descriptor: int) -> None:
        calls.append(descriptor)
        running.set()
        go_on.wait(10)
        if len(calls) == 1:
            raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail_first)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(flush_directory, tmp_path)
        running.wait(10)
        others = [pool.submit(flush_directory, tmp_path) for _ in range(2)]
        assert eventually(lambda: _flushes[tmp_path].threads == 3, 10)
        go_on.set()
        assert isinstance(first.exception(10), OSError)
        assert [other.exception(10) for other in others] == [None, None]
    assert len(calls) == 2


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_digests_are_those_of_the_whole_content(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    expected = hashlib.sha256(content).digest()
    file = io.BytesIO(content)
    file.read(10)
    assert sha256_of_file(file) == expected
    with tempfile.SpooledTemporaryFile(max_size=100_000) as spooled:
        spooled.write(content)
        assert sha256_of_file(spooled) == expected  # type: ignore[arg-type]
    assert sha256_of_chunks(content[at : at + 7777] for at in range(0, size, 7777)) == expected
