"""The system packages that some tests need and that no Python package provides.

``make system-packages`` installs them. Tests whose packages are missing are skipped, and one line
at the end of the run names the packages. With ``CI=true`` these tests fail instead.

``python -m tests.support.system_packages`` prints the names of those that are missing.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

_LIBRARIES = Path("/usr/lib")
_MISSING = re.compile(r"the system package (\S+) is not installed")


def _find_program(name: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        path = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
        found = shutil.which(name, path=path)
        return Path(found) if found else None

    return find


_FINDERS: dict[str, Callable[[], Path | None]] = {
    "mariadb-server": _find_program("mariadbd"),
    "chromium": _find_program("chromium"),
    "qemu-user": _find_program("qemu-x86_64"),
    "libfaketime": lambda: next(_LIBRARIES.glob("*/faketime/libfaketime.so.1"), None),
}


def find(package: str) -> Path | None:
    """Return the program or library of a package, or None if the package is not installed."""
    return _FINDERS[package]()


def missing_message(package: str) -> str:
    return f"the system package {package} is not installed: run `make system-packages` as root"


def require(package: str) -> Path:
    """Return the program or library of a package. Skips the test without it; fails it in CI."""
    path = find(package)
    if path is None:
        skip_or_fail(missing_message(package))
    return path


def skip_or_fail(reason: str) -> None:
    """Skip the test, or fail it if ``CI=true``."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def summarize_skipped(reasons: Iterable[str]) -> str | None:
    """Return one line about tests that were skipped because packages are missing, or None."""
    counts = Counter(match[1] for reason in reasons if (match := _MISSING.search(reason)))
    if not counts:
        return None
    packages = ", ".join(f"{package} ({count})" for package, count in sorted(counts.items()))
    return (
        f"{counts.total()} tests were skipped because system packages are missing: {packages}."
        " Run `make system-packages` as root to install them."
    )


if __name__ == "__main__":
    sys.stdout.write(" ".join(package for package in _FINDERS if find(package) is None))
