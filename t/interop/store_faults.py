"""store_faults.py -- the store of the queue (SQLite) while its machine fails it and its processes are killed.

Whatever happens: a put() that has returned is kept, whole; what was refused heard 452 or 451; and when the cause has
gone all is well again in the same process. Where a mistake would be easy a control makes it, and must be caught.
"""
import fcntl
import os
import queue
import random
import re
import resource
import signal
import sqlite3
import struct
import subprocess
import threading
import time
from pathlib import Path

from parts import EXAMPLES, PATIENCE, TREE, Failed, Skipped, case, check, die_with_us, equal, wait_for
from shim import ALONE, Shim, fill

KEEPER = EXAMPLES.parent / "t/storekeeper"
SMALL, LARGE = 2000, 200 << 10


class Keeper:
    """A process with a store (see storekeeper.cpp), and what it has promised."""

    def __init__(self, box, folder, under=()):
        check(KEEPER.exists(), f"{KEEPER} is not built")
        self.folder, self.lines, self.kept, self.refused = folder, queue.Queue(), set(), []
        self.errors = box.new("keeper.log")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen([*map(str, under), KEEPER, folder], stdin=subprocess.PIPE, text=True,
                                            stdout=subprocess.PIPE, stderr=errors, bufsize=1, preexec_fn=die_with_us)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        box.keep(self)
        self.until("ready")

    def read(self):
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "put":
                self.kept.add(rest)
            elif word == "no":
                self.refused.append(rest)
            self.lines.put((word, rest))
        self.lines.put(("ended", ""))

    def say(self, *words):
        print(*words, file=self.process.stdin)

    def hear(self, seconds=PATIENCE):
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            raise Failed("the keeper says nothing") from None

    def until(self, *words):
        """All it says up to a line that begins with one of the words."""
        heard = [self.hear()]
        while heard[-1][0] not in words:
            check(heard[-1][0] not in ("ended", "thrown") and " * " not in heard[-1][1], "the keeper:", *heard[-1])
            heard.append(self.hear())
        return heard

    def puts(self, name, size=SMALL, how="put"):
        """What becomes of one mail: 250 or the code of the refusal."""
        self.say(how, name, size)
        word, rest = self.until("put", "no")[-1]
        return 250 if word == "put" else int(rest[:3])

    def there(self):
        """The names of all that is there; all of it must be whole."""
        self.say("check")
        heard = self.until("ok")
        equal([rest for word, rest in heard if word not in ("whole", "ok")], [], "what is damaged")
        return {rest for word, rest in heard if word == "whole"}

    def sweep(self):
        self.say("sweep")
        return int(self.until("ok")[-1][1])

    def deliver(self):
        self.say("deliver")
        return {rest for word, rest in self.until("ok") if word == "done"}

    def well_again(self):
        """By itself: it may take some tries."""
        for size, how in ((SMALL, "put"), (LARGE, "put"), (LARGE, "spool")):
            name = f"well.{how}.{size}.{random.getrandbits(40)}"
            wait_for("mail is taken again", lambda: self.puts(name, size, how) == 250 or time.sleep(0.1))

    def stop(self):
        self.process.stdin.close()
        equal(self.process.wait(PATIENCE), 0, "exit status of a keeper")
        check("runtime error" not in (said := self.errors.read_text(errors="replace")) and "Sanitizer" not in said, said)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(PATIENCE)


def killed(box, keeper):
    keeper.kill()
    box.started.remove(keeper)
    return keeper.kept


def nothing_lost(box, folder, promised):
    """Another process finds all that was promised, whole, in a sound database; returns all that is there."""
    later = Keeper(box, folder)
    found = later.there()
    check(promised <= found, len(promised - found), "of", len(promised), "lost:", *sorted(promised - found)[:5])
    later.stop()
    box.started.remove(later)
    database = sqlite3.connect(folder / "queue.db")
    try:
        equal(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "integrity_check")
    finally:
        database.close()
    return found


def bodies(folder):
    return {path.name for path in (folder / "bodies").iterdir()}


def caught(what, function, *arguments):
    """A control: what is wrong on purpose must not pass."""
    try:
        function(*arguments)
    except Failed as reason:
        check(what in str(reason), f"caught for another reason than {what!r}: {reason}")
        print(f"        caught: {reason}")
        return
    raise Failed(f"nothing was seen of it: {what}")


# ---- kill -9 ----

def storm(box, rounds, command):
    folder, promised = box.new("queue"), set()
    for number in range(rounds):
        keeper = Keeper(box, folder)
        command(keeper, number)
        wait_for("it puts", lambda: len(keeper.kept) >= 3)
        time.sleep(random.uniform(0, 0.08))
        promised |= killed(box, keeper)
    found = nothing_lost(box, folder, promised)
    print(f"        {rounds} kills, {len(promised)} promised, {len(found)} there")
    return folder


