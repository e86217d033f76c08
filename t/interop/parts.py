"""parts.py -- what the interoperability cases are made of: servers, clients, mails, and a box that clears up.

A case is a function that takes a Box. Whatever the box starts it also ends, in reverse order and by
process id; every wait is bounded. All sockets are on loopback, all files under build/interop.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import record
from record import EXAMPLES, TREE

PEERS = TREE / "build/peers"
PATIENCE = 30 if record.PLAIN else 75  # seconds; the bound of every single wait; what is sanitized is slow
SANITIZER = re.compile(r"Sanitizer|runtime error:")


class Failed(Exception):
    """The case saw something that must not be."""


class Late(Failed):
    """Something did not happen in time: a failure, but a busy machine may have stood still for longer than a case waits."""


class Skipped(Exception):
    """The case could not run here; says what is missing."""


CASES = []


def case(sentence, where=True):
    """Registers a case under the sentence that it proves. `where` false leaves it out of this run."""
    def add(function):
        if where:
            CASES.append((sentence, function))
        return function
    return add


def check(condition, *message):
    if not condition:
        raise Failed(" ".join(str(part) for part in message) or "not so")


def equal(seen, expected, what):
    check(seen == expected, f"{what}: expected {brief(expected)}, seen {brief(seen)}{first_difference(seen, expected)}")


def brief(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-90:]} ({len(value)} long)"


def first_difference(seen, expected):
    if not (isinstance(seen, bytes) and isinstance(expected, bytes)):
        return ""
    at = len(os.path.commonprefix([seen, expected]))
    return f"; they part at octet {at}: {expected[at:at + 40]!r} became {seen[at:at + 40]!r}"


def wait_for(what, condition, seconds=PATIENCE):
    """Returns the first true value of condition(); fails when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


def free_ports(count):
    """So many different ports that were free a moment ago, for programs that cannot be given port 0."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def free_port():
    return free_ports(1)[0]


def die_with_us():
    """Run in a child before exec: should this suite be killed, the kernel ends the child (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Box:
    """One case's folder and everything that it started."""

    def __init__(self):
        (TREE / "build/interop").mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="case-", dir=TREE / "build/interop"))
        self.folder.chmod(0o755)
        self.elsewhere, self.started, self.count = None, [], 0

    def new(self, name):
        """A path in this box that nobody has used."""
        self.count += 1
        return self.folder / f"{self.count}-{name}"

    def for_all_users(self):
        """A folder of this box that every user can reach, which a tree below somebody's private folder is not."""
        if self.elsewhere is None:
            closed = any(not path.stat().st_mode & 0o001 for path in (self.folder, *self.folder.parents))
            self.elsewhere = Path(tempfile.mkdtemp(prefix="interop-")) if closed else self.folder
            self.elsewhere.chmod(0o755)
        return self.elsewhere

    def keep(self, thing):
        self.started.append(thing)
        return thing

    def server(self, name, *arguments):
        return self.keep(Server(self, [EXAMPLES / name], *arguments))

    def sink(self, listen="127.0.0.1:0", into=None):
        return self.keep(Sink(self, listen, into or self.new("mails")))

    def relay(self, via, *arguments, listen="127.0.0.1:0"):
        return self.server("relay", "--listen", listen, "--via", f"127.0.0.1:{via}", *arguments)

    def stop(self):
        """Ends everything in an orderly way; what does not end so is a failure of the case."""
        while self.started:
            self.started.pop().stop()

    def clear(self):
        for thing in reversed(self.started):
            thing.kill()
        for folder in {self.folder, self.elsewhere or self.folder}:
            shutil.rmtree(folder, ignore_errors=True)

    def logs(self):
        for path in sorted(self.folder.glob("*.log")):
            lines = [line[:300] for line in path.read_text(errors="replace").splitlines()[-15:]]
            if lines:
                yield from (f"--- the end of {path.name}", *lines)


