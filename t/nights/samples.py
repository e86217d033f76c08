"""samples.py -- what a process holds (memory, descriptors, threads, files of its queue), and whether that stays flat."""
import os
import time
from pathlib import Path
from typing import NamedTuple

from parts import Failed, check, wait_for

KIB, MIB = 1 << 10, 1 << 20
IDLE_THREADS = 64  # of a listener, at most


class Sample(NamedTuple):
    at: float  # seconds
    memory: int  # octets
    descriptors: int
    threads: int
    files: int = 0  # in its queue
    disk: int = 0  # octets of these


def held_by(server, queue=None):
    """What it holds now; of a program that forks, the parent alone."""
    process = Path(f"/proc/{server.pid}")
    files = []
    for folder, _, names in os.walk(queue or "/nonexistent"):
        for name in names:
            try:
                files.append(os.stat(os.path.join(folder, name)).st_blocks * 512)
            except OSError:
                pass  # gone meanwhile
    return Sample(time.monotonic(), int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
                  len(os.listdir(process / "fd")), len(os.listdir(process / "task")), len(files), sum(files))


def settled(server):
    """What it holds when nothing changes any more; idle threads stay, up to 64 for each listener."""
    def still():
        before = held_by(server)
        time.sleep(0.3)
        after = held_by(server)
        return before[2:] == after[2:] and after
    return wait_for(f"{server.name} is at rest", still)


def returned(server, before):
    """Descriptors are back where they were and threads too, but for what is kept for the next client. Then, what it holds."""
    kept = getattr(server, "kept", 0)
    threads = before.threads + kept + IDLE_THREADS * server.said().count("listening on ")
    wait_for(f"descriptors come back to {before.descriptors} and {kept}", lambda: held_by(server).descriptors <= before.descriptors + kept)
    wait_for(f"threads come back to {threads}", lambda: held_by(server).threads <= threads)
    return held_by(server)


def slope(samples, what):
    """Least squares over the second half: how much a minute."""
    half = samples[len(samples) // 2:]
    mean_at = sum(sample.at for sample in half) / len(half)
    mean = sum(getattr(sample, what) for sample in half) / len(half)
    above = sum((sample.at - mean_at) * (getattr(sample, what) - mean) for sample in half)
    below = sum((sample.at - mean_at) ** 2 for sample in half)
    return 60 * above / below if below else 0.0


class Flat(NamedTuple):
    """How much more a minute is no leak yet, and how much more the last quarter may hold than the second one did at most."""
    a_minute: float
    in_all: float


def flat(samples, limits):
    """Fails where something grows. `limits` has a Flat for each name of Sample that is looked at."""
    quarter = len(samples) // 4
    check(quarter >= 2, "too few samples:", len(samples))
    for what, limit in limits.items():
        values = [getattr(sample, what) for sample in samples]
        grown = min(values[-quarter:]) - max(values[quarter:2 * quarter])
        steep = slope(samples, what)
        if steep > limit.a_minute or grown > limit.in_all:
            raise Failed(f"{what} is not flat: {steep:.0f} a minute ({limit.a_minute:.0f} are allowed), {grown} more at the end: {values}")
