"""faults.py -- each call that smtpd, relay, sink and save make fails in its turn (see nth.py), under a dialogue; then two of them, and all
of a kind for a while; FAULTS=all: every one, else a sample. Whatever fails: the program lives and serves the next client, no session hangs, what was promised is there once, what was refused
is not, and descriptors and threads are back where they were. At the end of each kind the program is killed: all promises must hold then too.
"""
import errno
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import parts
import record
from ledger import Ledger, numbered, whole
from nsd import Nsd
from nth import FAULTS, FOREVER, KINDS, SECOND, SHORT, Nth, called, lasting
from parts import EXAMPLES, Failed, Server, case, check, die_with_us, wait_for
from postgres import Postgres
from queued import WRONG, caught
from secured import Authority

ALL = os.environ.get("FAULTS") == "all"
HANG = 15  # seconds that nothing here may take, but for what waits for others (Subject.hang)
BERT, CARL = "bert@local.example.test", "carl@far.example.test"
SMALL, LARGE = 500, 100 << 10
LACK = 2  # seconds that one lasts
BUSY = 3000  # calls of a kind that nobody makes meanwhile who waits between them


class Cut(Exception):
    """The server has hung up."""


class Talk:
    """A client that waits for each reply, for a bounded time."""

    def __init__(self, port, hang):
        self.hang, self.socket = hang, socket.create_connection(("127.0.0.1", port), timeout=hang)
        self.lines = self.socket.makefile("rb")

    def hear(self):
        try:
            while (line := self.lines.readline())[3:4] == b"-":
                pass
        except TimeoutError:
            raise Failed(f"a session hangs: no reply in {self.hang} s") from None
        except OSError:
            raise Cut from None
        if not line.endswith(b"\n"):
            raise Cut
        return int(line[:3])

    def say(self, octets):
        try:
            self.socket.sendall(octets)
        except TimeoutError:
            raise Failed(f"a session hangs: it reads nothing in {self.hang} s") from None
        except OSError:
            pass  # a reply may be there all the same
        return self.hear()

    def mail(self, sender, to, octets, chunk):
        """The code of the first refusal, or of the end."""
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in to)):
            if (code := self.say(line.encode() + b"\r\n")) >= 300:
                return code
        if chunk:
            return self.say(b"BDAT %d LAST\r\n" % len(octets) + octets)
        code = self.say(b"DATA\r\n")
        return self.say(octets + b".\r\n") if code == 354 else code

    def secure(self, context):
        if self.say(b"STARTTLS\r\n") != 220:
            raise Cut
        self.lines.close()
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        except TimeoutError:
            raise Failed(f"a session hangs: no handshake in {self.hang} s") from None
        except OSError:
            raise Cut from None
        self.lines = self.socket.makefile("rb")

    def close(self):
        self.lines.close()
        self.socket.close()