def ten_threads(keeper, number):
    keeper.say("many", f"r{number}", 10, 100000, SMALL, 60 << 10, LARGE)


@case("store: kill -9 of a process with ten threads that put, 30 rounds: each put that returned is there, nothing is torn")
def kills(box):
    folder = storm(box, 30, ten_threads)
    keeper = Keeper(box, folder)
    keeper.sweep()
    equal(len(bodies(folder)), sum(1 for _ in rows_with_files(folder)), "files after a sweep, and rows that name one")


def rows_with_files(folder):
    database = sqlite3.connect(folder / "queue.db")
    try:
        return [name for name, in database.execute("SELECT file FROM message WHERE file IS NOT NULL")]
    finally:
        database.close()


def says_so_early(keeper, number):
    for each in range(400):
        keeper.say("early", f"r{number}.{each}", LARGE)


@case("store: kill -9 control: who says that it is kept before it is, is caught")
def kills_control(box):
    caught("lost", storm, box, 10, says_so_early)


# ---- what must be on the disk before put() returns ----

class Trace:
    """The system calls of a keeper, in their order."""
    def __init__(self, box, under=()):
        self.path = box.new("strace")
        tracer = ["strace", "-f", "-y", "-s", "200", "-o", self.path, "-e",
                  "trace=openat,pwrite64,write,fsync,fdatasync,linkat,unlink,ftruncate,fallocate"]
        if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode != 0:
            raise Skipped("strace can't trace here")
        self.under = [*ALONE, *tracer, *under]

    def calls(self):
        """(name, what it was done to, the whole line) of each that went well, where it ended."""
        begun = {}
        for line in self.path.read_text(errors="replace").splitlines():
            pid, _, rest = line.partition(" ")
            rest = rest.strip()
            if rest.endswith("<unfinished ...>"):
                begun[pid] = rest.removesuffix("<unfinished ...>")
                continue
            if rest.startswith("<... "):
                rest = begun.pop(pid, "") + rest.partition("resumed>")[2]
            name, _, arguments = rest.partition("(")
            if " = -1 " in rest or not arguments:
                continue
            yield name, arguments, rest


def order_of(trace, folder):
    """Goes through the calls as a power cut might at each; fails where one would break a promise. Returns how many
    promises there were, and how many texts with a file of their own."""
    dirty, unnamed, seen, opened, promises, texts = set(), set(), set(), {}, 0, 0

    def synced(files, what):
        check(not files, what, "was synced:", *sorted(files))

    for name, arguments, line in trace.calls():
        path = re.match(r"\d+<([^>]*)>", arguments)
        path = path[1] if path else ""
        if name == "openat" and (made := re.search(r"= (\d+)<([^>]*)>", line)):
            opened[made[1]] = made[2]
            if "O_CREAT" in arguments and re.search(r"/queue\.db(-wal)?$", made[2]) and made[2] not in seen:
                seen.add(made[2])
                unnamed.add(made[2])
        elif name == "write" and arguments.startswith("1<") and '"put ' in arguments:
            promises += 1
            synced({file for file in dirty if file.endswith("-wal")}, "put() returned before the log")
            synced(unnamed, "put() returned before a name")
        elif name in ("pwrite64", "write") and path.startswith(str(folder)):
            if path.endswith("-wal"):
                if re.search(r', "(\\0)+"', arguments):  # behind the log, to make room
                    continue
                synced({file for file in dirty if "/bodies/" in file and "#" not in file}, "a commit was written before a text")
                synced({file for file in unnamed if "/bodies/" in file}, "a commit was written before the name of a text")
            dirty.add(path)
        elif name in ("fsync", "fdatasync"):
            dirty.discard(path)
            unnamed = {file for file in unnamed if os.path.dirname(file) != path}
        elif name == "linkat":
            texts += 1
            source, there = re.findall(r'"([^"]*)"', arguments)
            synced({opened[os.path.basename(source)]} & dirty, "a text was given its name before it")
            unnamed.add(there)
    return promises, texts


def traced(box, under=(), large=LARGE):
    folder, trace = box.new("queue"), Trace(box, under)
    keeper = Keeper(box, folder, trace.under)
    for number in range(30):
        how = "spool" if number % 6 == 0 else "put"
        equal(keeper.puts(f"a{number}", large if number % 3 == 0 else SMALL, how), 250, "put")
    keeper.stop()
    box.started.remove(keeper)
    promises, texts = order_of(trace, folder)
    equal((promises, texts), (30, 10 if large == LARGE else 0), "promises and texts with a name of their own that were seen")


