"""What the cases share: servers as processes, conversations over sockets, and the book of results."""
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

EXAMPLES = os.environ.get("EXAMPLES", "build/examples")
SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../examples")
PROGRAMS = sorted(name.removesuffix(".cpp") for name in os.listdir(SOURCES) if name.endswith(".cpp"))
CI = os.environ.get("CI") == "true"
SLOW = CI or os.environ.get("SLOW") == "1"
WAIT = 15.0  # seconds for anything that should happen at once, on a busy machine


def _sanitized():
    try:
        with open(os.path.join(EXAMPLES, "sink"), "rb") as f:
            program = f.read()
    except OSError:
        return False
    return b"__asan_init" in program or b"__tsan_init" in program or b"__ubsan_handle" in program


SANITIZED = _sanitized()  # their memory and speed say nothing


class Failed(Exception):
    """A case did not get what it expected."""


class Late(Failed):
    """It did not get it in time: a failure, but a busy machine may have stood still for longer than a case waits."""


class Skip(Exception):
    """A case can't run here; its text says why."""


# ---------------------------------------------------------------- results

class Book:
    def __init__(self, verbose):
        self.verbose = verbose
        self.passed = self.failed = self.skipped = 0  # what came too late is tried again, and counted then
        self.lock = threading.Lock()
        self.times = []

    def note(self, name, outcome, text, seconds):
        with self.lock:
            self.times.append((seconds, name))
            if outcome == "passed":
                self.passed += 1
                if self.verbose:
                    print(f"ok      {name} ({seconds:.2f} s)")
            elif outcome == "skipped":
                self.skipped += 1
                print(f"SKIPPED {name}: {text}")
            elif outcome == "late":
                print(f"LATE    {name}\n" + "\n".join("        " + line for line in text.splitlines()))
            else:
                self.failed += 1
                print(f"FAILED  {name}\n" + "\n".join("        " + line for line in text.splitlines()))
            sys.stdout.flush()


CASES = []  # (part, name, function, alone)


def case(name, function=None, alone=False):
    """Registers a case; also a decorator. `alone`: runs when no others do, because it measures."""
    part = sys._getframe(1).f_globals["__name__"]
    if function is None:
        def register(f):
            CASES.append((part, name, f, alone))
            return f
        return register
    CASES.append((part, name, function, alone))
    return function


def run_cases(book, patterns, jobs):
    names = set()
    chosen = []
    for part, name, function, alone in CASES:
        full = f"{part}/{name}"
        if full in names:
            raise SystemExit(f"two cases are called {full}")
        names.add(full)
        if not patterns or any(p in full for p in patterns):
            chosen.append((full, function, alone))

    late = []  # to be tried again, by themselves

    def one(item, again=True):
        name, function, _ = item
        began = time.monotonic()
        local.wires, local.programs = [], []
        try:
            function()
            outcome, text = "passed", ""
        except Skip as e:
            outcome, text = "skipped", str(e)
        except Exception as e:  # whatever goes wrong is the case's own
            outcome = "late" if again and isinstance(e, (Late, TimeoutError)) else "failed"
            text = f"{type(e).__name__}: {e}" if not isinstance(e, Failed) else str(e)
            if not isinstance(e, (Failed, OSError)):
                import traceback
                text += "\n" + traceback.format_exc()
            for w in local.wires[-3:]:
                text += "\n" + w.transcript()
            for p in local.programs[-2:]:
                state = "running" if p.alive() else f"ended with {p.process.returncode}"
                text += f"\n--- {p.name}, {state}, said on standard error: {p.stderr()[-3000:]}"
        finally:
            for w in local.wires:
                w.close()
        if outcome == "late":
            late.append(item)
        book.note(name, outcome, text, time.monotonic() - began)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [c for c in chosen if not c[2]]))
    for item in chosen:
        if item[2]:
            one(item)
    for item in late:
        if len(late) <= 3:
            one(item, again=False)
        else:  # that is not a machine that stood still
            book.note(item[0], "failed", "too late", 0)


local = threading.local()


def show(data, most=160):
    """Bytes as they can be read, cut in the middle when there are many."""
    if len(data) > most:
        half = most // 2
        return show(data[:half], most) + f" ...({len(data)} octets)... " + show(data[-half:], most)
    return data.decode("latin-1").encode("unicode_escape").decode()


# ---------------------------------------------------------------- servers

SCRATCH = None  # one folder for everything a run makes


def scratch(name):
    return tempfile.mkdtemp(prefix=name + "-", dir=SCRATCH)


