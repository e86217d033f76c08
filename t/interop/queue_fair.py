"""queue_fair.py -- nobody's mail waits for somebody else's host: stalled and dead destinations beside good ones, the limits of
deliveries at once, and orphan sweeps beside those who deliver mail. Counts and order decide, no time does.

Each check also runs on a daemon that is wrong on purpose (forgetful.py, or a sweep that takes what is in use).
"""
import contextlib
import itertools
import json
import time
from pathlib import Path

from ledger import STALL, Ledger, numbered
from nsd import Nsd
from parts import PATIENCE, Failed, Late, Skipped, case, check, equal, free_port, wait_for
from queued import SMTPD, WRONG, Account, Clients, bulk, caught, end, start, together

STALLED, GOOD = 20, 40  # domains
STEPS = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "dot")


def zone():
    """Domains with an MX each: s0, s1, ... on a host of its own each, g0, g1, ... too."""
    for letters, network, count in (("s", 1, STALLED), ("g", 2, 100)):
        for number in range(count):
            yield f"{letters}{number} MX 10 host.{letters}{number}\nhost.{letters}{number} A 127.0.{network}.{number + 1}\n"


class World:
    """Domains below example, each with a door; all doors have one port, as MX hosts have."""

    def __init__(self, box, good=GOOD, stalled=STALLED):
        self.box, self.nsd, self.hop = box, Nsd(box, {"example": "".join(zone())}), Ledger(box)
        self.doors = {}
        for _ in range(20):
            self.port = free_port()
            try:
                for letters, network, count in (("s", 1, stalled), ("g", 2, good)):
                    for number in range(count):
                        self.doors[f"{letters}{number}.example"] = self.hop.door(f"127.0.{network}.{number + 1}", self.port)
                return
            except OSError as reason:
                error = reason
                for door in self.hop.doors[1:]:
                    self.hop.leave(door)
                self.doors.clear()
        raise Skipped(f"no port on all of 127.0.1.1 and so on: {error}")

    def daemon(self, program=SMTPD, **settings):
        """The wrong one knows no DNS."""
        if program == WRONG:
            hosts = self.box.new("hosts")
            hosts.write_text(json.dumps({name: [door.host, door.port] for name, door in self.doors.items()}))
            return start(self.box, program, hosts=hosts, **settings)
        return start(self.box, program, dns=f"127.0.0.1:{self.nsd.port}", mx_port=self.port, **settings)

    def taken(self, letters):
        """Recipients in such domains who have their mail."""
        return sum(to.rpartition("@")[2].startswith(letters) for _, to in self.hop.seen())


def beside_the_stalled(box, program=SMTPD, patience=PATIENCE, well_before=0, **settings):
    """1,000 good mails come behind 600 to domains whose hosts accept and stall, at different steps; after having taken so many well."""
    world = World(box)
    stalled = [world.doors[f"s{number}.example"] for number in range(STALLED)]
    daemon = world.daemon(program, **settings)
    early = Clients(daemon.port, 4, lambda n: ([f"bert@s{n % STALLED}.example"], numbered()), limit=well_before * STALLED, prefix="early")
    early.join()
    wait_for("what they take well is delivered", lambda: world.taken("s") == well_before * STALLED)
    for door, step in zip(stalled, itertools.cycle(STEPS[2:] if well_before else STEPS)):  # where connections are kept, there is no greeting
        door.say = {step: STALL}
    bad = Clients(daemon.port, 4, lambda n: ([f"bert@s{n % STALLED}.example"], numbered()), limit=30 * STALLED, prefix="bad")
    bad.join()
    good = Clients(daemon.port, 4, lambda n: ([f"bert@g{n % GOOD}.example"], numbered()), limit=1000, prefix="good")
    good.join()
    try:
        wait_for("1000 good mails are delivered", lambda: world.taken("g") == 1000, patience)
    except Failed:
        raise Late(f"{world.taken('g')} of 1000 good mails came while the others stalled; {world.hop.open} connections were open") from None
    equal(world.taken("s"), well_before * STALLED, "mails taken by hosts that stall")
    world.hop.let_go()
    everybody = together(good, bad, early)
    wait_for("the others come too", lambda: everybody.pairs() <= world.hop.seen().keys(), 3 * PATIENCE)
    account = Account(everybody, world.hop)
    account.nothing_lost()
    account.nothing_twice()
    print(f"        {account}; at most {world.hop.most} connections at once, {max(door.most for door in stalled)} to one that stalled")


@case("20 domains whose servers accept and stall at all steps: 1,000 mails to others are delivered meanwhile, all of them")
def stalling(box):
    beside_the_stalled(box)


@case("20 domains whose servers took mail well and then stall at all steps: 1,000 mails to others are delivered meanwhile, all of them")
def stalling_later(box):
    beside_the_stalled(box, well_before=20)


@case("stalling control: a daemon that takes one mail after the other is caught")
def stalling_control(box):
    caught("of 1000 good mails", beside_the_stalled, box, WRONG, patience=2, maxrelay=100)