@case("store: no put() returns before the log is synced, nor is a large text named in the log before its file and folder are synced")
def order(box):
    traced(box)


@case("store: order control: an fsync that does nothing is seen, of the log, of a text, of a folder")
def order_control(box):
    caught("returned before the log was synced", traced, box, Shim(box, "lie").under, SMALL)
    caught("given its name before it was synced", traced, box, Shim(box, "lie").under)
    caught("returned before a name was synced", traced, box, Shim(box, "lie-folder").under, SMALL)


# ---- system calls that fail ----

def while_calls_fail(box, fault, codes):
    """Puts while calls fail, is well again by itself; then the same with kill -9 in place of that."""
    shim, folder, promised = Shim(box), box.new("queue"), set()
    for ending in ("well again", "killed"):
        keeper = Keeper(box, folder, shim.under)
        for number in range(6):
            equal(keeper.puts(f"{ending}.before.{number}".replace(" ", "-"), LARGE if number % 3 else SMALL), 250, "put")
        shim.tell(fault)
        heard = [keeper.puts(f"{ending}.while.{number}".replace(" ", "-"), size, how) for number, (size, how) in
                 enumerate([(LARGE, "put"), (SMALL, "put"), (60 << 10, "put"), (LARGE, "spool")])]
        check(set(heard) <= codes, f"while {fault} failed was heard", heard)
        if fault not in ("room", "io"):
            check(keeper.kept <= keeper.there(), "something is lost while it fails")
        if ending == "killed":
            promised |= killed(box, keeper)
            shim.tell()
            break
        shim.tell()
        keeper.well_again()
        promised |= keeper.kept
        check(promised <= keeper.there(), "something is lost")
        keeper.stop()
        box.started.remove(keeper)
        nothing_lost(box, folder, promised)
    print(f"        heard {heard}")
    nothing_lost(box, folder, promised)
    last = Keeper(box, folder)
    last.well_again()
    found = last.there()
    equal(last.deliver(), found, "what is given out in the end")


for fault, codes in (("fsync", {451}), ("fsync-room", {451, 452}), ("commit", {451}), ("commit-room", {451}), ("room", {452}),
                     ("io", {451, 452})):
    @case(f"store: calls that fail ({fault}) are refusals; well again by itself, and after kill -9 nothing promised is lost or torn")
    def calls_fail(box, fault=fault, codes=codes):
        while_calls_fail(box, fault, codes)


# ---- no room ----

# A disk that only the keeper sees: $0 is where.
ON_A_DISK = 'mkdir -p "$0" && mount -t tmpfs -o size=96m store "$0" && exec "$@"'


def on_a_disk(box):
    """A keeper with a disk of its own, and where we see that."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        raise Skipped("a disk of one's own needs root and a mount namespace")
    where = box.new("disk")
    keeper = Keeper(box, where / "queue", ["unshare", "--mount", "sh", "-c", ON_A_DISK, where])
    return keeper, Path(f"/proc/{keeper.process.pid}/root{where}")


@case("store: a full disk is 452, and what is there stays and can be delivered; well again by itself")
def full_disk(box):
    keeper, seen = on_a_disk(box)
    for number in range(20):
        equal(keeper.puts(f"first{number}", LARGE if number % 4 else SMALL), 250, "put")
    fill(seen / "filler")
    heard = [keeper.puts(f"no{number}", *what) for number, what in
             enumerate([(LARGE,), (LARGE, "spool"), (SMALL,), (60 << 10,)] * 3)]
    check(set(heard) <= {250, 452} and heard[0] == heard[1] == 452, "on a full disk was heard", heard)
    check(keeper.kept <= keeper.there(), "something is lost while the disk is full")
    equal(keeper.deliver(), keeper.kept, "what is given out on the full disk")
    (seen / "filler").unlink()
    keeper.well_again()


@case("store: a store that has filled its disk can deliver all the same, and makes room by that")
def filled_disk(box):
    keeper, seen = on_a_disk(box)
    number = 0
    while keeper.puts(f"fill{number}", 8 * LARGE) == 250:
        number += 1
        check(number < 1000, "a disk of 96 MiB is never full")
    while keeper.puts(f"small{number}", 100 << 10) == 250:
        number += 1
        check(number < 50000, "a disk of 96 MiB is never full")
    check(keeper.kept <= keeper.there(), "something is lost")
    equal(keeper.deliver(), keeper.kept, "what is given out on the full disk")
    equal(bodies(seen / "queue"), set(), "files of what has been delivered")
    keeper.well_again()


@case("store: without a descriptor to spare it is 250, 451 or 452; then all is well by itself")
def descriptors(box):
    if "undefined" in str(EXAMPLES):
        return  # this sanitizer needs descriptors itself, and takes it for a mistake of ours that there are none
    folder = box.new("queue")
    keeper = Keeper(box, folder)
    pid = keeper.process.pid
    equal(keeper.puts("first", LARGE), 250, "put")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    heard = []
    for spare in (0, 1, 2, 3, 5):
        used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        limit = [number for number in range(100) if number not in used][spare]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        heard += [keeper.puts(f"{spare}.{each}", *what) for each, what in enumerate([(LARGE,), (SMALL,), (LARGE, "spool")])]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    check(set(heard) <= {250, 451, 452} and heard[0] != 250, "without descriptors was heard", heard)
    keeper.well_again()
    check(keeper.kept <= keeper.there(), "something is lost")
    promised = killed(box, keeper)
    nothing_lost(box, folder, promised)
    # One that has not opened anything yet.
    late = Keeper(box, folder)
    resource.prlimit(late.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    equal(late.puts("late", LARGE), 451, "put without any descriptor")
    equal(late.puts("late", SMALL), 451, "put without any descriptor")
    resource.prlimit(late.process.pid, resource.RLIMIT_NOFILE, before)
    late.well_again()
    nothing_lost(box, folder, promised | late.kept)


# ---- others ----

def held_by_database(folder):
    holder = sqlite3.connect(folder / "queue.db", isolation_level=None, timeout=PATIENCE)
    holder.execute("BEGIN IMMEDIATE")
    return holder


class Lock:
    """All locks of a file, held by an open file of ours as another process would."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.fcntl(self.fd, 37, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))  # F_OFD_SETLK

    def close(self):
        os.close(self.fd)


