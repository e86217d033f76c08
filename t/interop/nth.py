"""nth.py -- makes the n-th call of a kind fail in a program that is started under it (see nth.c), and says where that was."""
import errno
import mmap
import re
import struct
import subprocess
from collections import Counter
from pathlib import Path

from parts import TREE, Skipped, check
from shim import ALONE

SOURCE = Path(__file__).with_suffix(".c")
KINDS = re.search(r"enum Kind {(.*?), KINDS", SOURCE.read_text(), re.DOTALL)[1].lower().replace(",", " ").split()
SHORT, EAI_AGAIN, EAI_MEMORY = -1, -3, -10
DISK, ROOM, CALL = [errno.EIO, errno.ENOSPC], [errno.EMFILE, errno.ENFILE], [errno.EINTR]
# What each kind can fail with.
FAULTS = {
    "accept": [errno.EMFILE, errno.ENOMEM, errno.ECONNABORTED, errno.EINTR], "socket": [*ROOM, errno.ENOBUFS], "bind": [errno.EADDRINUSE],
    "listen": [errno.EADDRINUSE], "connect": [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EADDRNOTAVAIL], "setsockopt": [errno.ENOMEM],
    "recv": [errno.ECONNRESET, errno.ENOMEM, errno.EINTR, SHORT], "read": [errno.EIO, errno.EINTR], "pread": [errno.EIO],
    "send": [errno.EPIPE, errno.ENOBUFS, errno.EINTR, errno.EAGAIN, SHORT], "write": [*DISK, errno.EINTR, SHORT], "pwrite": [*DISK, errno.EINTR, SHORT],
    "poll": [errno.ENOMEM, errno.EINTR], "open": [*ROOM, errno.ENOSPC, errno.EACCES], "close": DISK[:1] + CALL, "fsync": DISK, "link": DISK, "rename": DISK,
    "unlink": DISK[:1], "ftruncate": DISK, "fallocate": [errno.ENOSPC, errno.EOPNOTSUPP, errno.EIO], "mkdir": [errno.ENOSPC, errno.EACCES],
    "stat": [errno.EIO, errno.ENOMEM], "fcntl": [errno.ENOLCK, errno.EAGAIN, errno.EMFILE], "mmap": [errno.ENOMEM], "thread": [errno.EAGAIN], "fork": [errno.EAGAIN],
    "pipe": ROOM[:1], "eventfd": ROOM[:1], "epoll": CALL, "watch": [errno.ENOMEM, errno.ENOSPC], "random": CALL + [errno.ENOSYS], "lookup": [EAI_AGAIN, EAI_MEMORY], "malloc": [errno.ENOMEM],
}
HEAD, FAULT, FRAMES = struct.Struct("2i"), struct.Struct("6i"), 32
SECOND = HEAD.size + FAULT.size
WHERE = SECOND + FAULT.size
COUNTS = WHERE + 8 * FRAMES
FOREVER = 1 << 30


def lasting(kind):
    """What a call of that kind can say each time, for a while; that it was interrupted, say, it says once."""
    once = errno.EINTR, errno.ECONNABORTED
    return [fault for fault in FAULTS[kind] if fault not in once and (kind, fault) != ("send", errno.EAGAIN)]


def called(fault):
    return "short" if fault == SHORT else "EAI" if fault < 0 else errno.errorcode[fault]


class Nth:
    def __init__(self, box):
        library, path = box.new("nth.so"), box.new("control")
        try:
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", SOURCE, "-o", library, "-ldl"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as reason:
            raise Skipped(f"the shim needs a C compiler: {reason}") from None
        path.write_bytes(bytes(4096))
        with path.open("r+b") as file:
            self.control = mmap.mmap(file.fileno(), 4096)
        self.under, self.maps = [*ALONE, f"LD_PRELOAD={library}", f"NTH={path}"], []

    def arm(self, kind=None, at=0, fault=0, times=1, second=(None, 0, 0)):
        """From now on calls are counted, and those from the one called `at` fail, `times` of them; and the one called so, counted
        from then on, of the `second` kind."""
        self.control[:] = bytes(4096)
        for place, (name, number, what, most) in ((HEAD.size, (kind, at, fault, times)), (SECOND, (*second, 1))):
            FAULT.pack_into(self.control, place, KINDS.index(name) if name else -1, what, number, most, 0, 0)
        struct.pack_into("i", self.control, 0, 1)

    def disarm(self):
        """How many have failed."""
        struct.pack_into("i", self.control, 0, 0)
        return self.fired()

    def fired(self, place=HEAD.size):
        return FAULT.unpack_from(self.control, place)[5]

    def counts(self):
        """Kind -> calls since arm()."""
        return Counter(dict(zip(KINDS, struct.unpack_from(f"{len(KINDS)}i", self.control, COUNTS))))

    def know(self, pid):
        """Keeps what is where in a process: when it is dead nobody can be asked."""
        lines = re.findall(r"^(\w+)-(\w+) \S+ (\w+) \S+ \S+ +(/.*)$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
        self.maps = [(int(begin, 16), int(end, 16), int(at, 16), path) for begin, end, at, path in lines]

    def where(self):
        """The functions of ours that were under way at the call that failed, innermost first; in a thread that has none the libraries."""
        frames, found, libraries = HEAD.unpack_from(self.control)[1], [], []
        for address in struct.unpack_from(f"{frames}Q", self.control, WHERE)[1:]:
            for begin, end, at, path in self.maps:
                if not begin <= address < end or path.endswith("nth.so"):
                    continue
                if str(TREE) in path:
                    found.append((path, hex(address - 1 - begin + at)))
                else:
                    libraries.append(Path(path).name)
        if not found:
            return list(dict.fromkeys(libraries)) or ["?"]
        done = subprocess.run(["addr2line", "-Cfse", found[0][0], *(at for _, at in found)], capture_output=True, text=True)
        names = [re.sub(r"\(.*|Net::SMTP::|std::__cxx11::", "", name) for name in done.stdout.splitlines()[::2]]
        return [name for name in names if not re.match(r"(std|void std|__gnu|operator new|main|_start)\b", name)][:6]
