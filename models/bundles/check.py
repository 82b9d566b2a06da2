"""Checks a bundle before a service accepts it: its files here, its networks in a child process.

A hostile or a huge network can take any amount of memory and time, or crash the process that
compiles it. The child has limits, and no credentials in its environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.bundles.archive import MAX_BYTES, Bundle, read_bundle
from models.errors import BundleInvalid

MEMORY_LIMIT = 8 << 30  # bytes of address space; a bundle of 855 MB took between 3 and 4 GiB
TIME_LIMIT = 300.0  # seconds
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "OMP_NUM_THREADS")
_NO_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "failed to map")


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle that can be served, and what it costs on one core of this machine.

    Seconds are those of one image and one text. ``memory_bytes`` is the most that a process with
    this encoder alone had in memory.
    """

    bundle: Bundle
    image_seconds: float
    text_seconds: float | None
    memory_bytes: int


def check_bundle(
    path: Path,
    *,
    precision: str = "auto",
    max_bytes: int = MAX_BYTES,
    memory_limit: int = MEMORY_LIMIT,
    time_limit: float = TIME_LIMIT,
) -> CheckedBundle:
    """Check a bundle's files, then run its networks twice in a child process.

    The vectors must have the stated dimension, be finite and of length 1, and be equal for equal
    inputs. ``max_bytes`` limits the files, ``memory_limit`` the child's address space in bytes, and
    ``time_limit`` its time in seconds. Raises BundleInvalid, and OSError if the file cannot be
    read.
    """
    bundle = read_bundle(path, max_bytes)
    return CheckedBundle(bundle, **_try_in_child(path, precision, memory_limit, time_limit))


def _try_in_child(
    path: Path, precision: str, memory_limit: int, time_limit: float
) -> dict[str, Any]:
    """Run ``models.bundles.trial`` with limits; return what it measured. Raises BundleInvalid."""
    command = [sys.executable, "-P", "-m", "models.bundles.trial", str(path), precision]
    command += [str(memory_limit), str(time_limit)]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        child = subprocess.run(  # noqa: S603 - this interpreter and a module of ours
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleInvalid(
            f"{path.name} was not ready to run after {time_limit:g} seconds. Use a smaller network."
        ) from error
    answer = _read_answer(child.stdout)
    if child.returncode != 0 or answer is None:
        raise BundleInvalid(_describe_crash(path, child, memory_limit))
    if "invalid" in answer:
        raise BundleInvalid(answer["invalid"])
    return answer


def _read_answer(output: bytes) -> dict[str, Any] | None:
    """Return the JSON of the last line; OpenVINO may have printed others before."""
    lines = output.decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _describe_crash(
    path: Path, child: subprocess.CompletedProcess[bytes], memory_limit: int
) -> str:
    errors = child.stderr.decode(errors="replace")
    if any(sign in errors for sign in _NO_MEMORY):
        return (
            f"{path.name} needs more memory than the {memory_limit / 1e9:.1f} GB that it may use."
            " Use a smaller network."
        )
    lines = [line for line in errors.splitlines() if line and not line.startswith("note:")]
    last = (lines or [f"exit status {child.returncode}"])[-1]
    return (
        f"The process that tried {path.name} crashed ({last[:300]}). Export the network again, or"
        " use another one."
    )
