"""faults.py -- each call that smtpd, relay, sink and save make fails in its turn (see nth.py), under a dialogue; FAULTS=all: every one, else
a sample. Whatever fails: the program lives and serves the next client, no session hangs, what was promised is there once, what was refused
is not, and descriptors and threads are back where they were. At the end of each kind the program is killed: all promises must hold then too.
"""
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import parts
import record
from ledger import Ledger, numbered, whole
from nth import FAULTS, KINDS, Nth, called
from parts import EXAMPLES, Failed, Server, case, check, die_with_us, wait_for

ALL = os.environ.get("FAULTS") == "all"
HANG = 15  # seconds that nothing here may take
BERT, CARL = "bert@local.example.test", "carl@far.example.test"
SMALL, LARGE = 500, 100 << 10


class Cut(Exception):
    """The server has hung up."""


class Talk:
    """A client that waits for each reply, for a bounded time."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=HANG)
        self.lines = self.socket.makefile("rb")

    def hear(self):
        try:
            while (line := self.lines.readline())[3:4] == b"-":
                pass
        except TimeoutError:
            raise Failed(f"a session hangs: no reply in {HANG} s") from None
        except OSError:
            raise Cut from None
        if not line.endswith(b"\n"):
            raise Cut
        return int(line[:3])

    def say(self, octets):
        try:
            self.socket.sendall(octets)
        except TimeoutError:
            raise Failed(f"a session hangs: it reads nothing in {HANG} s") from None
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

    def close(self):
        self.lines.close()
        self.socket.close()


class Subject:
    """A program, what it was sent and what it said to that. `outcome` is a code, or None where it hung up instead."""
    to = (BERT,)
    patience = HANG  # for what was promised to be there
    spare = 0, 2  # descriptors and threads that it may keep for the next ones
    # What may leave a mail there that was refused, since nobody can know, and what may leave it there twice, since nobody could hear or
    # record that it was delivered.
    unknown, repeated = (), ("killed",)

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
                        talk = Talk(self.server.port)
                        if (code := talk.hear()) != 220:
                            raise Cut
                        if (code := talk.say(b"EHLO client.example.org\r\n")) != 250:
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
        end = time.monotonic() + HANG
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

    def delivered(self):
        return self.promised() <= self.there().keys()

    def account(self):
        """[(what failed meanwhile, what is wrong)] of all that was ever sent, each thing told once."""
        there, found = self.there(), []
        for sender, code in self.outcome.items():
            cause = self.cause[sender]
            for to in self.to:
                copies = there.get((sender, to), 0)
                words = cause.removeprefix("after ").split()
                unknown, twice = words[0] in self.unknown, words[0] in self.repeated or words[-1] in self.repeated
                if code == 250 and copies == 0:
                    found.append((cause, f"LOST {sender} to {to}"))
                if copies > (2 if twice else 1):
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
        octets = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
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


class Save(Sink):
    def command(self):
        return [EXAMPLES / "save", "--listen", "127.0.0.1:0", "--dir", self.folder]


class Relaying(Subject):
    to = (CARL,)
    unknown = repeated = "recv", "send", "poll", "malloc", "killed"

    def begin(self):
        self.hop = Ledger(self.box)

    def command(self):
        return [EXAMPLES / "relay", "--listen", "127.0.0.1:0", "--via", f"127.0.0.1:{self.hop.port}", "--trusted", "127.0.0.0/8"]

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
                "--dns", "none", "--maxrelay", "8", "--retry", "1", "--avoid", "1", "--domains", "local.example.test", "--mailboxes", "any",
                "--maildir", f"{self.folder}/{{domain}}/{{local}}", "--relay", f"127.0.0.1:{self.hop.port}"]

    def files(self):
        return self.folder.glob("*/*/new/*")

    def there(self):
        super().there()
        seen = self.hop.seen()
        check(all(copy.whole for copies in seen.values() for copy in copies), "a mail is torn")
        return self.found | Counter({pair: len(copies) for pair, copies in seen.items()})


SUBJECTS = {"sink": Sink, "save": Save, "relay": Relaying, "smtpd": Smtpd}


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

    def one(self, kind, at, fault):
        subject, doing = self.subject, f"{kind} {at} {called(fault)}"
        subject.doing = doing
        try:
            subject.nth.arm(kind, at, fault)
            subject.dialogue()
            until = time.monotonic() + 0.5
            while not subject.delivered() and subject.server.process.poll() is None and time.monotonic() < until:
                time.sleep(0.002)
            fired = subject.nth.disarm()
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
        each = max(2, self.budget // max(1, len(chosen)))
        return {kind: spread(those, 3 * each if kind == "malloc" else each) for kind, those in chosen.items()}

    def settled(self, kind):
        """Descriptors and threads are back."""
        self.quiet()
        try:
            wait_for("back", lambda: all(now <= before + spare for now, before, spare in zip(self.subject.resources(), self.baseline, self.subject.spare)), 5)
        except Failed:
            self.note(f"{kind}: (descriptors, threads) went from {self.baseline} to {self.subject.resources()}")

    def serving(self, kinds=KINDS):
        self.fresh()
        for kind, those in self.sample(self.counted(), kinds).items():
            for at, fault in those:
                self.one(kind, at, fault)
            try:
                self.settled(kind)
            except Failed as reason:
                self.note(f"{kind}: in the end {reason}")
            self.subject.doing = f"{kind} 1 killed"
            self.subject.nth.arm(*(kind, *those[len(those) // 2]))
            self.subject.dialogue()
            self.again()
        self.quiet()
        self.subject.kill()

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


def spread(all_of_them, count):
    step = max(1, len(all_of_them) / count)
    return [all_of_them[int(number * step)] for number in range(min(count, len(all_of_them)))]


def some(box, subject, when, budget, kinds=KINDS):
    run = Run(box, subject, budget)
    getattr(run, when)(kinds)
    run.told()


# A sanitizer has a malloc of its own, which nobody else can make fail.
for subject, when, budget in (("sink", "serving", 40), ("save", "serving", 40), ("relay", "serving", 60), ("smtpd", "serving", 80),
                              ("sink", "starting", 40), ("relay", "starting", 40), ("smtpd", "starting", 60),
                              ("sink", "ending", 20), ("relay", "ending", 20), ("smtpd", "ending", 40)):
    @case(f"faults: {subject}, {when}: whichever call fails costs one session or one mail, and no promise", record.PLAIN)
    def one_fails(box, subject=subject, when=when, budget=budget):
        some(box, SUBJECTS[subject], when, budget)


@case("faults: control: a program that promises and keeps nothing is caught", record.PLAIN)
def control(box):
    try:
        some(box, Nowhere, "serving", 4, ["recv"])
    except Failed as reason:
        check("LOST" in str(reason), "caught otherwise:", reason)
    else:
        raise Failed("it was not caught")


if __name__ == "__main__":  # faults.py SUBJECT WHEN BUDGET KIND...
    box = parts.Box()
    try:
        some(box, SUBJECTS[sys.argv[1]], sys.argv[2], int(sys.argv[3]), sys.argv[4:] or KINDS)
    except Failed as reason:
        print(f"FAILED {reason}")
    finally:
        box.clear()