class Program:
    """One of the examples, listening. Ends in stop(); whoever forgets is ended by the run itself."""
    all = []

    def __init__(self, name, *arguments, before=None, env=None, files=None, listen="127.0.0.1:0"):
        self.name = name
        self.asked = False
        self.errors = tempfile.TemporaryFile(dir=SCRATCH)
        command = [os.path.join(EXAMPLES, name), "--listen", listen, *arguments]

        def prepare():
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, files)
            if before:
                before()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                        preexec_fn=prepare if before or files else None, env=env, start_new_session=True)
        Program.all.append(self)
        if hasattr(local, "programs"):
            local.programs.append(self)
        self.port = None
        ready = select.poll()  # not select(): there may be more than 1024 descriptors
        ready.register(self.process.stdout, select.POLLIN)
        if not ready.poll(30000):
            self.process.kill()
            raise Late(f"{name} is not ready after 30 s")
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening on "):
            self.process.wait(WAIT)
            raise Failed(f"{name} did not start: {line!r} {self.stderr()}")
        port = line.strip().rsplit(":", 1)[-1]
        self.port = int(port) if port.isdigit() else 0
        self.pid = self.process.pid

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def alive(self):
        return self.process.poll() is None

    def status(self, field):  # in bytes
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise Failed(f"no {field}")

    def rss(self):
        return self.status("VmRSS")

    def peak(self):
        return self.status("VmHWM")

    def reset_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as f:
            f.write("5")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def kill(self):
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(WAIT)

    def end(self, within=40.0):
        """SIGTERM; the exit status. Raises when it takes longer."""
        self.asked = True
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Late(f"{self.name} still ran {within} s after SIGTERM") from None

    def stop(self, within=40.0):
        """Ends it and says whether all was well with it."""
        if not self.alive() and not self.asked:
            raise Failed(f"{self.name} died: {self.process.returncode} {self.stderr()[-3000:]}")
        status = self.end(within)
        self.complain()
        if status != 0:
            raise Failed(f"{self.name} ended with {status}: {self.stderr()[-3000:]}")

    def complain(self):
        text = self.stderr()
        for sign in ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:", "terminate called"):
            if sign in text:
                raise Failed(f"{self.name}: {text[:6000]}")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        else:
            try:
                self.kill()
            except Exception:
                pass


