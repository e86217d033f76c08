"""queued.py -- the daemon with a queue, smtpq, clients that note what they were promised, and the account of it all."""
import itertools
import json
import os
import re
import smtplib
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict

from ledger import numbered
from parts import EXAMPLES, PATIENCE, TREE, Failed, Late, Server, check, equal, smtp, wait_for

SMTPD, SMTPQ, WRONG = EXAMPLES / "smtpd", EXAMPLES / "smtpq", TREE / "t/interop/forgetful.py"
FOUND, NOT_FOUND, IN_FLIGHT = 0, 1, 3  # what smtpq ends with
HERE = "mx.example.org"  # what the daemon calls itself


def options_of(values):
    """--name value for each; a list is given with commas."""
    for name, value in values.items():
        yield f"--{name}"
        yield ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


class Daemon(Server):
    """smtpd, or a program that is wrong on purpose. `settings` are its options; `under` what it is started by."""

    def __init__(self, box, program=SMTPD, under=(), port=0, queue=None, **settings):
        self.queue = queue or box.new("queue")
        self.settings = {"listen": f"127.0.0.1:{port}", "hostname": HERE, "trusted": "127.0.0.0/8", "queue": self.queue, "retry": 1} | settings
        self.under = list(under)
        began = time.monotonic()
        super().__init__(box, [*under, program], *options_of(self.settings))
        self.seconds_to_start = time.monotonic() - began

    def memory(self):
        """Octets of it that are in memory."""
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def asked(self, *arguments, under=()):
        """(exit status of smtpq, what it said)."""
        done = subprocess.run([*map(str, under), str(SMTPQ), "--queue", str(self.queue), *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=4 * PATIENCE)
        return done.returncode, done.stdout.decode(errors="replace")

    def queue_tool(self, *arguments, under=()):
        """What smtpq says, which must be content."""
        status, said = self.asked(*arguments, under=under)
        equal(status, FOUND, f"status of smtpq {' '.join(map(str, arguments))}, which said {said}")
        return said

    def cancel(self, id):
        """As soon as it is not being delivered."""
        equal(wait_for("it can be cancelled", lambda: (status := self.asked("cancel", id)[0]) != IN_FLIGHT and (status,)), (FOUND,), "status of smtpq cancel")

    def items(self, under=()):
        """The messages in its queue."""
        return [json.loads(line) for line in self.queue_tool("list", "--json", under=under).splitlines()]

    def stats(self, under=()):
        return json.loads(self.queue_tool("stats", "--json", under=under))

    def waiting(self, under=()):
        """(sender, recipient) of all that is in its queue, but for what it has to say itself."""
        return Counter((item["from"], to["to"]) for item in self.items(under) for to in item["recipients"] if item["from"])

    def empty(self, seconds=PATIENCE):
        wait_for("the queue is empty", lambda: self.stats()["messages"] == 0, seconds)


def start(box, program, **settings):
    return box.keep(Daemon(box, program, **settings))


def recorded_by(*daemons):
    """(sender, recipient) -> how often these have said in their logs that it is delivered, which they do when it is on stable storage."""
    return Counter(found for daemon in daemons for found in
                   re.findall(r"event=sent .*?from=<([^>]*)> to=<([^>]*)>", daemon.errors.read_text(errors="replace")))


def end(box, server, kill=False):
    """Of one server of the box, in order or not."""
    box.started.remove(server)
    if kill:
        server.kill()
        server.sane()
    else:
        server.stop()


def caught(words, function, *arguments, **more):
    """The function must fail, saying that."""
    try:
        function(*arguments, **more)
    except Failed as reason:
        check(words in str(reason), "caught otherwise:", reason)
    else:
        raise Failed("it was not caught")


def hand_in(session, sender, to, octets, mail_options=(), rcpt_options=()):
    """One transaction, ended by the first refusal: (code, text) of that, or of the end of data."""
    for code, text in itertools.chain([session.mail(sender, mail_options)], (session.rcpt(each, rcpt_options) for each in to)):
        if code >= 300:
            session.rset()
            return code, text.decode(errors="replace")
    try:
        code, text = session.data(octets)
    except smtplib.SMTPDataError as refusal:
        code, text = refusal.smtp_code, refusal.smtp_error
        session.rset()
    return code, text.decode(errors="replace")


def queue_id(text):
    """Out of what is said after the text."""
    return text.split()[-1]


class Clients:
    """Clients that send numbered mails, each from a sender of its own, and note what they have heard. `of(number)` is
    (recipients, octets); at `limit` mails they end. They go on from what was refused or cut off with the next mail."""

    def __init__(self, ports, count, of, limit=None, prefix="mail"):
        self.ports, self.of, self.limit, self.prefix, self.over = ports if isinstance(ports, list) else [ports], of, limit, prefix, False
        self.lock, self.number = threading.Lock(), 0
        self.sent, self.promised, self.refused, self.cut, self.ids = {}, {}, {}, set(), {}  # by sender
        self.threads = [threading.Thread(target=self.work, args=(each,), daemon=True) for each in range(count)]
        for thread in self.threads:
            thread.start()

    def next(self):
        with self.lock:
            if self.over or self.limit is not None and self.number >= self.limit:
                return None
            self.number += 1
            number = self.number
        to, octets = self.of(number)
        sender = f"{self.prefix}{number}@example.org"
        with self.lock:
            self.sent[sender] = tuple(to)
        return sender, to, octets

    def work(self, which):
        mail = self.next()
        while mail and not self.over:
            try:
                with smtp(self.ports[which % len(self.ports)]) as session:
                    while mail:
                        sender, to, octets = mail
                        mail = None
                        code, text = hand_in(session, sender, to, octets)
                        with self.lock:
                            if code == 250:
                                self.promised[sender], self.ids[sender] = tuple(to), queue_id(text)
                            else:
                                self.refused[sender] = code, text
                        if code != 250:
                            time.sleep(0.02)
                        mail = self.next()
            except (OSError, smtplib.SMTPException):
                self.cut.add(which)
                time.sleep(0.02)
                mail = mail or self.next()

    def serve_more(self, more=10):
        """Waits until so many more were promised something."""
        enough = len(self.promised) + more
        wait_for("clients are served", lambda: len(self.promised) >= enough)

    def join(self, seconds=2 * PATIENCE):
        """Until `limit` is reached."""
        until = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, until - time.monotonic()))
            if thread.is_alive():
                raise Late("a client got no answer at all")

    def finish(self):
        self.over = True
        self.join()

    def pairs(self, which=None):
        return {(sender, to) for sender, all_of_them in (self.promised if which is None else which).items() for to in all_of_them}


