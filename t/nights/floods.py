"""floods.py -- thousands who connect and are gone, and thousands over the limits: the listener outlives them, 421 is heard by who
is one too many, and those who are in go on working."""
import itertools
import smtplib
import socket
import threading
import time
from collections import Counter

from crowd import Crowd, addresses, called, reset
from idle import HELLO
from parts import PATIENCE, case, check, equal, wait_for
from samples import IDLE_THREADS, MIB, Sample, held_by, returned, settled
from working import LONG, SANITIZED, Work, books, daemon, sink, warmed_up

MANY = 1000 if SANITIZED else 40_000 if LONG else 8000


def heard(connection):
    """The first code, or None where there was none."""
    try:
        return int(connection.recv(1000)[:3] or 0) or None
    except (OSError, ValueError):
        return None


def closes(port, source):
    called(port, source).close()


def resets(port, source):
    reset(called(port, source))


def resets_greeted(port, source):
    connection = called(port, source)
    heard(connection)
    reset(connection)


def shuts_half(port, source):
    connection = called(port, source)
    connection.shutdown(socket.SHUT_WR)
    reset(connection)


def speaks_and_resets(port, source):
    connection = called(port, source)
    connection.sendall(HELLO * 3)
    reset(connection)


WAYS = (closes, resets, resets_greeted, shuts_half, speaks_and_resets)


class Flood:
    """Threads that come and go in all ways, from so many addresses, so often each."""

    def __init__(self, port, count, threads=4):
        self.port, self.count, self.done, self.failed = port, count // threads, Counter(), []
        self.threads = [threading.Thread(target=self.work, args=(number,), daemon=True) for number in range(threads)]
        for thread in self.threads:
            thread.start()

    def work(self, number):
        sources = addresses(3 + number, 500)
        for turn in range(self.count):
            way = WAYS[turn % len(WAYS)]
            try:
                way(self.port, next(sources))
                self.done[way.__name__] += 1
            except OSError as reason:
                self.failed.append(reason)

    def over(self):
        return not any(thread.is_alive() for thread in self.threads)


