"""queues.py -- servers with a durable queue: our daemon, the least program around the same queue, and the peers."""
import os
import struct
import time
from pathlib import Path

import keepers
import parts
from running import BENCH, EXAMPLES, Loaded, Server, tool

OURS = Path(os.environ.get("OURS", EXAMPLES / "smtpd")).resolve()
BARE = BENCH / "queue_server"
ARRIVALS = BENCH / "queue.arrivals"
PEERS = {"postfix": keepers.Postfix, "opensmtpd": keepers.OpenSMTPD, "exim": keepers.Exim}
WHAT = {
    "smtpd": "our daemon: its queue in SQLite, with all its policies and its log",
    "smtpd-100": "the same, sending to 100 at once instead of 20",
    "bare": "the least program around the same queue: no policy, no log",
    "floor-log": "the same program before a log that is written and synced, and never read: what a store could reach",
    "bare-pg": "the same with its queue in a private PostgreSQL, whose CPU counts too",
    "postfix": "Postfix's smtpd and cleanup; nobody takes the mail out of `incoming`",
    "opensmtpd": "OpenSMTPD, its delivery paused",
    "exim": "Exim, which only queues",
    "postgresql": "the database of bare-pg",
}
# Of 100 sessions at once OpenSMTPD 6.8 leaves some without an answer.
NOT_OFFERED = {("opensmtpd", "100")}


class Ours(Server):
    """A program of ours with its queue in `place`, a folder or a PostgreSQL; without `via` nothing is delivered."""

    def __init__(self, name, place, via=None, database=None, settings=()):
        if name.startswith("smtpd"):
            command = [OURS, "--listen", "127.0.0.1:0", "--hostname", "ours.example.org", "--queue", place, "--trusted",
                       "127.0.0.0/8", "--relay", via or "127.0.0.1:1", "--paused", "false" if via else "true", *settings]
        else:
            command = [BARE, "--queue", database.url if database else f"log:{place}" if name == "floor-log" else place, *(["--via", via] if via else [])]
        began = time.monotonic()
        super().__init__(name, command)
        self.greeted = time.monotonic() - began
        if database:
            self.pids.append(database.pid)


class Peer(Loaded):
    """A peer's instance as the loader sees it; the box that it was made in ends it."""

    def __init__(self, name, instance):
        self.name, self.instance = name, instance
        self.pids, self.address = [instance.pid], instance.address

    def trouble(self):
        return self.instance.trouble() if hasattr(self.instance, "trouble") else []


def start_peer(figures, name, box, *more, **settings):
    """The peer, or nothing when it cannot be had or started."""
    kind = name.partition("-")[0]
    try:
        instance = PEERS[kind](box, *more, **settings)
        figures.version(kind, instance.version.partition(" ")[2])
        return Peer(name, instance)
    except parts.Skipped as reason:
        figures.leave_out(name, str(reason))
    except parts.Failed as reason:
        figures.failed(name, "start", reason)
    return None


def start_database(figures, box):
    """A private PostgreSQL, or nothing."""
    try:
        database = keepers.PostgreSQL(box)
        figures.version("postgresql", database.version.partition(" ")[2])
        return database
    except parts.Skipped as reason:
        figures.leave_out("postgresql", str(reason))
    except parts.Failed as reason:
        figures.failed("postgresql", "start", reason)
    return None


class Boxes:
    """Boxes that are cleared at the end alone: removing ten thousands of files makes a file system slower for who comes
    next."""

    def __init__(self):
        self.all = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for box in self.all:
            box.clear()

    def new(self):
        self.all.append(parts.Box())
        return self.all[-1]


def stop(box):
    """Ends what it has started; its files stay."""
    while box.started:
        box.started.pop().kill()


def fill(place, count, **options):
    """Mail that is due in an hour, spread over a thousand domains, put into the store itself."""
    given = {"due": 3600, "domains": 1000, **options}
    return tool(BENCH / "store_load", "--queue", place, "--fill", count, *[part for name, value in given.items() for part in (f"--{name}", value)],
                seconds=1800)


class NextHop(Server):
    """Counts what comes."""

    def __init__(self):
        ARRIVALS.write_bytes(bytes(24))
        super().__init__("next_hop", [BENCH / "next_hop", "--listen", "127.0.0.1:0", "--arrivals", ARRIVALS])

    def arrived(self):
        return struct.unpack("=QQQ", ARRIVALS.read_bytes())[2]