class Subject:
    """A program, what it was sent and what it said to that. `outcome` is a code, or None where it hung up instead."""
    to = (BERT,)
    hang, patience = HANG, 3 * HANG  # for a reply, and for what was promised to be there
    spare = 0, 2  # descriptors and threads that it may keep for the next ones
    # What may leave a mail there that was refused, since nobody can know, and what may leave it there twice, since nobody could hear or
    # record that it was delivered.
    unknown, repeated = (), ("killed",)
    context = None  # its clients speak TLS by this
    slow = ()  # (kind, fault) that is not for a sample
    own_pace = ()  # kinds of calls that others decide on
    kills = 1  # in a sample, after how many kinds it is killed

    def __init__(self, box):
        self.box, self.number, self.outcome, self.cause, self.nth = box, 0, {}, {}, Nth(box)
        self.blamed, self.server, self.doing = {}, None, "nothing fails"
        self.begin()

    def begin(self):
        pass

    def command(self):
        raise NotImplementedError

    def start(self):
        self.nth.disarm()
        program, *arguments = self.command()
        self.server = self.box.keep(Server(self.box, [*self.nth.under, program], *arguments))
        self.nth.know(self.server.pid)

    def kill(self):
        self.box.started.remove(self.server)
        self.server.kill()

    def stop(self):
        self.box.started.remove(self.server)
        self.server.stop()

    def dialogue(self):
        """A small mail and a large one, in one session while it lasts."""
        talk, heard = None, []
        try:
            for octets, chunk in ((numbered(SMALL), False), (numbered(LARGE), True)):
                self.number += 1
                sender = f"mail{self.number}@example.org"
                self.cause[sender] = self.doing
                octets = b"X-Sender: " + sender.encode() + b"\r\n" + octets
                try:
                    if not talk:
                        talk = Talk(self.server.port, self.hang)
                        if (code := talk.hear()) != 220:
                            raise Cut
                        for secure in [False, True] if self.context else [False]:
                            if secure:
                                talk.secure(self.context)
                            if talk.say(b"EHLO client.example.org\r\n") != 250:
                                raise Cut
                    self.outcome[sender] = talk.mail(sender, self.to, octets, chunk)
                    if self.outcome[sender] != 250:
                        talk.say(b"RSET\r\n")
                except (Cut, ConnectionError):
                    self.outcome.setdefault(sender, None)
                    if talk:
                        talk.close()
                    talk = None
                heard.append(self.outcome[sender])
            if talk:
                try:
                    talk.say(b"QUIT\r\n")
                except Cut:
                    pass
        finally:
            if talk:
                talk.close()
        return heard

    def clean(self):
        """It serves as if nothing had been; it may need a moment."""
        doing, self.doing = self.doing, f"after {self.doing}"
        end = time.monotonic() + self.hang
        while set(heard := self.dialogue()) != {250}:
            self.alive()
            check(time.monotonic() < end, "afterwards mail is answered", heard)
            time.sleep(0.05)
        self.doing = doing

    def alive(self):
        code = self.server.process.poll()
        check(code is None, f"it has ended with {code}")

    def promised(self):
        return {(sender, to) for sender, code in self.outcome.items() if code == 250 for to in self.to}

    def there(self):
        """(sender, recipient) -> how many copies; torn ones raise."""
        raise NotImplementedError

    def exposed(self):
        """What is still on its way may suffer from what is done now, too."""
        for sender, to in self.promised() - self.there().keys():
            if not self.cause[sender].endswith(self.doing):
                self.cause[sender] += f", {self.doing}"

    def delivered(self):
        return self.promised() <= self.there().keys()

    def account(self):
        """[(what failed meanwhile, what is wrong)] of all that was ever sent, each thing told once."""
        there, found = self.there(), []
        for sender, code in self.outcome.items():
            cause = self.cause[sender]
            for to in self.to:
                copies = there.get((sender, to), 0)
                words = re.findall(r"\w+", cause)
                unknown, again = [sum(word in kinds for word in words) for kinds in (self.unknown, self.repeated)]
                unknown = unknown or words.count("malloc") > 1  # what was begun can't be undone either
                if code == 250 and copies == 0:
                    found.append((cause, f"LOST {sender} to {to}"))
                if copies > 1 + again and not (again and "lasting" in words):
                    found.append((cause, f"{copies} copies of {sender} to {to}"))
                if code is not None and code != 250 and copies and not unknown:
                    found.append((cause, f"{sender} to {to} was answered {code} and is there"))
        return [self.blamed.setdefault(each, each) for each in found if each not in self.blamed]

    def resources(self):
        process = Path(f"/proc/{self.server.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


class Sink(Subject):
    unknown = "fsync",

    def begin(self):
        self.folder, self.seen, self.found = self.box.new("mails"), set(), Counter()
        self.folder.mkdir()

    def command(self):
        return [EXAMPLES / "sink", "--listen", "127.0.0.1:0", "--dir", self.folder]

    def files(self):
        return self.folder.glob("*.eml")

    def count(self, path):
        try:
            octets = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        except FileNotFoundError:  # withdrawn, since it could not be made durable
            return
        sender = re.search(rb"X-Sender: (.*?)\r\n", octets)
        check(sender and whole(octets[sender.start():]), f"{path.name} is torn")
        self.found[sender[1].decode(), BERT] += 1

    def there(self):
        for path in self.files():
            if path not in self.seen:
                self.seen.add(path)
                self.count(path)
        return self.found


class Nowhere(Sink):
    """It promises, and keeps nothing."""
    patience = 0.2

    def command(self):
        return [EXAMPLES / "sink", "--listen", "127.0.0.1:0"]


class Hasty(Nowhere):
    """It knows no BDAT, and waits for nothing when it can't accept."""

    def command(self):
        return [WRONG, "--listen", "127.0.0.1:0", "--relay", "127.0.0.1:9"]


class Save(Sink):
    def command(self):
        return [EXAMPLES / "save", "--listen", "127.0.0.1:0", "--dir", self.folder]


class Relaying(Subject):
    to = (CARL,)
    spare = 2, 2  # sessions with the next hop
    unknown = repeated = "recv", "send", "poll", "malloc", "killed"

    def begin(self):
        self.hop = Ledger(self.box)

    def command(self):
        return [EXAMPLES / "relay", "--listen", "127.0.0.1:0", *self.way(), "--trusted", "127.0.0.0/8"]

    def way(self):
        return "--via", f"127.0.0.1:{self.hop.port}"

    def there(self):
        seen = self.hop.seen()
        check(all(copy.whole for copies in seen.values() for copy in copies), "a mail is torn")
        return {pair: len(copies) for pair, copies in seen.items()}


class Smtpd(Sink):
    to = (BERT, CARL)
    spare = 12, 12  # sessions with the next hop, readers of the database
    unknown = "fsync", "pwrite", "fcntl", "malloc"
    repeated = "recv", "send", "poll", "malloc", "fsync", "link", "rename", "open", "close", "killed"

    def begin(self):
        super().begin()
        self.hop, self.queue = Ledger(self.box), self.box.new("queue")

    def command(self):
        return [EXAMPLES / "smtpd", "--listen", "127.0.0.1:0", "--queue", self.queue, "--hostname", "mx.example.test", "--trusted", "127.0.0.0/8",
                "--maxrelay", "8", "--schedule", "simplesmtp", "--retry", "1", "--avoid", "1", "--domains", "local.example.test", "--mailboxes", "any",
                "--maildir", f"{self.folder}/{{domain}}/{{local}}", *self.way()]

    def way(self):
        return "--dns", "none", "--relay", f"127.0.0.1:{self.hop.port}"

    def files(self):
        return self.folder.glob("*/*/new/*")

    def there(self):
        super().there()
        seen = self.hop.seen()
        check(all(copy.whole for copies in seen.values() for copy in copies), "a mail is torn")
        return self.found | Counter({pair: len(copies) for pair, copies in seen.items()})


class Encrypted:
    """Its clients speak TLS, and so does the next hop, to whom each mail has a connection of its own."""
    kills = 4

    def begin(self):
        super().begin()
        self.authority = Authority(self.box)
        self.pair, self.context = self.authority.issue(), self.authority.trust()
        self.hop = Ledger(self.box, context=self.other_side(), brief=True)

    def other_side(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.pair)
        return context


class EncryptedSink(Encrypted, Sink):
    def command(self):
        return [*super().command(), *self.pair.options()]


class EncryptedRelaying(Encrypted, Relaying):
    def way(self):
        return "--via", f"localhost:{self.hop.port}", "--via-tls", "verify", "--via-ca", self.authority.file, *self.pair.options()


class EncryptedSmtpd(Encrypted, Smtpd):
    def way(self):
        return ("--dns", "none", "--relay", f"localhost:{self.hop.port}", "--relay_tls", "verify", "--relay_ca", self.authority.file,
                "--tls_cert", self.pair.certificate, "--tls_key", self.pair.key)


class Asking:
    """It asks the DNS for the next hop of each mail, which has a connection of its own; nothing is remembered. A question may take 20 s."""
    hang = 3 * HANG
    own_pace = "bind",  # libunbound tries one port after the other
    spare = 12, 12  # what is left behind of a libunbound that does not end
    kills = 4

    def begin(self):
        super().begin()
        self.hop = Ledger(self.box, brief=True)
        self.nsd = Nsd(self.box, {"example.test": "$TTL 0\nfar MX 10 hop\nhop A 127.0.0.1\n"})


class AskingRelaying(Asking, Relaying):
    def way(self):
        return "--dns", f"127.0.0.1:{self.nsd.port}", "--mx-port", self.hop.port


class AskingSmtpd(Asking, Smtpd):
    def way(self):
        return "--dns", f"127.0.0.1:{self.nsd.port}", "--mx_port", self.hop.port


class SmtpdOnPostgres(Smtpd):
    # libpq keeps it to itself when it could not send for lack of room, so that only the store's deadline ends the wait for an answer.
    hang = 3 * HANG
    slow = {("send", errno.ENOBUFS)}
    unknown = *Smtpd.unknown, "recv", "send", "poll"  # whether it was committed
    kills = 6  # what it had claimed waits for its lease

    def begin(self):
        super().begin()
        self.queue = Postgres(self.box).url

    def command(self):
        return [*super().command(), "--lease", 3]


SUBJECTS = {"sink": Sink, "save": Save, "relay": Relaying, "smtpd": Smtpd, "sink with TLS": EncryptedSink, "relay with TLS": EncryptedRelaying,
            "smtpd with TLS": EncryptedSmtpd, "relay by MX": AskingRelaying, "smtpd by MX": AskingSmtpd, "smtpd on PostgreSQL": SmtpdOnPostgres}


class Run:
    """Goes through the faults of one subject; what is found is told at the end, all of it."""

    def __init__(self, box, subject, budget):
        self.box, self.subject, self.budget, self.found, self.made, self.fired = box, subject(box), budget, [], 0, 0

    def note(self, what, where=()):
        where = " < ".join(where)
        self.found.append((what, where))
        print(f"        {what}{'; at ' if where else ''}{where}", flush=True)

    def quiet(self):
        """Waits until it does nothing."""
        self.subject.alive()
        try:
            wait_for("what was promised is there", self.subject.delivered, self.subject.patience)
        except Failed:
            pass  # the account tells which
        for cause, wrong in self.subject.account():
            self.note(f"{cause}: {wrong}")

    def fresh(self):
        """What a process that has done nothing wrong has open."""
        self.subject.start()
        for _ in range(3):
            self.subject.clean()
        self.quiet()
        self.baseline = self.subject.resources()

    def again(self):
        """Whatever is wrong with what it has left behind is told once, and no more asked of."""
        if self.subject.server in self.box.started:
            self.subject.kill()
        try:
            self.fresh()
        except Failed as reason:
            self.note(f"{self.subject.doing}, started again: {reason}")
            self.last_words()
            self.subject.kill()
            for cause, wrong in self.subject.account():
                self.note(f"{cause}: {wrong}")
            self.subject.outcome.clear()
            self.subject.begin()
            self.fresh()

    def one(self, kind, at, fault, *second):
        subject, doing = self.subject, f"{kind} {at} {called(fault)}"
        if second:
            doing += " and {} {} {}".format(*second[:2], called(second[2]))
        subject.doing = doing
        subject.exposed()
        try:
            subject.nth.arm(kind, at, fault, second=second or (None, 0, 0))
            subject.dialogue()
            until = time.monotonic() + 0.5
            while not subject.delivered() and subject.server.process.poll() is None and time.monotonic() < until:
                time.sleep(0.002)
            fired = subject.nth.disarm()
            if second:
                fired = subject.nth.fired(SECOND)
            self.made += 1
            self.fired += min(fired, 1)
            subject.alive()
            subject.clean()
            if subject.delivered():
                for cause, wrong in subject.account():
                    self.note(f"{cause}: {wrong}", subject.nth.where())
        except Failed as reason:
            subject.nth.disarm()
            self.note(f"{doing}: {reason}", subject.nth.where())
            self.last_words()
            self.again()

    def last_words(self):
        for line in self.subject.server.said().splitlines()[-3:]:
            print("          said:", line[:200])

    def counted(self):
        self.subject.nth.arm()
        self.subject.clean()
        try:
            wait_for("what was promised is there", self.subject.delivered, self.subject.patience)
        except Failed:
            pass
        time.sleep(0.05)
        self.subject.nth.disarm()
        return self.subject.nth.counts()

    def sample(self, counts, kinds):
        """kind -> [(at, fault)]."""
        chosen = {kind: [(at, fault) for at in range(1, counts[kind] + 1) for fault in FAULTS[kind]] for kind in kinds if counts[kind]}
        if ALL:
            return chosen
        chosen = {kind: [(at, fault) for at, fault in those if (kind, fault) not in self.subject.slow] for kind, those in chosen.items()}
        each = max(1, self.budget // max(1, len(chosen)))
        return {kind: spread(those, 3 * each if kind == "malloc" else each, number) for number, (kind, those) in enumerate(chosen.items())}

    def settled(self, kind):
        """Descriptors and threads are back."""
        self.quiet()
        try:
            wait_for("back", lambda: all(now <= before + spare for now, before, spare in zip(self.subject.resources(), self.baseline, self.subject.spare)), 5)
        except Failed:
            self.note(f"{kind}: (descriptors, threads) went from {self.baseline} to {self.subject.resources()}")

    def serving(self, kinds=KINDS):
        self.fresh()
        for number, (kind, those) in enumerate(self.sample(self.counted(), kinds).items()):
            for at, fault in those:
                self.one(kind, at, fault)
            try:
                self.settled(kind)
            except Failed as reason:
                self.note(f"{kind}: in the end {reason}")
            if number % self.subject.kills and not ALL:
                continue
            self.subject.doing = f"{kind} 1 killed"
            self.subject.exposed()
            self.subject.nth.arm(*(kind, *those[len(those) // 2]))
            self.subject.dialogue()
            self.again()
        self.quiet()
        self.subject.kill()

    def pairs(self, kinds=KINDS):
        """Two fail: one call, and then one of each kind, the next or one soon after it."""
        self.fresh()
        counts, chosen = self.counted(), []
        for number, first in enumerate(kind for kind in kinds if counts[kind]):
            calls = [(at, fault) for at in range(1, counts[first] + 1) for fault in FAULTS[first]]
            for turn, second in enumerate(kind for kind in KINDS if counts[kind]):
                for which, (at, fault) in enumerate(spread(calls[turn % 7:] or calls, 3)):
                    faults = FAULTS[second]
                    chosen.append((first, at, fault, second, 1 + (turn + which) % 3, faults[(number + turn + which) % len(faults)]))
        last = None
        for each in chosen if ALL else spread(chosen, self.budget):
            if last not in (None, each[0]):
                self.settled(last)
            last = each[0]
            self.one(*each)
        self.settled("pairs")
        self.subject.kill()

    def lacking(self, kinds=KINDS):
        """All calls of a kind fail for a while."""
        self.fresh()
        counts = self.counted()
        chosen = [(kind, fault) for kind in kinds if counts[kind] for fault in lasting(kind) if (kind, fault) not in self.subject.slow]
        for kind, fault in chosen if ALL else spread(chosen, self.budget):
            try:
                self.lack(kind, fault)
                self.settled(kind)
            except Failed as reason:
                self.subject.nth.disarm()
                self.note(f"{self.subject.doing}: {reason}", self.subject.nth.where())
                self.last_words()
                self.again()
        self.subject.kill()

    def lack(self, kind, fault):
        subject = self.subject
        subject.doing = f"{kind} lasting {called(fault)}"
        subject.exposed()
        subject.nth.arm(kind, 1, fault, FOREVER)
        over = threading.Timer(LACK, subject.nth.disarm)
        over.start()
        try:
            while over.is_alive():
                subject.dialogue()
                time.sleep(0.1)
        finally:
            over.cancel()
            over.join()
            fired = subject.nth.disarm()
        self.made, self.fired = self.made + 1, self.fired + min(fired, 1)
        subject.alive()
        check(fired < BUSY or fault == SHORT or kind in subject.own_pace, fired, "calls failed in that time: it does not wait")
        subject.clean()

    def starting(self, kinds=KINDS):
        """It starts all the same, or says why not."""
        self.launch()
        check(self.subject.server, "it does not start when nothing fails")
        for kind, those in self.sample(self.subject.nth.counts(), kinds).items():
            for at, fault in those:
                self.subject.doing = f"{kind} {at} {called(fault)} at start"
                try:
                    self.launch(kind, at, fault)
                    if self.subject.server:
                        self.serves()
                except (Failed, OSError) as reason:
                    self.note(f"{self.subject.doing}: {reason}", self.subject.nth.where())
                    self.last_words()
                    if self.subject.server in self.box.started:
                        self.subject.kill()

    def serves(self):
        """Or ends in order a moment after it has said that it listens."""
        try:
            self.subject.clean()
            self.subject.stop()
        except (Failed, OSError):
            if not self.ended_in_order():
                raise

    def ended_in_order(self):
        server = self.subject.server
        if (server.process.poll() or 0) <= 0 or server.said().count("\n") < 2:
            return False
        if server in self.box.started:
            self.subject.kill()
        return True

    def launch(self, kind=None, at=0, fault=0):
        """`server` is None where it has ended in order."""
        subject, output = self.subject, self.box.new("start.log")
        subject.server = None
        subject.nth.arm(kind, at, fault)
        with output.open("wb") as file:
            process = subprocess.Popen([*map(str, subject.nth.under), *map(str, subject.command())], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       start_new_session=True, preexec_fn=die_with_us, cwd=self.box.folder)
        server = Server.__new__(Server)
        server.process, server.pid, server.name, server.output, server.errors = process, process.pid, "it", output, Path(os.devnull)
        self.box.keep(server)
        until = time.monotonic() + HANG
        while not (ready := re.search(r"^listening on \S*:(\d+)$", server.said(), re.MULTILINE)) and process.poll() is None:
            check(time.monotonic() < until, f"it neither listens nor ends in {HANG} s")
            time.sleep(0.002)
        fired = subject.nth.disarm()
        if kind:
            self.made, self.fired = self.made + 1, self.fired + min(fired, 1)
        subject.server = server
        if ready:
            server.port = int(ready[1])
            subject.nth.know(server.pid)
            if not kind:
                subject.stop()
            return
        code = process.wait(HANG)
        check(code > 0 and server.said().strip(), f"it ended with {code} saying {server.said()!r} when it started")
        self.box.started.remove(server)
        server.kill()
        subject.server = None

    def ending(self, kinds=KINDS):
        """It ends in order, and what it had promised is kept."""
        counts = None
        for kind, those in [(None, [(0, 0)]), *((kind, None) for kind in kinds)]:
            those = those or self.sample(counts, [kind]).get(kind, [])
            for at, fault in those:
                self.subject.doing = f"{kind} {at} {called(fault) if fault else ''} at the end"
                self.subject.start()
                self.subject.clean()
                self.subject.exposed()
                self.subject.nth.arm(kind, at, fault)
                try:
                    self.end()
                except Failed as reason:
                    self.note(f"{self.subject.doing}: {reason}", self.subject.nth.where())
                    self.last_words()
                self.subject.nth.disarm()
                counts = counts or self.subject.nth.counts()
                self.made, self.fired = self.made + bool(kind), self.fired + min(self.subject.nth.fired(), 1)
                self.subject.kill()
        self.subject.start()
        self.subject.clean()
        self.quiet()

    def end(self):
        process = self.subject.server.process
        process.terminate()
        try:
            code = process.wait(HANG)
        except subprocess.TimeoutExpired:
            raise Failed("it does not end") from None
        check(code >= 0, f"it ended with {code}")

    def told(self):
        print(f"        {self.made} faults, {self.fired} came to pass, {len(self.found)} findings")
        check(not self.found, len(self.found), "findings:", *(f"\n          {what}; at {where}" for what, where in self.found[:40]))


def spread(all_of_them, count, offset=0):
    """So many of them, from all parts; another offset gives others."""
    step = max(1, len(all_of_them) / count)
    return [all_of_them[(int(number * step) + offset) % len(all_of_them)] for number in range(min(count, len(all_of_them)))]


def some(box, subject, when, budget, kinds=KINDS):
    run = Run(box, subject, budget)
    getattr(run, when)(kinds)
    run.told()


# A sanitizer has a malloc of its own, which nobody else can make fail.
for subject, when, budget in (("sink", "serving", 40), ("save", "serving", 40), ("relay", "serving", 60), ("smtpd", "serving", 80),
                              ("sink", "starting", 40), ("relay", "starting", 40), ("smtpd", "starting", 60),
                              ("sink", "ending", 20), ("relay", "ending", 20), ("smtpd", "ending", 40),
                              ("sink with TLS", "serving", 20), ("relay with TLS", "serving", 20), ("smtpd with TLS", "serving", 12),
                              ("relay by MX", "serving", 25), ("smtpd by MX", "serving", 25), ("smtpd on PostgreSQL", "serving", 20),
                              ("smtpd on PostgreSQL", "starting", 20), ("smtpd on PostgreSQL", "ending", 2)):
    @case(f"faults: {subject}, {when}: whichever call fails costs one session or one mail, and no promise", record.PLAIN)
    def one_fails(box, subject=subject, when=when, budget=budget):
        some(box, SUBJECTS[subject], when, budget)


for subject, budget in (("relay", 30), ("smtpd", 24), ("smtpd on PostgreSQL", 12)):
    @case(f"faults: {subject}: two calls fail, the second soon after the first, and no promise is broken", record.PLAIN)
    def two_fail(box, subject=subject, budget=budget):
        some(box, SUBJECTS[subject], "pairs", budget)


@case("faults: smtpd: a commit that is not synced, and a call that fails soon after: no mail waits for a restart", record.PLAIN)
def not_synced(box):
    some(box, SUBJECTS["smtpd"], "pairs", 45, ["fsync"])


for subject, budget in (("sink", 2), ("relay by MX", 3), ("smtpd", 4), ("smtpd on PostgreSQL", 2)):
    @case(f"faults: {subject}: calls of a kind fail for {LACK} s; it waits, serves again by itself, and no promise is broken", record.PLAIN)
    def all_fail(box, subject=subject, budget=budget):
        some(box, SUBJECTS[subject], "lacking", budget)


@case("faults: control: a program that promises and keeps nothing is caught", record.PLAIN)
def control(box):
    caught("LOST", some, box, Nowhere, "serving", 4, ["recv"])
    caught("LOST", some, box, Nowhere, "pairs", 2, ["recv"])


@case("faults: control: a program that tries again at once what can't be is caught", record.PLAIN)
def busy_control(box):
    caught("it does not wait", some, box, Hasty, "lacking", 1, ["accept"])


if __name__ == "__main__":  # faults.py SUBJECT WHEN BUDGET KIND...
    box = parts.Box()
    try:
        some(box, SUBJECTS[sys.argv[1]], sys.argv[2], int(sys.argv[3]), sys.argv[4:] or KINDS)
    except Failed as reason:
        print(f"FAILED {reason}")
    finally:
        box.clear()
