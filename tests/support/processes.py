"""Commands of ``lookalike`` in processes forked from a warm one, instead of new interpreters."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["tests.support.warm"])


class CommandProcess:
    """A ``lookalike`` command that runs in a forked process, with the interface of ``Popen``."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], stdout: Path, stderr: Path
    ) -> None:
        """Start the command with ``environment`` in the checkout; its output goes to the files."""
        self._command = ["lookalike", *arguments]
        self._stdout, self._stderr = stdout, stderr
        files = (str(stdout), str(stderr))
        self._process = forks.Process(
            target=_run_command, args=(self._command, dict(environment), files), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was printed to stdout and to stderr."""
        self.wait(timeout)
        return self._stdout.read_text(), self._stderr.read_text()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_command(
    *arguments: str, environment: Mapping[str, str], timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its exit code and output."""
    with tempfile.TemporaryDirectory() as directory:
        stdout, stderr = Path(directory) / "stdout", Path(directory) / "stderr"
        process = CommandProcess(*arguments, environment=environment, stdout=stdout, stderr=stderr)
        try:
            returncode = process.wait(timeout)
        finally:
            process.kill()
        printed = process.communicate()
        return subprocess.CompletedProcess(list(arguments), returncode, *printed)


def _run_command(command: list[str], environment: dict[str, str], files: tuple[str, str]) -> None:
    """Become the command: its environment, directory, output and arguments, then its ``main``."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for descriptor, path in enumerate(files, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = command
    # Commands read the environment when they are imported, so import them after the fork.
    from app.cli.main import main

    main()
