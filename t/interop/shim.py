"""shim.py -- makes a program's system calls fail, or its calendar clock jump: what it is to be started under."""
import subprocess
from pathlib import Path

import record
from parts import EXAMPLES, PEERS, Skipped

# A sanitizer's leak check can't be traced, and it wants to be loaded first.
ALONE = ["env", "ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0"]


# clang's sanitizer of threads and faketime both stand before clock_gettime, and ask each other without end.
CLOCK_JUMPS = not (EXAMPLES.parent.name.startswith("clang") and "thread" in EXAMPLES.parent.name)


def tell(told, text):
    """From the next call on; nobody sees half of it."""
    new = told.with_suffix(".new")
    new.write_text(text)
    new.rename(told)


class Shim:
    """What is loaded into a program to make its calls fail, by a file that says so (see shim.c)."""

    def __init__(self, box, *faults):
        source, self.library, self.told = Path(__file__).with_name("shim.c"), box.new("shim.so"), box.new("faults")
        try:
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", source, "-o", self.library, "-ldl"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as reason:
            raise Skipped(f"the shim needs a C compiler: {reason}") from None
        self.tell(*faults)
        self.under = [*ALONE, f"LD_PRELOAD={self.library}", f"SHIM={self.told}"]

    def tell(self, *faults):
        tell(self.told, "".join(f"{fault}\n" for fault in faults))


class Calendar:
    """A calendar clock for programs started under it; what measures durations stays as it is."""

    def __init__(self, box):
        found = list(PEERS.glob("faketime/usr/lib/*/faketime/libfaketimeMT.so.1"))
        if not found:
            raise Skipped("faketime is not under build/peers (see t/interop/peers)")
        record.met("faketime")
        self.told = box.new("clock")
        self.under = [*ALONE, f"LD_PRELOAD={found[0]}", f"FAKETIME_TIMESTAMP_FILE={self.told}", "FAKETIME_NO_CACHE=1",
                      "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]
        self.shift(0)

    def shift(self, seconds):
        """So many seconds before or behind the true time, from now on."""
        tell(self.told, f"{seconds:+}s\n")


def fill(path):
    """A file that takes what its file system has left, to the last octet."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