class Tracer:
    """strace, attached to a running program and the threads and children it makes from now on; it lets go at the end."""
    all = []

    def __init__(self, program, *words):
        if not shutil.which("strace"):
            raise Skip("strace is not installed")
        self.errors = tempfile.TemporaryFile(dir=SCRATCH)
        self.process = subprocess.Popen(["strace", "-f", *words, "-p", str(program.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors)
        Tracer.all.append(self)
        end = time.monotonic() + WAIT
        while not all(self.traced(program.pid, task) for task in os.listdir(f"/proc/{program.pid}/task")):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                self.process.wait()
                self.errors.seek(0)
                raise Skip(f"tracing is not allowed here: {self.errors.read().decode()[-200:]}")
            time.sleep(0.01)

    @staticmethod
    def traced(pid, task):
        try:
            return "TracerPid:\t0\n" not in open(f"/proc/{pid}/task/{task}/status").read()
        except OSError:
            return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class faults:  # noqa: N801
    """From now on these system calls fail: "fsync:error=EIO:when=2". The counts are for each thread. Not one failed: the case is at fault."""

    def __init__(self, program, *which):
        self.path = os.path.join(scratch("faults"), "calls")
        self.which = which
        calls = ",".join(f.split(":")[0] for f in which)
        self.tracer = Tracer(program, "-o", self.path, "-e", "trace=" + calls, *[word for f in which for word in ("-e", "inject=" + f)])

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        self.tracer.__exit__(kind, *rest)
        if kind is None and "(INJECTED)" not in open(self.path, errors="replace").read():
            raise Failed(f"no call failed by {self.which}")


def end_all():
    for t in Tracer.all:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()
    for p in Program.all:
        if p.alive():
            try:
                os.killpg(p.process.pid, signal.SIGKILL)  # its own session: nobody else's processes
            except OSError:
                pass
            try:
                p.process.wait(5)
            except subprocess.TimeoutExpired:
                pass


class Shared:
    """Servers that many cases use together; made when first wanted, stopped and judged at the end."""

    def __init__(self):
        self.made = {}
        self.lock = threading.Lock()

    def get(self, key, make):
        with self.lock:
            if key not in self.made:
                self.made[key] = make()
            return self.made[key]


shared = Shared()


class Box:
    """A sink with a folder, and the mails in it."""

    def __init__(self, *arguments, program=None):
        self.dir = scratch("box")
        self.program = program or Program("sink", "--dir", self.dir, "--hostname", "mx.test", *arguments)
        self.lock = threading.Lock()
        self.seen = {}

    @property
    def port(self):
        return self.program.port

    def mails(self, helo=None, peer=None):
        """The mails of one session, in order."""
        with self.lock:
            for name in os.listdir(self.dir):
                if name.endswith(".json") and name not in self.seen:
                    path = os.path.join(self.dir, name)
                    with open(path, "rb") as f:
                        envelope = json.loads(f.read().decode("utf-8", "surrogatepass"))
                    self.seen[name] = (os.stat(path).st_mtime_ns, (len(name), name), envelope)
            found = sorted((m for m in self.seen.values() if (helo is None or m[2]["helo"] == helo) and
                            (peer is None or m[2]["peer"] == peer)), key=lambda m: (m[0], m[1]))
        return [m[2] for m in found]

    def text(self, envelope):
        with open(os.path.join(self.dir, envelope["id"] + ".eml"), "rb") as f:
            return f.read()

    def strays(self):
        """What is in the folder and is no pair of .eml and .json."""
        names = set(os.listdir(self.dir))
        return sorted(n for n in names if not (
            (n.endswith(".eml") and n[:-4] + ".json" in names) or (n.endswith(".json") and n[:-5] + ".eml" in names)))


def sink():
    """The sink that most cases talk to."""
    return shared.get("sink", Box)


def discard():
    return shared.get("discard", lambda: Program("sink", "--hostname", "mx.test"))


_count = 0
_count_lock = threading.Lock()


def unique(stem="c"):
    global _count
    with _count_lock:
        _count += 1
        return f"{stem}{_count}.test"


# ---------------------------------------------------------------- conversations

LINE = re.compile(rb"^[2-5][0-9][0-9](?:[ -][\x20-\x7e]*)?\r\n$")


class Reply:
    def __init__(self, code, lines):
        self.code, self.lines = code, lines

    def text(self):
        return b"\n".join(line[4:].rstrip(b"\r\n") for line in self.lines).decode()

    def __repr__(self):
        return self.lines[-1].decode("latin-1").strip()


class Wire:
    """One connection. Every reply is checked for its form."""

    def __init__(self, where, greeting=220, timeout=WAIT, receive_buffer=None):
        self.log = []
        if not hasattr(local, "wires"):
            local.wires = []
        local.wires.append(self)
        if isinstance(where, socket.socket):
            self.socket = where
        else:
            port = where if isinstance(where, int) else where.port
            self.socket = socket.socket()
            self.socket.settimeout(timeout)
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) if self.socket.family != socket.AF_UNIX else None
        self.buffer = b""
        self.ended = False
        self.esmtp = False
        if greeting:
            self.expect(greeting)

    @property
    def me(self):
        return "%s:%d" % self.socket.getsockname()[:2]

    def transcript(self):
        lines = []
        log = self.log if len(self.log) <= 60 else self.log[:25] + [("", b"...")] + self.log[-35:]
        for who, data in log:
            lines.append(f"{who}: {show(data)}")
        return "--- transcript\n" + "\n".join(lines)

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        self.log.append(("C", data))
        self.socket.sendall(data)

    def send_octets(self, data):
        """One octet a segment."""
        self.log.append(("C octet by octet", data))
        for i in range(len(data)):
            self.socket.sendall(data[i:i + 1])

    def send_cut(self, data, seed):
        self.log.append((f"C cut by seed {seed}", data))
        rng = random.Random(seed)
        while data:
            n = rng.choice((1, 1, 2, 3, 5, 8, 13, 40))
            self.socket.sendall(data[:n])
            data = data[n:]
            if rng.random() < 0.3:
                time.sleep(0.0005)

    def send_as(self, how, data):
        if how == "whole":
            self.send(data)
        elif how == "octets":
            self.send_octets(data)
        else:
            self.send_cut(data, how)

    def _line(self):
        while b"\n" not in self.buffer:
            if len(self.buffer) > 4096:
                raise Failed(f"a reply line without end: {show(self.buffer)}")
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                raise Late(f"no reply within {self.socket.gettimeout()} s") from None
            except ConnectionError as e:
                data = b""
                self.log.append(("S", f"[{e.strerror}]".encode()))
            if not data:
                self.ended = True
                if self.buffer:
                    raise Failed(f"the connection ended inside a reply: {show(self.buffer)}")
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        line += b"\n"
        self.log.append(("S", line))
        if not LINE.match(line) or len(line) > 512:
            raise Failed(f"a malformed reply line: {show(line)}")
        return line

    def reply(self):
        """The next reply, or None at the end of the connection."""
        line = self._line()
        if line is None:
            return None
        lines = [line]
        while lines[-1][3:4] == b"-":
            line = self._line()
            if line is None or line[:3] != lines[0][:3]:
                raise Failed("a multi-line reply broke off or changed its code")
            lines.append(line)
        code = int(lines[0][:3])
        enhanced = re.match(rb"^\d{3}[ -]([245])\.\d{1,3}\.\d{1,3} ", lines[0])
        if enhanced and enhanced.group(1) != lines[0][:1]:
            raise Failed(f"enhanced status and code disagree: {show(lines[0])}")
        return Reply(code, lines)

    def expect(self, *codes):
        r = self.reply()
        if r is None or r.code not in codes:
            what = "/".join(map(str, codes[:8])) + ("/..." if len(codes) > 8 else "")
            raise Failed(f"expected {what}, " + (f"heard {r!r}" if r else "the connection ended"))
        return r

    def say(self, line, *codes):
        """One command, one reply."""
        if isinstance(line, str):
            line = line.encode()
        self.send(line + b"\r\n")
        return self.expect(*codes)

    def hello(self, name=None):
        self.name = name or unique()
        return self.say("EHLO " + self.name, 250)

    def envelope(self, mail="FROM:<s@a.test>", *rcpt):
        self.say("MAIL " + mail if isinstance(mail, str) else b"MAIL " + mail, 250)
        for r in rcpt or ("TO:<r@b.test>",):
            self.say("RCPT " + r if isinstance(r, str) else b"RCPT " + r, 250)

    def text(self, octets, *codes):
        """DATA with the octets as they are to arrive: they end with CRLF, dots are doubled here."""
        self.say("DATA", 354)
        self.send(stuffed(octets) + b".\r\n")
        return self.expect(*(codes or (250,)))

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        self.log.append(("C", b"[half-closed]"))

    def until_end(self, most=100000):
        """All replies up to the end of the connection."""
        replies = []
        while (r := self.reply()) is not None:
            replies.append(r)
            if len(replies) > most:
                raise Failed("no end of replies")
        return replies

    def in_step(self):
        """The session answers one reply for one command: nothing is left over, nothing was run."""
        token = random.randrange(10 ** 9)
        self.say(f"NOOP {token}", 250)
        self.say("RSET", 250)
        self.nothing_more()
        self.say("QUIT", 221)
        self.at_end()

    def nothing_more(self, wait=0.0):
        if self.buffer:
            raise Failed(f"more than one reply to a command: {show(self.buffer)}")
        self.socket.settimeout(max(wait, 0.001))
        try:
            data = self.socket.recv(65536)
        except socket.timeout:
            return
        finally:
            self.socket.settimeout(WAIT)
        self.log.append(("S", data))
        raise Failed("the connection ended" if not data else f"a reply nobody asked for: {show(data)}")

    def at_end(self):
        if (r := self.reply()) is not None:
            raise Failed(f"expected the end of the connection, heard {r!r}")

    def bye(self):
        self.say("QUIT", 221)
        self.at_end()

    def reset(self):
        """Goes with RST instead of FIN."""
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.socket.close()

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def stuffed(octets):
    """RFC 5321 4.5.2, the sender's half."""
    if octets.startswith(b"."):
        octets = b"." + octets
    return octets.replace(b"\r\n.", b"\r\n..")


def wanted(actual, expected, what):
    if actual != expected:
        if isinstance(actual, bytes) and isinstance(expected, bytes):
            at = next((i for i, (a, b) in enumerate(zip(actual, expected)) if a != b), min(len(actual), len(expected)))
            raise Failed(f"{what}: {len(actual)} octets instead of {len(expected)}, the first difference at {at}: "
                         f"{show(actual[max(0, at - 10):at + 30])} instead of {show(expected[max(0, at - 10):at + 30])}")
        raise Failed(f"{what}: {actual!r} instead of {expected!r}")


def eventually(what, condition, within=WAIT):
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(f"{what}: not within {within} s")
        time.sleep(0.02)


def healthy(port):
    """Somebody else is still served."""
    with Wire(port) as w:
        w.hello()
        w.envelope()
        w.text(b"Subject: x\r\n\r\nstill here\r\n")
        w.bye()


def start():
    """A folder for everything, and in it the programs as they are now: a build that runs beside us can't change them."""
    global SCRATCH, EXAMPLES
    SCRATCH = tempfile.mkdtemp(prefix="wire-")
    programs = os.path.join(SCRATCH, "programs")
    os.mkdir(programs)
    for name in PROGRAMS:
        source = os.path.join(EXAMPLES, name)
        try:
            os.link(source, os.path.join(programs, name))
        except FileNotFoundError:
            raise SystemExit(f"{source} is missing: make, or set EXAMPLES") from None
        except OSError:
            shutil.copy2(source, programs)
    EXAMPLES = programs


def finish():
    end_all()
    if SCRATCH:
        shutil.rmtree(SCRATCH, ignore_errors=True)
