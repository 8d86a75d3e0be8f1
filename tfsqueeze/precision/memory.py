"""How much memory there is, and how much this process holds."""

import os
import resource
import sys
import threading
import time
from pathlib import Path

SHARE = 0.8
EXCEEDED = 77
POLL_SECONDS = 0.003


def available_memory() -> int:
    """Bytes a new process may fill here without harm: 80 % of what is free and allowed."""
    return int(SHARE * min(filter(None, (_free_memory(), _container_memory()))))


def resident_memory() -> int:
    """Bytes of memory this process holds; where the system does not tell, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


class Watch(threading.Thread):
    """Ends the process at once when it holds more than `limit` bytes; keeps the most it held in `peak`."""

    def __init__(self, limit: int):
        super().__init__(daemon=True)
        self.limit, self.peak = limit, 0

    def run(self):
        """Looks every few milliseconds."""
        while True:
            self.peak = max(self.peak, resident_memory())
            if self.peak > self.limit:
                os._exit(EXCEEDED)
            time.sleep(POLL_SECONDS)


def _free_memory() -> int:
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable"))


def _container_memory() -> int | None:
    """What the container this runs in may still take; None where there is no limit."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            return max(int(Path(limit).read_text()) - int(Path(used).read_text()), 1)
        except (OSError, ValueError):
            continue
    return None
