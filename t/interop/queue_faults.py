"""queue_faults.py -- the daemon while its machine fails it: no room, no fsync, a database that others hold, no descriptors.
Senders hear 452 or 451, their sessions go on, and when the cause has gone all is well again by itself.

Each case ends with the account: nothing that was promised is lost. The control is forgetful.py, which promises all the same.
"""
import os
import resource
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

from ledger import STALL, Ledger, numbered
from parts import EXAMPLES, PATIENCE, Skipped, case, check, equal, smtp, wait_for
from queued import SMTPD, WRONG, Account, Clients, caught, end, hand_in, start
from shim import Shim, fill

BERT, CARL = "bert@example.test", "carl@example.test"
SMALL, LARGE = 2000, 300 << 10

# A disk that only the daemon sees: $0 is where, $1 how it is mounted.
ON_A_DISK = 'mkdir -p "$0" && mount -t tmpfs -o "$1" interop "$0" && shift && exec "$@"'


def mixed(number):
    return [BERT, CARL][:1 + number % 2], numbered(LARGE if number % 4 == 0 else SMALL)


class Disk:
    """A small file system of its own for a daemon's queue."""

    def __init__(self, box, how="size=120m,nr_inodes=2k"):
        if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
            raise Skipped("a disk of one's own needs root and a mount namespace")
        self.where = box.new("disk")
        self.under = ["unshare", "--mount", "sh", "-c", ON_A_DISK, self.where, how]

    def seen_by(self, daemon):
        self.path = Path(f"/proc/{daemon.pid}/root{self.where}")
        self.enter = ["nsenter", f"--mount=/proc/{daemon.pid}/ns/mnt"]

    def fill(self):
        fill(self.path / "filler")

    def fill_inodes(self):
        (self.path / "fillers").mkdir()
        number = 0
        try:
            while True:
                (self.path / f"fillers/{number}").touch()
                number += 1
        except OSError:
            pass

    def free(self):
        (self.path / "filler").unlink(missing_ok=True)
        shutil.rmtree(self.path / "fillers", ignore_errors=True)


def not_now(session, clients, of_them):
    """A mail of each of these sizes is put off, and the session goes on. Returns what was said."""
    said = []
    for size in of_them:
        clients.number += 1
        sender, octets = f"{clients.prefix}{clients.number}@example.org", numbered(size)
        clients.sent[sender] = (BERT,)
        code, text = hand_in(session, sender, [BERT], octets)
        if code == 250:
            clients.promised[sender] = (BERT,)
        else:
            clients.refused[sender] = code, text
        said.append(code)
        equal(session.noop()[0], 250, "NOOP")
    return said


def well_again(session, clients):
    """The session, and a new one, get mails of both kinds taken."""
    wait_for("mail is taken again", lambda: not_now(session, clients, [SMALL]) == [250] or time.sleep(0.2))
    wait_for("large mail is taken again", lambda: not_now(session, clients, [LARGE]) == [250] or time.sleep(0.2))
    with smtp(int(session.sock.getpeername()[1])) as another:
        equal(not_now(another, clients, [SMALL, LARGE]), [250, 250], "replies to a new session")


def delivered(clients, hop, daemon, under=(), ambiguous=()):
    """All of it, once; `ambiguous` senders heard 4xx because nobody could know."""
    try:
        wait_for("what was promised arrives", lambda: clients.pairs() <= hop.seen().keys())
        wait_for("the queue is empty", lambda: daemon.stats(under)["messages"] == 0)
    finally:
        account = Account(clients, hop)
        account.unwanted = {pair for pair in account.unwanted if pair[0] not in ambiguous}
        account.nothing_lost()
        account.nothing_twice()
    print(f"        {account}; {len(clients.refused)} put off")


