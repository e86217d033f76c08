"""queue_time.py -- the daemon's queue over time: a calendar clock that jumps, restarts with very many messages, a pause across a
restart, and hands that cancel, hold and flush while it delivers.
"""
import threading
import time
from collections import Counter, defaultdict

from ledger import Ledger, numbered
from parts import EXAMPLES, PATIENCE, case, check, equal, free_port, smtp, wait_for
from queued import FOUND, IN_FLIGHT, NOT_FOUND, SMTPD, WRONG, Account, Clients, bulk, caught, end, start
from shim import CLOCK_JUMPS, Calendar

ANNA, BERT, CARL = "anna@example.org", "bert@example.test", "carl@example.test"
HOUR, DAY = 3600, 86400
# Octets of memory for a message that waits; of a sanitizer it says nothing.
ENOUGH = 1 << 20 if any(word in str(EXAMPLES) for word in ("address", "build/thread")) else 1024


def put_off(line):
    return "450 4.2.1 not yet"


class Jumping:
    """A daemon under such a clock; carl is put off until door.say is emptied, and anna@example.org has her mail there too."""

    def __init__(self, box, retry, **settings):
        self.clock, self.hop = Calendar(box), Ledger(box, keep=True, RCPT=lambda line: put_off(line) if CARL in line else "")
        self.daemon = start(box, SMTPD, under=self.clock.under, relay=f"127.0.0.1:{self.hop.port}", retry=retry, **settings)
        self.clients = Clients(self.daemon.port, 1, lambda n: ([CARL], numbered()), limit=0)

    def mail(self, count, to):
        clients = Clients(self.daemon.port, 2, lambda n: ([to], numbered()), limit=count, prefix=f"{len(self.clients.sent)}of")
        clients.join()
        for notes in ("sent", "promised", "refused", "ids"):
            getattr(self.clients, notes).update(getattr(clients, notes))
        return clients.pairs()

    def put_off(self):
        """Carl's mail has been tried."""
        wait_for("all have been tried", lambda: all(to["attempts"] for item in self.items() for to in item["recipients"]))

    def items(self):
        return self.daemon.items(self.clock.under)

    def has(self, pairs, what, seconds=PATIENCE):
        wait_for(what, lambda: pairs <= self.hop.seen().keys(), seconds)

    def account(self):
        wait_for("the queue is empty", lambda: not self.items())
        account = Account(self.clients, self.hop)
        account.nothing_lost()
        account.nothing_twice()


@case("the clock jumps two hours ahead: mail that was to wait for an hour goes out, without being asked for", CLOCK_JUMPS)
def forward(box):
    world = Jumping(box, retry=HOUR)
    waiting = world.mail(20, CARL)
    world.put_off()
    world.hop.main.say = {}
    world.clock.shift(2 * HOUR)
    world.has(waiting, "what had to wait comes")
    world.has(world.mail(5, BERT), "new mail comes")
    world.account()


@case("the clock jumps a month ahead: mail that waits is tried before it is given up, and a bounce tells of what is refused again", CLOCK_JUMPS)
def far_forward(box):
    world = Jumping(box, retry=HOUR)
    world.hop.main.say = {"RCPT": lambda line: put_off(line) if "example.test" in line else ""}
    good, bad = world.mail(10, CARL), world.mail(10, BERT)
    world.put_off()
    world.hop.main.say = {"RCPT": lambda line: put_off(line) if BERT in line else ""}
    world.clock.shift(30 * DAY)
    world.has(good, "what had to wait comes")

    def bounced():
        return sorted(to for copy in world.hop.copies if copy.sender == "" for to in copy.to)
    wait_for("the senders of the others are told", lambda: len(bounced()) >= len(bad))
    equal(bounced(), sorted(sender for sender, _ in bad), "who was told")
    wait_for("the queue is empty", lambda: not world.items())
    equal({pair for pair in world.hop.seen() if pair[0]}, good, "what was delivered")


@case("the clock jumps an hour back: new mail goes out at once, old mail when it is asked for; a month back, by itself", CLOCK_JUMPS)
def backward(box):
    world = Jumping(box, retry=5)
    waiting = world.mail(10, CARL)
    world.put_off()
    world.clock.shift(-HOUR)
    world.has(world.mail(10, BERT), "new mail comes")
    world.hop.main.say = {}
    world.daemon.queue_tool("flush", "all", under=world.clock.under)
    world.has(waiting, "what was asked for comes")
    world.hop.main.say = {"RCPT": lambda line: put_off(line) if CARL in line else ""}
    waiting = world.mail(10, CARL)
    world.put_off()
    world.hop.main.say = {}
    world.clock.shift(-30 * DAY)
    world.has(waiting, "what was put a month away comes", 60)
    world.account()


