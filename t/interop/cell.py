"""cell.py -- a root folder of its own for a peer whose paths and users are compiled in.

The folder is made of symbolic links to the system's files and to those of the peer; users, spool and log are its own,
and its resolver asks files only. The peer runs chrooted there, in a mount and a process namespace of its own: nothing
outside is changed, and when its first process is killed, all of it has ended.
"""
import ctypes
import os
import signal
import socket
import subprocess
from pathlib import Path

import record
from maildir import Maildirs
from parts import PEERS, Late, Skipped, check, free_port, wait_for

UNSHARE = ("/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c")
OWN = ("etc", "var", "run", "tmp", "proc")  # entries of the root folder that are not the system's

# The mounts are seen in the namespace only. $1 is the root folder, $2 the peer's. The shell stays, as the first process:
# who changes its user, as the peers do, is no longer killed when its parent dies.
ENTER = 'mount --rbind / "$1/system" && mount --bind "$2" "$1/peer" && cd "$1" && shift 2 && chroot . "$@"; exit $?'


def killed_with_us():
    """Run in a child before exec: should this suite be killed, the kernel kills the child (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Cell(Maildirs):
    """Runs a program of build/peers/NAME in a small system whose / is `root`; it listens on `port`.

    A class derived from it has `name`, the `users` that the peer insists on, as NAME:UID, and settle(), which writes
    what the peer needs below `root` and returns the command to be run there, in the foreground, and maildirs().
    """
    name, users = "", ()

    def __init__(self, box):
        if os.geteuid() != 0:
            raise Skipped(f"{self.name} must be started by root")
        record.met(self.name)
        self.peer, self.hostname = PEERS / self.name, f"{self.name}.example.org"
        self.greeting = self.hostname.encode()  # or whatever else it is known by when it answers
        if not (self.peer / ".complete").exists():
            raise Skipped(f"{self.name} is not under build/peers (see t/interop/peers)")
        if subprocess.run([*UNSHARE, "mount --bind /tmp /tmp"], stdin=subprocess.DEVNULL, capture_output=True).returncode != 0:
            raise Skipped(f"{self.name} needs a mount namespace, which this system does not allow")
        for _ in range(3):  # the port may be taken from under us
            self.port, self.log, self.root = free_port(), box.new(f"{self.name}.log"), box.new(f"{self.name}.root")
            self.furnish()
            self.process = subprocess.Popen(
                [*UNSHARE, ENTER, "sh", self.root, self.peer, *self.settle()], stdin=subprocess.DEVNULL,
                stdout=self.log.open("ab"), stderr=subprocess.STDOUT, start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}, preexec_fn=killed_with_us)
            box.keep(self)
            if wait_for(f"{self.name} starts", self.greets_or_ended) == "greets":
                return
            box.started.remove(self)
            self.kill()
        raise Late(f"{self.name} does not start")

    def greets_or_ended(self):
        if self.process.poll() is not None:
            return "ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                return "greets" if self.greeting in probe.recv(200) else None
        except OSError:
            return None

    def furnish(self):
        """Makes the root folder."""
        for path in (self.root, *(self.root / name for name in (*OWN, "system", "peer", "var/tmp", "var/log", "var/spool"))):
            path.mkdir(mode=0o755)
        for name in ("tmp", "var/tmp"):
            (self.root / name).chmod(0o1777)
        for path in Path("/").iterdir():
            if path.name not in (*OWN, "usr"):
                (self.root / path.name).symlink_to(os.readlink(path) if path.is_symlink() else f"/system{path}")
        self.furnish_usr()
        self.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n" + "".join(f"{user}:x:{number}:{number}::/var/empty:/bin/false\n"
                                                                       for user, number in self.users))
        self.write("etc/group", "root:x:0:\n" + "".join(f"{user}:x:{number}:\n" for user, number in self.users))
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
        self.write("etc/hosts", f"127.0.0.1 localhost {self.hostname}\n")
        self.write("etc/services", "smtp 25/tcp\nsubmissions 465/tcp\nlmtp 24/tcp\ndomain 53/udp\n")
        self.write("etc/mailname", f"{self.hostname}\n")

    def furnish_usr(self):
        """/usr holds the peer's programs, a shell, and all libraries, the peer's where every loader looks."""
        links = {"usr/bin/sh": "/system/bin/sh"}
        for path in (*Path("/usr").iterdir(), *Path("/usr/lib").iterdir()):
            if path.name not in ("bin", "sbin", "lib", "libexec"):
                links[str(path)[1:]] = f"/system{path}"
        for pattern in ("bin/*", "sbin/*", "libexec/*", "lib/*"):
            for path in (self.peer / "usr").glob(pattern):
                if not path.name.endswith("-linux-gnu"):
                    links[str(path.relative_to(self.peer))] = f"/peer/{path.relative_to(self.peer)}"
        for path in self.peer.glob("usr/lib/*-linux-gnu/*.so*"):
            links[f"usr/lib/{path.name}"] = f"/peer/{path.relative_to(self.peer)}"
        for path, there in links.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).symlink_to(there)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return f"/{name}"

    def folder(self, name, user="root", mode=0o755):
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        number = dict(self.users).get(user, 0)
        os.chown(path, number, number)
        path.chmod(mode)
        return f"/{name}"

    def stop(self):
        check(self.process.poll() is None, f"{self.name} ended by itself")
        self.kill()

    def kill(self):
        """Kills the first process of its namespace, and with that all others; unshare ends when they have."""
        if self.process.poll() is None:
            first = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in first or [self.process.pid]:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:  # it ends just now
                    pass
        self.process.wait()