def on_a_full_disk(box, program, fill):
    """The daemon's disk is full while its mail is on its way, and free again."""
    disk, hop = Disk(box), Ledger(box, connect=STALL)
    daemon = start(box, program, under=disk.under, queue=disk.where, relay=f"127.0.0.1:{hop.port}", maxrelay=20)
    disk.seen_by(daemon)
    clients = Clients(daemon.port, 4, mixed, limit=24)
    clients.join()
    equal(len(clients.promised), 24, "mails taken before")
    with smtp(daemon.port) as session:
        fill(disk)  # what the store has set aside for itself may still hold small mails
        said = not_now(session, clients, [SMALL, LARGE, SMALL, LARGE, SMALL])
        check(set(said[1::2]) <= {451, 452} and set(said) <= {250, 451, 452}, "while there was no room the sender heard", said)
        hop.let_go()
        wait_for("what is there goes out all the same", lambda: len(hop.seen()) >= 1)
        disk.free()
        well_again(session, clients)
    delivered(clients, hop, daemon, disk.enter)


@case("smtpd on a full disk: 452 or 451 and the session goes on; when there is room again all is taken and delivered once")
def full(box):
    on_a_full_disk(box, SMTPD, Disk.fill)


@case("smtpd's log on a full disk: mail is taken all the same, and the log goes on when there is room again")
def full_log(box):
    disk = Disk(box)
    daemon = start(box, SMTPD, under=disk.under, trusted="127.0.0.0/8", log=f"{disk.where}/log", paused="true")
    disk.seen_by(daemon)
    log = disk.path / "log"

    def send(number):
        with smtp(daemon.port) as session:
            said = [hand_in(session, "anna@example.org", [BERT], numbered(SMALL))[0] for _ in range(number)]
        equal(set(said), {250}, "what the sender heard")
    send(1)
    wait_for("the mail is in the log", lambda: b"event=queued" in log.read_bytes())
    disk.fill()
    send(40)  # more than what is left of its last page
    disk.free()
    size = log.stat().st_size
    send(1)
    wait_for("it goes on", lambda: b"event=queued" in log.read_bytes()[size:])
    check(all(line.startswith(b"time=") for line in log.read_bytes()[size:].splitlines()[1:]), "torn lines:", log.read_bytes()[size:])


@case("smtpd on a disk without inodes: 452 or 451, and well again by itself; nothing lost, nothing twice")
def no_inodes(box):
    disk, hop = Disk(box), Ledger(box)
    daemon = start(box, SMTPD, under=disk.under, queue=disk.where, relay=f"127.0.0.1:{hop.port}")
    disk.seen_by(daemon)
    clients = Clients(daemon.port, 4, mixed, limit=12)
    clients.join()
    with smtp(daemon.port) as session:
        disk.fill_inodes()
        said = not_now(session, clients, [LARGE, SMALL, LARGE, SMALL])
        check(set(said) <= {250, 451, 452} and {451, 452} & {said[0], said[2]}, "without inodes the sender heard", said)
        disk.free()
        well_again(session, clients)
    delivered(clients, hop, daemon, disk.enter)


@case("smtpd whose queue has filled its disk by itself: what does not fit hears 452 or 451, the rest goes out and makes room")
def filled_by_itself(box):
    disk, hop = Disk(box), Ledger(box, connect=STALL)
    daemon = start(box, SMTPD, under=disk.under, queue=disk.where, relay=f"127.0.0.1:{hop.port}")
    disk.seen_by(daemon)
    clients = Clients(daemon.port, 4, lambda number: ([BERT], numbered(LARGE if number % 8 else 20000)), limit=500)
    clients.join()
    check(clients.promised and clients.refused, len(clients.promised), "taken and", len(clients.refused), "put off")
    codes = {code for code, _ in clients.refused.values()}
    check(codes <= {451, 452}, "who found no room heard", codes)
    hop.let_go()
    wait_for("the queue is empty", lambda: daemon.stats(disk.enter)["messages"] == 0)
    with smtp(daemon.port) as session:
        well_again(session, clients)
    delivered(clients, hop, daemon, disk.enter)


@case("full disk control: a daemon that promises without keeping is caught")
def full_control(box):
    caught("while there was no room", on_a_full_disk, box, WRONG, Disk.fill)