def together(*clients):
    """One, with the notes of all."""
    for each in clients[1:]:
        for notes in ("sent", "promised", "refused", "ids"):
            getattr(clients[0], notes).update(getattr(each, notes))
    return clients[0]


class Account:
    """What was promised beside what has come, (sender, recipient) by (sender, recipient)."""

    def __init__(self, clients, ledger, waiting=(), gone=()):
        """`waiting` is still in the queue; `gone` was taken out of it by somebody who may."""
        promised, sent, self.seen = clients.pairs(), clients.pairs(clients.sent), ledger.seen()
        refused = {sender for sender in clients.refused}
        self.promised, self.delivered, self.waiting = len(promised), len(promised & self.seen.keys()), len(promised & set(waiting))
        self.lost = promised - self.seen.keys() - set(waiting) - set(gone)
        self.strange = {pair for pair in self.seen if pair not in sent and pair[0].endswith("@example.org")}
        self.unwanted = {pair for pair in self.seen if pair[0] in refused}
        self.both = set(waiting) & self.seen.keys()
        self.damaged = {pair for pair, copies in self.seen.items() if not all(copy.whole for copy in copies)}
        self.repeated = {pair: copies for pair, copies in self.seen.items() if len(copies) > 1}

    def nothing_lost(self):
        """And nothing invented, cut off or altered."""
        for what in ("lost", "damaged", "strange", "unwanted"):
            found = getattr(self, what)
            check(not found, len(found), what, "of", self.promised, "promised:", *sorted(found)[:5])

    def nothing_twice(self):
        check(not self.repeated, len(self.repeated), "delivered twice:", *sorted(self.repeated)[:5])

    def unexplained(self, at_once, recorded):
        """Of what was delivered twice, what can't be understood by the end of the daemon between: it was the same daemon, or one
        that has told that it is recorded (`recorded` is recorded_by() of each life). And lives that have left more than `at_once`."""
        found, left = set(), defaultdict(set)
        for pair, copies in self.repeated.items():
            for first, second in zip(copies, copies[1:]):
                if first.life == second.life or any(recorded[life][pair] for life in range(second.life) if life < len(recorded)):
                    found.add(pair)
                left[first.life].add((first.connection, first.turn))
        return found, {life: len(transactions) for life, transactions in left.items() if len(transactions) > at_once}

    def explained(self, at_once, recorded):
        found, left = self.unexplained(at_once, recorded)
        check(not found, len(found), "delivered twice without need:", *sorted(found)[:5])
        check(not left, "more delivered twice than can have been under way at the ends:", left)
        told = sum(recorded, Counter())
        more = {pair: count for pair, count in told.items() if count > 1}
        check(not more, "recorded twice:", more)

    def __str__(self):
        return f"{self.promised} promised, {self.delivered} delivered, {self.waiting} waiting, {len(self.lost)} lost, {len(self.repeated)} twice"


def bulk(port, number, of, connections=32, in_one_go=50, octets=None):
    """So many mails, small or the one given, in chunks that need no answers between: of(n) is (sender, recipient). Returns how many
    were taken."""
    taken, lock, numbers = Counter(), threading.Lock(), itertools.count()

    def work():
        with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as replies:
            connection.settimeout(4 * PATIENCE)
            connection.sendall(b"EHLO client.example.org\r\n")
            check(replies.readline().startswith(b"220"), "no greeting")
            offered = []
            while not offered or offered[-1][3:4] == b"-":
                offered.append(replies.readline())
            check(any(b"CHUNKING" in line for line in offered), "CHUNKING is not offered")
            while True:
                with lock:
                    mine = list(itertools.takewhile(lambda n: n < number, itertools.islice(numbers, in_one_go)))
                if not mine:
                    return
                request, text = b"", octets or numbered(60)
                for each in mine:
                    sender, to = of(each)
                    request += f"MAIL FROM:<{sender}>\r\nRCPT TO:<{to}>\r\nBDAT {len(text)} LAST\r\n".encode() + text
                connection.sendall(request)
                codes = [replies.readline()[:3] for _ in range(3 * len(mine))]
                with lock:
                    taken.update(codes[2::3])
    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE)
        if thread.is_alive():
            raise Late("a connection stays without answers")
    equal(set(taken), {b"250"}, "replies")
    return taken[b"250"]
