"""A processor without AVX2 is refused in words; emulated processors show it."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import processor
from tests.support.system_packages import require

ROOT = Path(__file__).parents[2]
x86_64_only = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the emulated processor runs this Python"
)


def emulate(model: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments on an emulated processor."""
    emulator = str(require("qemu-user").with_name("qemu-x86_64"))
    command = [emulator, "-cpu", model, sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@x86_64_only
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("Nehalem", ("-m", "app.cli", "serve")),
        ("IvyBridge", ("-m", "app.cli", "worker")),
        ("Haswell,-fma", ("api.py",)),
    ],
)
def test_a_processor_without_avx2_is_refused_with_one_sentence(
    model: str, arguments: tuple[str, ...]
) -> None:
    done = emulate(model, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    said = [line for line in done.stderr.splitlines() if "warning: TCG" not in line]
    assert len(said) == 1
    assert said[0].startswith("Error: This processor lacks the AVX2 and FMA instructions")


@x86_64_only
@pytest.mark.slow
def test_the_commands_that_ask_a_service_run_on_any_processor() -> None:
    done = emulate("core2duo", "-m", "app.cli", "spaces", "list", "--url", "http://127.0.0.1:9")
    assert "does not answer" in done.stderr
    assert "AVX" not in done.stderr


@x86_64_only
@pytest.mark.slow
def test_a_processor_with_avx2_multiplies() -> None:
    script = (
        "import app, numpy as np\n"
        "for kind in (np.float32, np.float64):\n"
        "    matrix, vector = np.ones((99, 99), kind), np.ones(99, kind)\n"
        "    print(vector @ vector, (matrix @ vector)[0], (matrix @ matrix)[0, 0])"
    )
    done = emulate("Haswell", "-c", script)
    assert (done.returncode, done.stdout) == (0, "99.0 99.0 99.0\n" * 2), done.stderr


@pytest.fixture
def old_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the C library be one that does not know of processors, on x86-64 and Linux."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: _Library())
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")


class _Library:
    def __getitem__(self, name: str) -> Any:
        raise AttributeError(name)


@pytest.mark.usefixtures("old_library")
@pytest.mark.parametrize(
    ("cpuinfo", "lacks"),
    [
        ("processor\t: 0\nflags\t\t: fpu fma sse4_2 avx avx2\n", False),
        ("processor\t: 0\nflags\t\t: fpu fma avx\nbugs\t: avx2\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx avx2\n", True),
        ("processor\t: 0\n", False),
    ],
)
def test_an_older_c_library_leaves_the_kernel_to_tell(
    cpuinfo: str, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(processor, "_CPUINFO", path)
    assert processor.lacks_avx2() is lacks


@pytest.mark.usefixtures("old_library")
def test_what_cannot_be_told_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "none")
    assert not processor.lacks_avx2()


@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64")]
)
def test_no_other_system_is_refused(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("nothing is asked"))
    assert not processor.lacks_avx2()
