"""The number of processor cores that this process may use.

The service, the stores and the networks size their thread pools by it. The module imports nothing
of ``storage``, so ``models`` may use it too.
"""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the number of cores this process may run on, at least 1.

    The affinity mask counts where the platform has one (``taskset``, ``docker --cpuset-cpus``);
    a CPU quota of a container does not.
    """
    process_cpu_count = getattr(os, "process_cpu_count", None)  # from Python 3.13
    if process_cpu_count is not None:
        return process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
