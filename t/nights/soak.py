"""soak.py -- the daemon under a mixed load, round after round. Each ends with the account: what was promised has been delivered or
bounced, whole, once; nothing else has come. Between rounds the daemon is at rest, and holds what it held before.

A program that leaks on purpose goes through the same rounds, and must be caught.
"""
import os
import random
import re
import threading
import time
from collections import Counter, defaultdict
from typing import NamedTuple

from ledger import Ledger, numbered, whole
from maildir import Stored
from mixture import BOXES, EVERYBODY_THERE, FAR, HOME, KINDS, SENDERS, any_octets, any_recipients, cut_off, in_the_clear, reset_somewhere, session
from parts import EXAMPLES, PATIENCE, Failed, Server, case, check, equal, wait_for
from queued import bulk
from samples import KIB, MIB, Flat, Sample, flat, held_by, settled, slope
from working import LONG, SANITIZED, daemon, sink

MINUTES = float(os.environ.get("MINUTES", 30 if LONG else 1))
CLIENTS = 8
FEWEST = 8  # rounds
LEAKY = EXAMPLES.parent / "t/leaky"
REPORT = re.compile(rb"^Final-Recipient: rfc822; ?(\S+?)\r?$", re.MULTILINE)


class Mail(NamedTuple):
    sender: str
    to: tuple
    octets: bytes


class Hop(Ledger):
    """Takes mail for everybody; some it refuses for good, some the first time, and sometimes it hangs up, before the text's
    end or behind it."""

    def __init__(self, box):
        self.asked = Counter()
        super().__init__(box, keep=True, RCPT=self.on_rcpt, DATA=self.on_data, dot=self.on_dot, MAIL=self.on_mail)

    def on_rcpt(self, line):
        address = line.partition("<")[2].partition(">")[0]
        if address.startswith("never."):
            return "550 5.1.1 nobody here"
        if address.startswith("later.") and self.asked[address] == 0:
            self.asked[address] += 1
            return "451 4.2.1 not now"
        return ""

    @staticmethod
    def now_and_then(rate, otherwise=""):
        return None if random.random() < rate else otherwise

    def on_mail(self, _):
        return "421 4.3.2 leaving" if random.random() < 0.002 else self.now_and_then(0.002)

    def on_data(self, _):
        return self.now_and_then(0.003)

    def on_dot(self, _):
        return "451 4.3.0 once more" if random.random() < 0.01 else self.now_and_then(0.003)

    def take_copies(self):
        """What has come since the last time."""
        with self.lock:
            copies, self.copies = self.copies, []
        return copies


class Night:
    """The clients' side, and the account: what was promised has come, once and whole, and nothing else has. `port`, `tls_port`,
    `context` and the functions of the first part are for sessions; any thread may call those."""

    def __init__(self, server, kinds=KINDS):
        self.server, self.kinds = server, kinds
        self.port, self.tls_port = server.port, getattr(server, "tls_port", None)  # without one, only kinds that need none
        self.context = server.authority.trust() if self.tls_port else None
        self.lock, self.number, self.seen, self.troubles = threading.Lock(), 0, Counter(), []
        self.waiting, self.may_come, self.total = set(), {}, Counter()  # (sender, to) promised; sender -> to

    def mail(self, size=None):
        with self.lock:
            self.number += 1
            number = self.number
        return Mail(f"n{number}@{SENDERS}", tuple(any_recipients(number)), any_octets(size))

    def under_way(self, mail):
        """From now on it may be delivered, though nothing was promised."""
        with self.lock:
            self.may_come[mail.sender] = mail.to

    def promised(self, mail):
        with self.lock:
            del self.may_come[mail.sender]
            self.waiting.update((mail.sender, to) for to in mail.to)
            self.total.update(mails=1, octets=len(mail.octets), recipients=len(mail.to))

    # ---- a round ----

    def load(self, seconds):
        """Clients for so long; what the server held at most."""
        end = time.monotonic() + seconds
        clients = [threading.Thread(target=self.work, args=(end,), daemon=True) for _ in range(CLIENTS)]
        most = held_by(self.server)
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            check(time.monotonic() < end + 4 * PATIENCE, "a client does not come to its end")
            most = Sample(*map(max, most, held_by(self.server)))
            time.sleep(0.2)
        check(not self.troubles, len(self.troubles), "sessions went wrong:", *self.troubles[:5])
        return most

    def work(self, end):
        while time.monotonic() < end and not self.troubles:
            try:
                kind = session(self, self.kinds)
            except Exception as reason:  # whatever it is, it is told
                self.troubles.append(f"{type(reason).__name__}: {reason}")
                return
            with self.lock:
                self.seen[kind] += 1

    def settle(self):
        """Nothing is under way any more, and all is accounted for."""