class Newcomers(threading.Thread):
    """Somebody who connects anew for each mail, and comes again after a 421; from an address of his own."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.codes, self.finished = port, Counter(), False
        self.start()

    def run(self):
        while not self.finished:
            try:
                with smtplib.SMTP("127.0.0.1", self.port, local_hostname="newcomer.example.org", timeout=PATIENCE, source_address=("127.0.0.9", 0)) as session:
                    self.codes[session.ehlo()[0]] += 1
            except smtplib.SMTPResponseException as refusal:
                self.codes[refusal.smtp_code] += 1
            except (OSError, smtplib.SMTPException) as reason:
                self.codes[type(reason).__name__] += 1
            time.sleep(0.01)


def flooded(server, many=MANY):
    """What it held before, at most, and after."""
    before = settled(server)
    work, newcomers = Work(server.port, pace=0.01), Newcomers(server.port)
    flood, most = Flood(server.port, many), before
    while not flood.over():
        now = held_by(server)
        most = Sample(*map(max, most, now))
        time.sleep(0.05)
    newcomers.finished = True
    newcomers.join(2 * PATIENCE)
    equal([str(reason) for reason in flood.failed], [], "who could not connect")
    check(set(newcomers.codes) <= {250, 421} and newcomers.codes[250] > 3, "newcomers heard", dict(newcomers.codes))
    taken = work.all_taken()
    after = returned(server, before)
    print(f"        {sum(flood.done.values())} came and went, {taken} mails and {newcomers.codes[250]} sessions beside them; at most {most.descriptors} descriptors, "
          f"{most.threads} threads and {most.memory / MIB:.1f} MiB, then {after.descriptors}, {after.threads} and {after.memory / MIB:.1f}", flush=True)
    return work


@case("a flood of connections that close, reset, or shut down at once, before the greeting and behind it: mail goes on, and nothing of it stays (a sink)")
def flood_of_a_sink(box):
    server = sink(box)
    flooded(server).kept(server)


@case("a flood of connections that close, reset, or shut down at once, before the greeting and behind it: mail goes on, and nothing of it stays (the daemon)")
def flood_of_the_daemon(box):
    hop = books(box)
    server = daemon(box, hop)
    first = warmed_up(server)
    flooded(server).delivered(hop, first)
    server.empty()


@case("a flood of connections that close, reset, or shut down at once: a server with a process for each reaps them all")
def flood_of_processes(box):
    server = box.server("sink", "--mode", "process")
    before = held_by(server)
    flood = Flood(server.port, MANY // 4)
    wait_for("the flood is over", flood.over, 4 * PATIENCE)
    equal([str(reason) for reason in flood.failed], [], "who could not connect")
    wait_for("no children are left", lambda: not server.children())
    wait_for("descriptors come back", lambda: held_by(server).descriptors <= before.descriptors)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=PATIENCE) as session:
        equal(session.noop()[0], 250, "NOOP afterwards")


@case("max_connections and max_connections_per_ip: one more is 421, those who are in go on working, and who is turned away and stays costs nobody a place")
def limits(box):
    hop = books(box)
    server = daemon(box, hop, max_connections=300, max_connections_per_ip=25)
    first = warmed_up(server)
    work = Work(server.port, pace=0.02)  # 8 of the 300, and of the 25 of their address
    wait_for("who works is in", lambda: len(work.clients.promised) >= 8)
    before = settled(server)
    crowd, sources = Crowd(box, server.port), addresses(20, 1)
    crowd.invite(40, sources, "of one address", (HELLO,))
    crowd.until("they are answered", lambda: answered(crowd))
    equal(Counter(guest.codes[-1] for guest in crowd.all), {250: 25, 421: 15}, "what 40 of one address hear")
    crowd.invite(1000, addresses(21, 100), "of others", (HELLO,))
    crowd.until("they are answered", lambda: answered(crowd))
    equal(Counter(guest.codes[-1] for guest in crowd.of("of others")), {250: 300 - 25 - 8, 421: 1000 - (300 - 25 - 8)}, "what 1,000 others hear")
    crowd.until("who was turned away is gone", lambda: all(guest.ended for guest in crowd.all if guest.codes[-1] == 421))
    many, most = turned_away(server, 1000 if SANITIZED else 6000)
    check(most.threads < before.threads + 300 + 64 + 2 * IDLE_THREADS + many // 10, f"{many} who were turned away and stayed were given {most.threads} threads")
    equal(len(crowd.here("of one address", "of others")), 292, "who stays")
    crowd.leave(crowd.all)
    wait_for("there is room again", lambda: greeting(server.port) == 220)
    taken = work.all_taken()
    after = returned(server, before)
    print(f"        {many} turned away beside 300 who are in, and {taken} mails; at most {most.descriptors} descriptors, {most.threads} threads and {most.memory / MIB:.1f} MiB, "
          f"then {after.descriptors}, {after.threads} and {after.memory / MIB:.1f}", flush=True)
    work.delivered(hop, first)
    server.empty()


def turned_away(server, many):
    """So many who hear 421 and stay, from 1,000 addresses; how many, and what the server held at most."""
    stay, most = [], held_by(server)
    for number, source in enumerate(itertools.islice(addresses(22, 1000), many)):
        stay.append(called(server.port, source, blocking=False))
        if number % 200 == 0:
            most = Sample(*map(max, most, held_by(server)))
    for caller in stay:
        caller.settimeout(PATIENCE)
    equal(Counter(map(heard, stay)), {421: many}, "what those hear who are too many")
    for caller in stay:
        caller.close()
    return many, Sample(*map(max, most, held_by(server)))


def answered(crowd):
    return crowd.settled() and all(guest.codes[-1:] != [220] for guest in crowd.all)


def greeting(port):
    with called(port, "127.0.0.1") as connection:
        return heard(connection)
