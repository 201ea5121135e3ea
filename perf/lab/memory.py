"""What the first touch of memory costs here, measured by touching a lot of it once.

On a virtual machine the host gives a page when the guest first touches it, and takes freed ones
back after a while. A GiB cost 3 s on one such machine where the host had to find its pages, and
0.37 s where it had them. Servers that grow while they are measured pay that; so a series touches
memory before its first run, and keeps the figure beside its results.
"""

from __future__ import annotations

import mmap
import time

GIB = 1 << 30
PAGE = mmap.PAGESIZE
# Left to everything else; a touch must not make anything be swapped or killed.
KEPT_FREE = 2 * GIB


def before_series(gib: int) -> float | None:
    """Touches memory before the first run of a series, and says what it took."""
    took = touch(gib)
    said = "not measured" if took is None else f"{took:.2f} s per GiB"
    print(f"first touch of memory: {said}", flush=True)
    return took


def touch(gib: int) -> float | None:
    """Seconds per GiB of writing to each page of `gib` GiB once, or of what can be spared; `None`
    if that is less than one."""
    spare = (available_bytes() - KEPT_FREE) // GIB
    rounds = min(gib, spare)
    if rounds < 1:
        return None
    begun = time.monotonic()
    areas = []
    for _ in range(rounds):
        area = mmap.mmap(-1, GIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        area[::PAGE] = b"\x01" * (GIB // PAGE)
        areas.append(area)
    seconds = time.monotonic() - begun
    # All at the end: a page that was given back at once would be touched twice.
    for area in areas:
        area.close()
    return round(seconds / rounds, 3)


def available_bytes() -> int:
    """What can be used without swapping, as the kernel estimates it."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return available_of(lines.read())


def available_of(meminfo: str) -> int:
    """The same, of the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise ValueError("no MemAvailable in /proc/meminfo")