@case("smtpd restarted with 10,000 and with 100,000 queued: it answers, knows all of them and delivers; under 1 KiB of memory each")
def very_many(box):
    port, queue, hop = free_port(), box.new("queue"), Ledger(box)
    settings = dict(port=port, queue=queue, relay=f"127.0.0.1:{hop.port}", paused="true")
    daemon = start(box, SMTPD, **settings)
    empty, there = daemon.memory(), 0
    for number in (10_000, 100_000):
        began = time.monotonic()
        before, there = there, there + bulk(port, number - there, lambda n: (f"mail{there + n}@example.org", f"to{n}@example.test"))
        filled = time.monotonic() - began
        equal(there, number, "mails taken")
        end(box, daemon, kill=True)
        daemon = start(box, SMTPD, **settings)
        with smtp(port):
            pass
        seconds = daemon.seconds_to_start
        equal(daemon.stats()["messages"], number, "messages after the restart")
        each = (daemon.memory() - empty) / number
        check(each < ENOUGH, "octets of memory for each message:", each)
        print(f"        {number}: filled at {(there - before) / filled:.0f} a second; start to 220 {seconds:.2f} s, {daemon.memory() >> 20} MiB")
    daemon.queue_tool("resume")
    wait_for("2,000 of them are delivered", lambda: len(hop.copies) >= 2000)
    each = (daemon.memory() - empty) / number
    check(each < ENOUGH, "octets of memory for each message while it delivers:", each)
    end(box, daemon, kill=True)
    hop.new_life()
    seen = hop.seen()
    equal([pair for pair, copies in seen.items() if len(copies) > 1], [], "delivered twice")


def across_a_restart(box, program=SMTPD):
    """Mail comes while delivery is paused, and the daemon is killed and started again before it goes on."""
    port, queue, hop = free_port(), box.new("queue"), Ledger(box)
    settings = dict(port=port, queue=queue, relay=f"127.0.0.1:{hop.port}")
    daemon = start(box, program, **settings)
    if program == SMTPD:
        daemon.queue_tool("pause")
        end(box, daemon)  # one that runs may take two seconds to notice
        daemon = start(box, program, **settings)
    clients = Clients(port, 2, lambda n: ([BERT], numbered()), limit=20)
    clients.join()
    for kill in (True, False) if program == SMTPD else (True,):
        if program == SMTPD:
            equal(len(daemon.waiting()), 20, "what waits")
            daemon.queue_tool("flush", "all")
        end(box, daemon, kill=kill)
        daemon = start(box, program, **settings)
        equal(hop.main.asked, 0, "connections to the next hop while paused")
    later = Clients(port, 2, lambda n: ([BERT], numbered()), limit=5, prefix="later")
    later.join()
    equal(hop.main.asked, 0, "connections to the next hop while paused")
    daemon.queue_tool("resume")
    everybody = clients.pairs() | later.pairs()
    wait_for("all is delivered", lambda: everybody <= hop.seen().keys())
    daemon.empty()
    equal(len(hop.copies), 25, "mails delivered")


@case("paused by smtpq: nothing goes out, after kill -9 and after an orderly restart neither, and all of it after resume")
def pause(box):
    across_a_restart(box)


@case("pause control: a daemon that does not know of it is caught")
def pause_control(box):
    caught("while paused", across_a_restart, box, WRONG)


def busy_hands(box):
    """600 mails are being delivered while two operators cancel and hold what they find, and a third flushes all the time."""
    hop = Ledger(box, dot=lambda line: time.sleep(0.1) or "")
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{hop.port}", maxrelay=16)
    clients = Clients(daemon.port, 4, lambda n: ([BERT], numbered()), limit=600)
    said, over = defaultdict(dict), threading.Event()

    def hand(what, share):
        while not over.is_set():
            with clients.lock:
                choice = [(sender, each) for sender, each in clients.ids.items() if int(sender[4:-12]) % 4 == share and sender not in said[what]]
            if not choice:
                over.wait(0.005)
                continue
            sender, each = max(choice, key=lambda pair: int(pair[0][4:-12]))  # the youngest still waits, if any does
            said[what][sender], _ = daemon.asked(what, each)

    def flush():
        while not over.is_set():
            daemon.queue_tool("flush", "all")

    hands = [threading.Thread(target=hand, args=args, daemon=True) for args in (("cancel", 0), ("hold", 1))] + [threading.Thread(target=flush, daemon=True)]
    for each in hands:
        each.start()
    try:
        clients.join()
        wait_for("enough was cancelled and held", lambda: min(len(said[what]) for what in ("cancel", "hold")) >= 60)
    finally:
        over.set()
        hop.main.say = {}
        for each in hands:
            each.join()
    return hop, daemon, clients, said


@case("cancel, hold and flush by smtpq while it delivers: what was cancelled never comes, what is held comes when released, all else comes once")
def hands(box):
    hop, daemon, clients, said = busy_hands(box)
    cancelled = {(sender, BERT) for sender, status in said["cancel"].items() if status == FOUND}
    check(cancelled, "nothing could be cancelled:", Counter(said["cancel"].values()))
    check(set(said["cancel"].values()) <= {FOUND, NOT_FOUND, IN_FLIGHT}, "smtpq cancel ended with", Counter(said["cancel"].values()))
    wait_for("only what is held is left", lambda: (now := daemon.stats())["messages"] == now["held"] and now["in_flight"] == 0)
    held = {(item["from"], BERT) for item in daemon.items()}
    check(held, "nothing could be held")
    others = clients.pairs() - cancelled - held
    equal(others - hop.seen().keys(), set(), "neither delivered nor held nor cancelled")
    equal(held & hop.seen().keys(), set(), "delivered though held")
    equal(cancelled & hop.seen().keys(), set(), "delivered though cancelled")
    for sender, _ in held:
        daemon.queue_tool("release", clients.ids[sender])
    daemon.empty()
    equal(cancelled & hop.seen().keys(), set(), "delivered though cancelled")
    account = Account(clients, hop, gone=cancelled)
    account.nothing_lost()
    account.nothing_twice()
    print(f"        {account}; {len(cancelled)} cancelled, {len(held)} held")