class Books(Night):
    """A night of the daemon's, with all that it delivers to `hop` and to `maildirs`."""

    def __init__(self, server, hop, maildirs):
        super().__init__(server)
        self.hop, self.maildirs = hop, maildirs
        self.have, self.turns = defaultdict(list), Counter()  # (sender, to) -> where it came; connection -> its last turn
        self.unanswered = defaultdict(set)  # sender -> who has it

    def settle(self):
        def all_here():
            self.gather()
            return self.waiting <= self.have.keys()
        try:
            wait_for("what was promised comes", all_here, 3 * PATIENCE)
        except Failed:
            lost = sorted(self.waiting - self.have.keys())
            raise Failed(f"{len(lost)} of {len(self.waiting)} promised are lost: {lost[:5]}") from None
        self.server.empty(3 * PATIENCE)
        self.gather()
        for (sender, to), places in self.have.items():
            if (sender, to) not in self.waiting:
                check(to in self.may_come.get(sender, ()), "nobody sent", sender, to, places)
                self.unanswered[sender].add(to)
            # Where the next hop has hung up instead of saying 250, twice is right (RFC 1047).
            for connection, turn in places[:-1]:
                check(connection and self.turns[connection] == turn, "delivered twice without need:", sender, to, places)
            self.total.update(copies=len(places), twice=len(places) - 1)
        self.have.clear()
        self.waiting.clear()

    def end(self):
        """What was cut off behind its text has come to all or to nobody."""
        for sender, to in self.unanswered.items():
            equal(to, set(self.may_come[sender]), f"who has the mail of {sender}, whose client did not hear the answer")

    def gather(self):
        for copy in self.hop.take_copies():
            self.turns[copy.connection] = max(self.turns[copy.connection], copy.turn)
            check(copy.whole, "not what was sent:", copy.sender, copy.to)
            notice = not copy.sender
            check(notice or not any(to.startswith("never.") for to in copy.to), "it was refused:", copy.sender, copy.to)
            sender, = copy.to if notice else (copy.sender,)
            for to in about(copy.octets) if notice else copy.to:
                self.have[sender, to].append((copy.connection, copy.turn))
                self.total.update(bounced=notice)
        for box in BOXES:
            for path in (self.maildirs / HOME / box / "new").glob("*"):
                mail = Stored(path, [f"{box}@{HOME}"])
                check(whole(mail.octets), "not what was sent:", mail.sender, box)
                self.have[mail.sender, f"{box}@{HOME}"].append((0, 0))
                path.unlink()


def about(notice):
    """Whom a notice is about: each must have been refused."""
    addresses = [address.decode() for address in REPORT.findall(notice)]
    check(addresses and all(to.startswith("never.") for to in addresses), "bounced without a reason:", addresses, notice[:500])
    return addresses


# ---- whether it is flat ----

def limits(minutes):
    """A round is noisy, and a short night has few: then more is allowed a minute; a database's file grows by steps."""
    few = minutes < 10
    memory, number, disk = (8 * MIB, 60, 64 * MIB) if few else (256 * KIB, 1, 256 * KIB)
    return {"memory": Flat(memory, 16 * MIB), "descriptors": Flat(number, 30), "threads": Flat(number, 30), "files": Flat(number, 30), "disk": Flat(disk, 64 * MIB)}


def fill(night, mails):
    """So many mails at once into a queue that waits, each as large as the database takes: then that is as large as it gets, and so
    are its caches."""
    night.server.queue_tool("pause")
    octets = numbered(110 << 10)
    equal(bulk(night.port, mails, lambda n: (f"full{n}@{SENDERS}", f"ok.full.{n}@{FAR}"), octets=octets), mails, "mails taken while the queue waits")
    night.waiting.update((f"full{n}@{SENDERS}", f"ok.full.{n}@{FAR}") for n in range(mails))
    night.server.queue_tool("resume")
    night.settle()


