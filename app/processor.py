"""Refuses processors without AVX2, on which NumPy would end the process with SIGILL."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

# The OpenBLAS in NumPy's wheels multiplies with AVX2 and FMA without asking for them. All other
# libraries need less, or ask.
_NEEDS_AVX2 = "numpy"
_REFUSAL = (
    "Error: This processor lacks the AVX2 and FMA instructions that NumPy needs. Use another"
    " computer (nearly all since 2015 have them) or, in a virtual machine, a CPU type that has"
    " them, such as `host`.\n"
)
_CPUINFO = Path("/proc/cpuinfo")
_LEAF_1, _LEAF_7 = 0, 1  # of CPUID, as glibc counts them
_FMA, _AVX2 = 1 << 12, 1 << 5  # in ECX of leaf 1, in EBX of leaf 7


class _Refusal:
    """A finder of modules that ends the process with exit code 2 before NumPy would."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        if name == _NEEDS_AVX2:
            sys.stderr.write(_REFUSAL)
            raise SystemExit(2)
        return None


def refuse_numpy_without_avx2() -> None:
    """Let the import of NumPy end the process with one sentence if the processor has no AVX2.

    Commands that only talk to a service do not import it, and work on any processor.
    """
    if lacks_avx2():
        sys.meta_path.insert(0, _Refusal)


def lacks_avx2() -> bool:
    """Return whether this is an x86-64 processor on which Linux allows no AVX2 or no FMA.

    False on all other systems, and where it cannot be told.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        # sys/platform/x86.h of glibc 2.33 and later
        find_leaf = ctypes.CDLL(None)["__x86_get_cpuid_feature_leaf"]
    except (OSError, AttributeError):
        return _lacks_avx2_in_cpuinfo()
    find_leaf.argtypes = [ctypes.c_uint]
    # EAX, EBX, ECX and EDX of the processor, then the bits of them that the system lets be used
    find_leaf.restype = ctypes.POINTER(ctypes.c_uint * 8)
    ebx, ecx = find_leaf(_LEAF_7).contents[5], find_leaf(_LEAF_1).contents[6]
    return not (ebx & _AVX2 and ecx & _FMA)


def _lacks_avx2_in_cpuinfo() -> bool:
    try:
        flags = re.search(r"^flags\s*:(.*)$", _CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return False
    return flags is not None and not {"avx2", "fma"} <= set(flags[1].split())