class Server:
    """A server program that says `listening on HOST:PORT` when it is ready and ends cleanly on SIGTERM."""

    def __init__(self, box, program, *arguments):
        self.name = Path(program[-1]).name
        check(Path(program[-1]).exists(), f"{self.name} is not built: no {program[-1]}")
        self.output, self.errors = box.new(f"{self.name}.out.log"), box.new(f"{self.name}.err.log")
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen([*map(str, program), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=errors, cwd=box.folder,
                                            start_new_session=True, preexec_fn=die_with_us)
        self.pid = self.process.pid
        try:
            self.port = wait_for(f"{self.name} says that it listens", self.listening)
        except BaseException:
            self.kill()
            raise

    def said(self):
        return self.output.read_text(errors="replace") + self.errors.read_text(errors="replace")

    def listening(self):
        check(self.process.poll() is None, f"{self.name} ended with {self.process.returncode} before it listened")
        ready = re.search(r"^listening on \S*:(\d+)$", self.said(), re.MULTILINE)
        return ready and int(ready[1])

    def objects(self):
        """The JSON objects it printed, one a line."""
        lines = self.output.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def children(self):
        """Process id -> state letter of its children."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            except OSError:  # gone meanwhile
                continue
            if int(parent) == self.pid:
                found[int(stat.parent.name)] = state
        return found

    def stop(self):
        try:
            check(self.process.poll() is None, f"{self.name} ended by itself with {self.process.returncode}")
            self.process.terminate()
            try:
                code = self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise Late(f"{self.name} did not end on SIGTERM") from None
            equal(code, 0, f"exit status of {self.name} after SIGTERM")
            check(not self.group_alive(), f"{self.name} left processes behind")
            self.sane()
        finally:
            self.kill()

    def sane(self):
        check(not SANITIZER.search(self.said()), f"{self.name} was reported by a sanitizer")

    def group_alive(self):
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self):
        """kill -9, for it and whatever it forked; harmless when it is gone."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Mail:
    """What sink wrote of one mail."""

    def __init__(self, eml, fields):
        self.octets = eml.read_bytes()
        self.fields = json.loads(fields.read_text())
        self.sender, self.to = self.fields["from"], self.fields["to"]


class Sink(Server):
    def __init__(self, box, listen, into):
        self.dir = into
        self.dir.mkdir(exist_ok=True)
        super().__init__(box, [EXAMPLES / "sink"], "--listen", listen, "--dir", self.dir)

    def mails(self):
        """Everything received so far. Each ID.json stands beside its ID.eml, which was there first."""
        return [Mail(fields.with_suffix(".eml"), fields) for fields in sorted(self.dir.glob("*.json"))]

    def only(self):
        """The one mail there is. Its sender has heard 250, so it must be there at once, whole and alone."""
        names = sorted(path.suffix for path in self.dir.iterdir())
        equal(names, [".eml", ".json"], "files after one mail")
        return self.mails()[0]

    def wait_for(self, count):
        """All mails, once there are `count`; for mails that travel on by themselves."""
        return wait_for(f"{count} mails arrive", lambda: len(found := self.mails()) >= count and found)


def arrived(mail, sender, to, octets):
    """The mail is octet for octet what was sent, under the right envelope."""
    equal(mail.sender, sender, "sender")
    equal(mail.to, to, "recipients")
    equal(mail.octets, octets, "message")


def travelled(mail, sender, to, octets, hops):
    """As arrived(), below exactly `hops` Received fields, one for each server that passed it on. Postfix sorts recipients."""
    equal(mail.sender, sender, "sender")
    equal(sorted(mail.to), sorted(to), "recipients")
    check(mail.octets.endswith(octets), f"message: expected at the end {brief(octets)}, seen {brief(mail.octets)}")
    trace = mail.octets[:len(mail.octets) - len(octets)]
    fields = re.findall(rb"^[^ \t\r\n][^:\r\n]*:(?:.*\r\n)(?:[ \t].*\r\n)*", trace, re.MULTILINE)
    equal(b"".join(fields), trace, "trace fields")
    equal([field.split(b":")[0] for field in fields], [b"Received"] * hops, "trace fields' names")


def letter(text=b"Hello.\r\n", subject="interop"):
    """A whole mail that no client finds anything to add to, with an id of its own."""
    head = (f"Date: Mon, 6 Jan 2025 10:00:00 +0000\r\nFrom: Anna <anna@example.org>\r\nTo: Bert <bert@example.test>\r\n"
            f"Subject: {subject}\r\nMessage-ID: <{uuid.uuid4()}@example.org>\r\n\r\n")
    return head.encode() + text


# A body of what breaks on the way: dots in every position, blank ends, 8-bit octets, the longest legal line.
TORTURE = (b".\r\n..\r\n...\r\n.a\r\n a.\r\n.\t\r\n\r\n..\r\n" + "Grüße, 日本, \u00a0\r\n".encode() +
           b"From the start of a line\r\n>From quoted\r\n\ttab and blanks  \t\r\n" + b"x" * 998 + b"\r\n" + b"QUIT\r\n\r\n.\r\n\r\n")


def smtp(port, **options):
    """A connected client of Python's library that has said EHLO."""
    client = smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.org", timeout=PATIENCE, **options)
    client.ehlo()
    return client


def parameter(parsed, name):
    """The value of an ESMTP parameter as it was sent, in what sink and inspect print of a mail or of one recipient."""
    raw = parsed.get("parameters", parsed)["raw"]
    values = [each.partition("=")[2] for each in raw if each.partition("=")[0].upper() == name]
    equal(len(values), 1, f"parameters called {name} in {raw}")
    return values[0]


def peer(name, path):
    """A program of build/peers as (argument list, environment to run it in)."""
    root = PEERS / name
    record.met(name)
    if not (root / path).exists():
        raise Skipped(f"{name} is not under build/peers (see t/interop/peers)")
    libraries = sorted({str(library.parent) for library in root.rglob("*.so*")})
    perl = [str(folder) for folder in (*root.glob("usr/share/perl*"), *root.glob("usr/share/perl/5*"),
                                       *root.glob("usr/lib/*/perl*/5*"))]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent",
                   "LD_LIBRARY_PATH": ":".join(libraries), "PERL5LIB": ":".join(perl)}
    return [str(root / path)], environment


