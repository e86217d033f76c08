"""store_postgres.py -- the store of a queue that machines share, on a real PostgreSQL: all promises of stores, and what a database
may do to a program or a program to a database.

Whatever happens: a put() that has returned is kept, whole; what was refused heard 451 or 452; and when the cause has gone
all is well again in the same process.
"""
import os
import pwd
import re
import signal
import subprocess
import time

from parts import EXAMPLES, PATIENCE, Skipped, case, check, equal, system, wait_for
from postgres import USER, Postgres
from store_faults import Keeper, killed

CHECK = EXAMPLES.parent / "t/check"
SIZES = (2000, 4000, 2000, 300 << 10)


def all_there(box, database, promised):
    later = Keeper(box, database.url)
    found = later.there()
    check(promised <= found, len(promised - found), "of", len(promised), "lost:", *sorted(promised - found)[:5])
    later.stop()
    box.started.remove(later)
    return found


def working(keeper, more=50):
    """So many more mails are promised than at this moment."""
    before = len(keeper.kept)
    wait_for("mail is taken", lambda: len(keeper.kept) >= before + more)


def unit_tests(box, least, *which):
    check(CHECK.exists(), f"{CHECK} is not built")
    database = Postgres(box)
    done = subprocess.run([CHECK, "--no-version", "--test-suite=postgres", *which], env={**os.environ, "NET_SMTP_POSTGRES": database.url},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=4 * PATIENCE)
    said = done.stdout.decode(errors="replace")
    count = re.search(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed \|\s*(\d+) failed", said)
    check(done.returncode == 0 and count, said[-3000:])
    check(int(count[1]) >= least and count[1] == count[2], "too few were run:", count[0])


@case("PostgresStore keeps every promise of a store, on a real PostgreSQL")
def promises(box):
    unit_tests(box, 5, "--test-case=PostgreSQL:*")


@case("PostgresStore does what it says of leases, broken connections, lack of room and much mail, on a real PostgreSQL")
def trouble(box):
    unit_tests(box, 16, "--test-case-exclude=PostgreSQL:*")


@case("PostgreSQL is killed and restarted under load: what was promised is there, and the same processes go on")
def restarted(box):
    database = Postgres(box)
    keepers = [Keeper(box, database.url) for _ in range(2)]
    for number, keeper in enumerate(keepers):
        keeper.say("many", f"k{number}", 8, 100000, *SIZES)
    for how in ("kill", "immediate", "fast"):
        for keeper in keepers:
            working(keeper)
        database.stop_server(how)
        wait_for("mail is refused", lambda: all(keeper.refused and keeper.refused[-1][:9] == "451 4.3.0" for keeper in keepers))
        for keeper in keepers:
            keeper.refused.clear()
        database.start_server()
    for keeper in keepers:
        working(keeper)
    promised = set().union(*(killed(box, keeper) for keeper in keepers))
    print(f"        {len(promised)} promised, all there, three restarts")
    all_there(box, database, promised)


@case("a process is killed while it puts into PostgreSQL: what was promised is there, and what is there is whole")
def process_killed(box):
    database, promised = Postgres(box), set()
    for round in range(8):
        keeper = Keeper(box, database.url)
        keeper.say("many", f"r{round}", 8, 100000, *SIZES)
        working(keeper, 10 + 20 * round)
        promised |= killed(box, keeper)
    all_there(box, database, promised)


@case("PostgreSQL freezes: senders hear 451 in bounded time, and all goes on when it thaws")
def frozen(box):
    database = Postgres(box)
    keeper = Keeper(box, database.url)
    equal(keeper.puts("before"), 250, "the reply before")
    started = time.monotonic()
    freeze(database, signal.SIGSTOP)
    try:
        equal(keeper.puts("while"), 451, "the reply while it is frozen")
        check(time.monotonic() - started < PATIENCE, "it took too long")
    finally:
        freeze(database, signal.SIGCONT)
    wait_for("mail is taken again", lambda: keeper.puts(f"after.{time.monotonic_ns()}") == 250)
    all_there(box, database, keeper.kept)


def freeze(database, how):
    """The server and all processes below it."""
    children = subprocess.run(["/bin/ps", "-o", "pid=", "--ppid", str(database.process.pid)], stdout=subprocess.PIPE).stdout.split()
    for pid in (database.process.pid, *map(int, children)):
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            pass  # it has ended meanwhile


@case("PostgreSQL's disk is full: senders hear 452, nothing is lost, and all goes on when there is room")
def full(box):
    if os.geteuid() != 0:
        raise Skipped("only root can make a small file system")
    folder = box.for_all_users() / "small"
    folder.mkdir()
    mount, environment = system("mount")
    done = subprocess.run([*mount, "-t", "tmpfs", "-o", f"size=24m,mode=0700,uid={pwd.getpwnam(USER).pw_uid}", "small", folder], env=environment, stderr=subprocess.PIPE)
    if done.returncode:
        raise Skipped(f"no small file system: {done.stderr.decode(errors='replace')}")
    box.keep(Mounted(folder))
    database = Postgres(box)
    database.ask(f"CREATE TABLESPACE small LOCATION '{folder}'")
    database.ask("ALTER ROLE mail SET default_tablespace = 'small'")
    keeper = Keeper(box, database.url)
    for number in range(1000):
        code = keeper.puts(f"m{number}", 300 << 10)
        if code != 250:
            break
    equal(code, 452, "the reply without room")
    check(number > 20, "there was no room from the start")
    equal(keeper.there(), keeper.kept, "what is there")
    promised = set(keeper.kept)
    more = subprocess.run([*mount, "-o", "remount,size=100m", folder], env=environment, stderr=subprocess.PIPE)
    check(more.returncode == 0, more.stderr.decode(errors="replace"))
    wait_for("mail is taken again", lambda: keeper.puts(f"after.{time.monotonic_ns()}", 300 << 10) == 250)
    equal(keeper.deliver(), keeper.kept, "what is delivered")
    check(promised <= keeper.kept and not keeper.there(), "something is left")


class Mounted:
    def __init__(self, folder):
        self.folder = folder

    def stop(self):
        self.kill()

    def kill(self):
        program, environment = system("umount")
        subprocess.run([*program, "-l", self.folder], env=environment, stderr=subprocess.DEVNULL)