def rounds(night, minutes, queue=None, each=None):
    """So many minutes of load, in rounds; what the server held at rest after each, and at most."""
    began, samples, peak = time.monotonic(), [], held_by(night.server)
    each = each or max(60 * minutes / 90, 2.5)
    night.load(each)  # what is made for the first ones stays
    night.settle()
    while time.monotonic() < began + 60 * minutes or len(samples) < FEWEST:
        peak = Sample(*map(max, peak, night.load(each)))
        night.settle()
        settled(night.server)
        samples.append(held_by(night.server, queue))
        if LONG:
            print(f"        {time.monotonic() - began:6.0f} s {night.total['mails']} mails, {night.total['octets'] / MIB:.0f} MiB: {samples[-1].memory / MIB:.1f} MiB, "
                  f"{samples[-1].descriptors} descriptors, {samples[-1].threads} threads, {samples[-1].files} files of {samples[-1].disk / MIB:.1f} MiB", flush=True)
    return samples, peak


def told(night, samples, peak):
    total, first, last = night.total, samples[0], samples[-1]
    slopes = {what: slope(samples, what) for what in limits(1)}
    print(f"        {sum(night.seen.values())} sessions, {total['mails']} mails ({total['octets'] / MIB:.0f} MiB) to {total['recipients']} recipients taken; {total['copies']} copies, "
          f"{total['twice']} of them twice, {total['bounced']} bounced, {len(night.may_come)} unanswered\n"
          f"        memory at rest {first.memory / MIB:.1f} to {last.memory / MIB:.1f} MiB ({slopes['memory'] / KIB:+.0f} KiB a minute), at most {peak.memory / MIB:.1f}; "
          f"descriptors {first.descriptors} to {last.descriptors} ({slopes['descriptors']:+.2f}), at most {peak.descriptors}; threads {first.threads} to {last.threads} "
          f"({slopes['threads']:+.2f}), at most {peak.threads}; files {first.files} to {last.files}, {first.disk / MIB:.1f} to {last.disk / MIB:.1f} MiB", flush=True)


@case("a night of mixed load: what is promised is delivered or bounced, whole and once, and memory, descriptors, threads and files stay flat (the daemon)")
def soak(box):
    random.seed(11)
    hop, maildirs = Hop(box), box.new("maildirs")
    for name in BOXES:
        for part in ("tmp", "new", "cur"):
            (maildirs / HOME / name / part).mkdir(parents=True)
    server = daemon(box, hop, domains=HOME, maildir=maildirs / "{domain}/{local}", avoid=1)
    night = Books(server, hop, maildirs)
    fill(night, 900)
    samples, peak = rounds(night, MINUTES, server.queue)
    night.end()
    told(night, samples, peak)
    if not SANITIZED:
        flat(samples, limits(MINUTES))


@case("a night of mixed load in front of a sink: memory, descriptors and threads stay flat")
def soak_of_a_sink(box):
    random.seed(12)
    night = Night(sink(box, keep=False), EVERYBODY_THERE)
    samples, peak = rounds(night, MINUTES / 4)
    told(night, samples, peak)
    if not SANITIZED:
        flat(samples, limits(MINUTES / 4))


@case("leaks are found: one descriptor in 20 sessions, or 500 octets in each, is not flat; the same program without them is")
def leaks(box):
    for arguments, caught_by in (((), ""), (("--descriptors", 20), "descriptors is not flat"), (("--memory", 500), "memory is not flat")):
        server = box.keep(Server(box, [LEAKY], "--listen", "127.0.0.1:0", *arguments))
        night = Night(server, {in_the_clear: 1, cut_off: 0.2, reset_somewhere: 2})
        samples, peak = rounds(night, 0.15, each=0.4)
        try:
            flat(samples, limits(1))
            found = ""
        except Failed as reason:
            found = str(reason)
        check(found.startswith(caught_by) and bool(found) == bool(caught_by), f"with {arguments} the search found {found!r}")
        print(f"        {' '.join(map(str, arguments)) or 'no leak'}: {sum(night.seen.values())} sessions; {found[:100] or 'flat'}")


@case("what is flat and what is not: noise is, a drift of twice the allowance is not, nor a step")
def slopes(box):
    allowed = {"memory": Flat(100 * KIB, 2 * MIB)}

    def caught(drift, step=0):
        samples = [Sample(10.0 * n, int(40 * MIB + random.uniform(-MIB, MIB) / 4 + drift * n / 6 + (step if n > 60 else 0)), 0, 0) for n in range(90)]
        try:
            flat(samples, allowed)
        except Failed:
            return True
        return False
    random.seed(13)
    equal([caught(0) for _ in range(20)], [False] * 20, "whether noise is found to be a leak")
    equal([caught(200 * KIB) for _ in range(20)], [True] * 20, "whether a drift of 200 KiB a minute is found")
    equal([caught(0, 6 * MIB) for _ in range(5)], [True] * 5, "whether a step of 6 MiB is found")