@case("smtpd whose fsync fails: 451 and the session goes on; well again by itself, and after kill -9 all that was promised is there")
def fsync(box):
    shim, hop, queue = Shim(box), Ledger(box, connect=STALL), box.new("queue")
    settings = dict(under=shim.under, queue=queue, relay=f"127.0.0.1:{hop.port}")
    daemon = start(box, SMTPD, **settings)
    clients = Clients(daemon.port, 4, mixed, limit=24)
    clients.join()
    with smtp(daemon.port) as session:
        shim.tell("fsync")
        said = not_now(session, clients, [SMALL, LARGE, SMALL, LARGE])
        check(set(said) <= {451, 452}, "while fsync failed the sender heard", said)
        shim.tell()
        well_again(session, clients)
    end(box, daemon, kill=True)
    hop.let_go()
    hop.new_life()
    daemon = start(box, SMTPD, **settings)
    delivered(clients, hop, daemon, ambiguous=clients.refused)


@case("smtpd whose fsync fails while it delivers: nothing is lost, and nothing comes twice")
def fsync_while_delivering(box):
    shim, hop = Shim(box), Ledger(box, connect=STALL)
    daemon = start(box, SMTPD, under=shim.under, relay=f"127.0.0.1:{hop.port}")
    clients = Clients(daemon.port, 4, mixed, limit=40)
    clients.join()
    shim.tell("fsync")
    hop.let_go()
    wait_for("something goes out", lambda: hop.seen())
    with smtp(daemon.port) as session:
        not_now(session, clients, [SMALL])
        shim.tell()
        well_again(session, clients)
    delivered(clients, hop, daemon, ambiguous=clients.refused)


def databases(daemon):
    return [path for path in Path(daemon.queue).rglob("*") if path.is_file() and path.open("rb").read(16) == b"SQLite format 3\0"]


@case("smtpd while another process holds its database: 451 in bounded time and the session goes on; then all is taken and delivered once")
def locked(box):
    hop = Ledger(box, connect=STALL)
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{hop.port}")
    clients = Clients(daemon.port, 4, mixed, limit=24)
    clients.join()
    path, = databases(daemon)
    holder = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)
    try:
        with smtp(daemon.port) as session:
            for how, size in (("IMMEDIATE", SMALL), ("EXCLUSIVE", LARGE)):
                holder.execute(f"BEGIN {how}")
                said = not_now(session, clients, [size])
                check(set(said) <= {451, 452}, f"while the database was held ({how}) the sender heard", said)
                hop.let_go()
                wait_for("something goes out", lambda: hop.seen())
                holder.execute("ROLLBACK")
                well_again(session, clients)
    finally:
        holder.close()
    delivered(clients, hop, daemon)


def lowest_free(pid):
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in range(1 << 20) if number not in used)


@case("smtpd without a descriptor to spare: sessions go on and hear 250, 452 or 451, new ones wait or hear 421; then all is well")
def descriptors(box):
    if "undefined" in str(EXAMPLES):
        return  # this sanitizer needs descriptors itself, and takes it for a mistake of ours that there are none
    hop = Ledger(box)
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{hop.port}")
    clients = Clients(daemon.port, 4, mixed, limit=24)
    clients.join()
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    with smtp(daemon.port) as session:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (lowest_free(daemon.pid), before[1]))
        said = not_now(session, clients, [LARGE, SMALL, LARGE, SMALL])
        check(set(said) <= {250, 451, 452}, "without descriptors the sender heard", said)
        more = Clients(daemon.port, 4, mixed, limit=8, prefix="more")  # they knock at the door
        said = not_now(session, clients, [SMALL])
        check(set(said) <= {250, 451, 452}, "without descriptors the sender heard", said)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
        more.join()
        well_again(session, clients)
    for each in ("sent", "promised", "refused"):
        getattr(clients, each).update(getattr(more, each))
    delivered(clients, hop, daemon)