for how, hold in (("its database", held_by_database), ("its lock", lambda folder: Lock(folder / "write.lock"))):
    @case(f"store: while another process holds {how} it is 451 in bounded time, and who looks is not hindered; then all is well")
    def locked(box, hold=hold):
        folder = box.new("queue")
        keeper, other = Keeper(box, folder), Keeper(box, folder)
        for each, name in ((keeper, "one"), (other, "two")):
            equal(each.puts(name, LARGE), 250, "put")
        holder = hold(folder)
        began = time.monotonic()
        keeper.say("many", "held", 10, 1, SMALL, LARGE)
        wait_for("ten are refused", lambda: len(keeper.refused) == 10)
        check(time.monotonic() - began < 20, "it took", time.monotonic() - began, "seconds to refuse")
        equal({line[:3] for line in keeper.refused}, {"451"}, "what was heard")
        keeper.until("ok")
        equal(other.there(), {"one", "two"}, "what another sees meanwhile")
        holder.close()
        keeper.well_again()
        other.well_again()
        promised = keeper.kept | other.kept
        check(promised <= keeper.there(), "something is lost")
        keeper.sweep()
        equal(len(bodies(folder)), len(rows_with_files(folder)), "files after a sweep, and rows that name one")


@case("store: a sweep in a loop beside two processes of ten threads removes nothing live; what the killed have left goes")
def sweeps(box):
    folder, promised = box.new("queue"), set()
    Keeper(box, folder).puts("first")
    sweeper = Keeper(box, folder)
    writers = [Keeper(box, folder) for _ in range(2)]
    for number, writer in enumerate(writers):
        writer.say("many", f"w{number}", 10, 20, LARGE)
    count, swept = 0, 0
    while not all(("ok", "") in list(writer.lines.queue) for writer in writers):
        swept += sweeper.sweep()
        count += 1
    for writer in writers:
        writer.until("ok")
        equal(writer.refused, [], "refusals")
        promised |= writer.kept
    equal((len(promised), swept), (400, 0), "promised, and swept beside those that live")
    check(promised <= sweeper.there(), "something is lost")
    # One that dies when its texts have files, and no row names them.
    lock = Lock(folder / "write.lock")
    before = bodies(folder)
    victim = Keeper(box, folder)
    victim.say("many", "victim", 10, 1, LARGE)
    wait_for("files are there", lambda: len(bodies(folder) - before) == 10)
    promised |= killed(box, victim)
    lock.close()
    left = bodies(folder) - set(rows_with_files(folder))
    equal((len(left), sweeper.sweep()), (10, 10), "what was left, and what the sweep has removed")
    equal(bodies(folder), set(rows_with_files(folder)), "files, and rows that name one")
    check(promised <= sweeper.there(), "something is lost")
    print(f"        {count} sweeps beside 400 puts")