def beside_the_dead(box, **say):
    """5,000 wait for a domain that is not to be had; 500 to others are delivered before any of them. How often it was asked."""
    world = World(box, stalled=1)
    if say:
        world.doors["s0.example"].say = say
    else:
        world.hop.leave(world.doors["s0.example"])
    daemon = world.daemon()
    equal(bulk(daemon.port, 5000, lambda n: (f"dead{n}@example.org", "bert@s0.example")), 5000, "mails taken for the dead domain")
    good = Clients(daemon.port, 4, lambda n: ([f"bert@g{n % GOOD}.example"], numbered()), limit=500)
    good.join()
    wait_for("500 good mails are delivered", lambda: world.taken("g") == 500)
    equal(daemon.stats()["messages"], 5000, "messages that wait for the dead domain")
    account = Account(good, world.hop)
    account.nothing_lost()
    account.nothing_twice()
    return world.doors["s0.example"].asked


@case("5,000 mails for a domain whose host refuses connections, or says 421, or hangs up: 500 to others are delivered, and it is not asked 5,000 times")
def dead(box):
    beside_the_dead(box)
    box.stop()
    for say in ({"connect": "421 4.3.2 not now"}, {"EHLO": None}):
        asked = beside_the_dead(box, **say)
        check(asked <= 500, "it was asked", asked, "times")
        print(f"        {say}: asked {asked} times")
        box.stop()


def at_once(box, program=SMTPD, maxrelay=30, domains=100, mails=2000, **settings):
    """(most deliveries at once in all, most to one host, most connections) with so many domains."""
    world = World(box, good=domains, stalled=1)
    for door in world.hop.doors:
        door.say = {"dot": STALL if program == WRONG else lambda line: time.sleep(0.02) or ""}
    daemon = world.daemon(program, maxrelay=maxrelay, paused="true", **settings)
    clients = Clients(daemon.port, 4, lambda n: ([f"bert@g{n % domains}.example"], numbered()), limit=mails)
    clients.join()
    if program == SMTPD:
        daemon.queue_tool("resume")
    else:
        wait_for("it has begun too many", lambda: world.hop.busy > maxrelay)
        world.hop.let_go()
    wait_for("all mails are delivered", lambda: clients.pairs() <= world.hop.seen().keys(), 2 * PATIENCE)
    account = Account(clients, world.hop)
    account.nothing_lost()
    account.nothing_twice()
    return world.hop.most_busy, max(door.most_busy for door in world.hop.doors), world.hop.most


@case("maxrelay 30, 100 domains with 20 mails each: never more than 30 deliveries at once, nor more connections")
def maxrelay(box):
    busy, one, connections = at_once(box)
    check(busy <= 30, busy, "deliveries at once")
    check(connections <= 30, connections, "connections at once")
    check(busy > 5, "never more than", busy, "at once: nothing was tried here")
    print(f"        at most {busy} at once, {one} to one host, {connections} connections")


@case("one domain with 400 mails: never more deliveries at once than per_destination, and than a quarter of maxrelay")
def per_destination(box):
    for settings, most in (({"maxrelay": 100, "per_destination": 6}, 6), ({"maxrelay": 20, "per_destination": 20}, 5)):
        busy, one, connections = at_once(box, domains=1, mails=400, **settings)
        check(1 < one <= most, f"{one} at once with {settings}")
        check(connections <= most, f"{connections} connections at once with {settings}")
        print(f"        {settings}: {one} at once, {connections} connections")
        box.stop()


@case("maxrelay control: a daemon that takes no notice of it is caught")
def maxrelay_control(box):
    check(at_once(box, WRONG, mails=500, wrong="greedy")[0] > 30, "it was not caught")


def sweeping(box, sweep, rounds=12, patience=PATIENCE):
    """20 clients with large texts in front of two processes on one queue, and sweep() again and again. Their account."""
    hop, queue = Ledger(box), box.new("queue")
    settings = dict(queue=queue, relay=f"127.0.0.1:{hop.port}", maxrelay=20)
    daemons = [start(box, SMTPD, **settings) for _ in range(2)]
    clients = Clients([daemon.port for daemon in daemons], 20, lambda n: (["bert@example.test"], numbered(200 << 10)))
    for _ in range(rounds):
        clients.serve_more()
        sweep(settings)
    clients.finish()
    with contextlib.suppress(Failed):
        wait_for("what was promised arrives", lambda: clients.pairs() <= hop.seen().keys(), patience)
    return Account(clients, hop), clients, daemons


@case("orphan sweeps in a loop, each by a process that starts on the queue, beside 20 clients in two others: nothing that lives is removed")
def sweep(box):
    def another(settings):
        end(box, start(box, SMTPD, **settings), kill=True)
    account, clients, daemons = sweeping(box, another)
    check(not clients.refused, len(clients.refused), "were refused:", *list(clients.refused.values())[:3])
    account.nothing_lost()
    account.nothing_twice()
    daemons[0].empty()
    left = [path for path in Path(daemons[0].queue).rglob("*") if path.is_file() and path.stat().st_size > 100 << 10 and "spool" in str(path)]
    equal(left, [], "texts left over")
    print(f"        {account}")


@case("sweep control: one that takes what is in use is caught")
def sweep_control(box):
    def takes_all(settings):
        for path in Path(settings["queue"]).rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and b"X-Sum" in path.open("rb").read(1 << 10):
                    path.unlink()
    account, clients, _ = sweeping(box, takes_all, rounds=4, patience=2)
    check(account.lost or clients.refused, "nothing was lost and nobody refused")