def system(name):
    """A program that every system has, or the case is skipped."""
    record.met(name)
    found = shutil.which(name, path="/usr/bin:/bin")
    if not found:
        raise Skipped(f"{name} is not on this system")
    return [found], {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


def client(program, *arguments, stdin=b"", status=0):
    """Runs a mail client to its end; its exit status must be `status` (None: any). Returns what it said."""
    command, environment = program
    done = subprocess.run([*command, *map(str, arguments)], input=stdin, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)
    said = done.stdout.decode(errors="replace")
    check(status is None or done.returncode == status, f"{Path(command[0]).name} ended with {done.returncode}: {said}")
    return said


def attempt(sentence, function, longest, again=True):
    """Runs one case, for so many seconds at most, and says how it went: "ok", "SKIPPED", "FAILED", or "LATE" when it failed by
    a deadline and may be run `again`."""
    began, box, outcome, notes = time.monotonic(), Box(), "ok", []
    record.begin()
    signal.alarm(longest)
    try:
        function(box)
        box.stop()
    except Skipped as reason:
        outcome, notes = "SKIPPED", [str(reason)]
    except Exception as reason:
        late = again and isinstance(reason, (Late, TimeoutError, subprocess.TimeoutExpired))
        outcome, notes = "LATE" if late else "FAILED", [f"{type(reason).__name__}: {reason}"]
        if not isinstance(reason, Failed):
            trace = reason.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            notes.append(f"at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        notes.extend(box.logs())
    finally:
        signal.alarm(0)
        box.clear()
        if outcome != "LATE":
            record.end(sentence, outcome)
    said = [f"{outcome:7} {sentence} ({time.monotonic() - began:.1f} s)", *(f"        {note}" for note in notes)]
    os.write(1, ("\n".join(said) + "\n").encode())
    return outcome


def worker(cases, turns, outcomes, longest, again):
    """A process that takes one case after the other until there is none, and ends."""
    def out_of_time(*_):
        raise Late("the case took too long")
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that every finally is run
    status = 1
    try:
        while turn := os.read(turns, 2):
            os.write(outcomes, attempt(*cases[int.from_bytes(turn, "big")], longest, again)[:1].encode() + turn)
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def run_some(cases, chosen, jobs, longest, again):
    """Runs the cases of these numbers in processes of their own; outcome by number, by its first letter. One that died is not in it."""
    turns, waiting = os.pipe()
    outcomes, said = os.pipe()
    os.write(waiting, b"".join(i.to_bytes(2, "big") for i in chosen))
    os.close(waiting)
    sys.stdout.flush()
    children = []
    for _ in range(jobs):
        child = os.fork()
        if child == 0:
            worker(cases, turns, said, longest, again)
        children.append(child)
    os.close(said)
    os.close(turns)

    def ended(*_):
        for child in children:
            os.kill(child, signal.SIGTERM)
        for child in children:
            os.waitpid(child, 0)
        sys.exit(1)
    signal.signal(signal.SIGTERM, ended)
    seen = b""
    while some := os.read(outcomes, 3000):
        seen += some
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for child in children:
        os.waitpid(child, 0)
    os.close(outcomes)
    return {int.from_bytes(seen[at + 1:at + 3], "big"): seen[at:at + 1] for at in range(0, len(seen), 3)}


def run(words, last=None, jobs=2, name="interop", longest=4 * PATIENCE):
    """Runs the cases whose sentence holds every word, `jobs` at a time, each for `longest` seconds at most, and behind them all the
    one that is `last`, a pair of sentence and function. What failed by a deadline beside others is run again by itself, three cases
    at most. They are counted as suite `name`. Returns the exit status."""
    cases = [case for case in CASES if all(word in case[0] for word in words)]
    record.FILE = record.FILE.with_name("interop.some.jsonl" if words else record.FILE.name)
    record.FILE.parent.mkdir(parents=True, exist_ok=True)
    record.FILE.write_bytes(b"")
    seen = run_some(cases, range(len(cases)), jobs, longest, True)
    late = [number for number, outcome in seen.items() if outcome == b"L"]
    if late:
        print(f"{len(late)} came too late" + ("; again, by themselves:" if len(late) <= 3 else ": that is not a machine that stood still"), flush=True)
    if 0 < len(late) <= 3:
        seen |= run_some(cases, late, 1, longest, False)

    if last:
        cases.append(last)
        seen[len(cases) - 1] = attempt(*last, longest, again=False)[:1].encode()
    passed, skipped = (sum(outcome == letter for outcome in seen.values()) for letter in (b"o", b"S"))
    failed = len(cases) - passed - skipped  # with what died
    if os.environ.get("CI") == "true" and skipped:
        print("with CI=true what was skipped has failed")
        failed, skipped = failed + skipped, 0
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed + skipped else 0
