"""The peak memory of a process."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """Peak memory of this process since its own program started."""
    # On Linux, ru_maxrss starts at the parent's memory before exec, for example a large pytest's.
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) / 1024
    scale = 1024 if sys.platform == "linux" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
