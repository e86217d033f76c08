"""What 250 promises, seen from outside: stable storage, full disks, sudden ends (RELIABILITY 1, 2, 5)."""
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import harness
from harness import Box, Failed, Program, Skip, Tracer, Wire, case, eventually, faults, healthy, scratch, wanted

# ---------------------------------------------------------------- the order of system calls

CALLS = "openat,fsync,fdatasync,linkat,link,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg,write,writev,pwrite64,pwritev,sendfile,splice,copy_file_range"


def trace(program, arguments, talk):
    """Runs it under strace; the calls, whole ones, in the order in which they ended."""
    path = os.path.join(scratch("trace"), "calls")
    with Program(program, *arguments) as p:
        with Tracer(p, "-y", "-s", "64", "-o", path, "-e", "trace=" + CALLS):
            talk(p)
    calls, begun = [], {}
    for line in open(path, errors="replace"):
        pid, _, rest = line.rstrip("\n").partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest[:-len("<unfinished ...>")]
        elif rest.startswith("<..."):
            calls.append((pid, begun.pop(pid, "") + rest.partition("resumed>")[2]))
        elif "(" in rest:
            calls.append((pid, rest))
    return calls


def promises(calls, folder, names=(".eml", ".json"), answer="Saved"):
    """Before each 250 at the end of data: every file written, synced, named, and its folder synced. The number of such answers."""
    dirty, unsynced_names, answers = set(), set(), 0
    fresh = []
    for _, call in calls:
        name, _, rest = call.partition("(")
        ok = not re.search(r"= -1 ", call)
        path = re.match(r"\d+<([^>]*)>", rest)
        path = path.group(1) if path else ""
        if name in ("write", "pwrite64", "writev", "pwritev", "sendfile", "splice", "copy_file_range") and path.startswith(folder):
            dirty.add(path)
        elif name in ("fsync", "fdatasync") and ok:
            if path == folder or path == folder + "/":
                unsynced_names.clear()
            else:
                dirty.discard(path)
        elif name in ("linkat", "link", "rename", "renameat", "renameat2") and ok:
            target = re.findall(r'"([^"]*)"', rest)[-1]
            fresh.append(target)
            unsynced_names.add(target)
            if dirty:
                raise Failed(f"named before it was synced: {call}")
        elif name in ("sendto", "sendmsg", "write", "writev") and re.search(r'"250 2\.\d\.\d ' + answer, rest):
            answers += 1
            if dirty or unsynced_names:
                raise Failed(f"250 with unsynced {sorted(dirty | unsynced_names)}")
            got = [n for n in names if any(f.endswith(n) for f in fresh)]
            wanted(got, list(names), "files named before 250")
            fresh = []
    return answers


def three_mails(p):
    w = Wire(p)
    w.hello()
    w.envelope()
    w.text(b"small\r\n")
    w.envelope()
    w.text((b"l" * 70 + b"\r\n") * 300000)  # past what memory keeps
    w.envelope()
    w.send(b"BDAT 5\r\nabcde")
    w.expect(250)
    w.send(b"BDAT 7 LAST\r\nfghij\r\n")
    w.expect(250)
    w.envelope()
    w.say("DATA", 354)
    w.send("cut")
    w.reset()
    healthy(p.port)


for mode in ("thread", "process"):
    def order_of_calls(mode=mode):
        folder = os.path.realpath(scratch("order"))
        calls = trace("sink", ("--dir", folder, "--mode", mode), three_mails)
        wanted(promises(calls, folder), 4, "answers seen")
    case(f"no 250 before file, name and folder are synced: sink, {mode}", order_of_calls)


@case("no 250 before file, name and folder are synced: save")
def order_save():
    folder = os.path.realpath(scratch("order"))
    wanted(promises(trace("save", ("--dir", folder), three_mails), folder, (".eml",)), 4, "answers seen")


@case("a failed fsync is no 250")
def failed_fsync():
    """The tracer makes each fsync fail in its turn; one mail each: 4xx, nothing kept, and the next one is taken."""
    for step in range(1, 5):  # .eml, its folder, .json, its folder
        folder = scratch("fsync")
        with Program("sink", "--dir", folder) as p, faults(p, f"fsync:error=EIO:when={step}"):
            w = Wire(p)
            w.hello()
            w.envelope()
            w.say("DATA", 354)
            w.send(b"first\r\n.\r\n")
            r = w.expect(250, 451, 452, 421)
            if r.code == 250:
                raise Failed(f"250 though fsync number {step} failed")
            left = [n for n in os.listdir(folder)]
            if any(n.endswith(".json") for n in left):
                raise Failed(f"fsync number {step} failed, and the mail is there: {left}")
            w.envelope()
            w.text(b"second\r\n")
            w.bye()
        names = [n for n in os.listdir(folder) if n.endswith(".json")]
        wanted(len(names), 1, f"mails after fsync number {step} failed")
        wanted(len(os.listdir(folder)), 2, f"files after fsync number {step} failed")


for call, errors in (("linkat", ("ENOSPC", "EIO", "EDQUOT")), ("write", ("ENOSPC", "EIO", "EINTR", "EDQUOT")), ("openat", ("ENOSPC", "EMFILE", "ENFILE", "EIO")),
                     ("fsync", ("ENOSPC", "EINTR"))):
    for error in errors:
        def failed_call(call=call, error=error):
            """Each of the calls that store a mail fails once."""
            if harness.SANITIZED and call == "write":
                raise Skip("a sanitizer writes too, and believes what it hears")
            for step in (1, 2):
                folder = os.path.realpath(scratch("fail"))
                with Program("sink", "--dir", folder) as p, faults(p, f"{call}:error={error}:when={step}"):
                    w = Wire(p)
                    w.hello()
                    w.envelope()
                    w.say("DATA", 354)
                    w.send(b"first\r\n.\r\n")
                    first = w.expect(250, 451, 452, 421).code
                    json_there = [n for n in os.listdir(folder) if n.endswith(".json")]
                    wanted(len(json_there), 1 if first == 250 else 0, f"mails after {first}")
                    w.envelope()
                    w.text(b"second\r\n")
                    w.bye()
                names = sorted(os.listdir(folder))
                wanted(len([n for n in names if n.endswith(".json")]), 2 if first == 250 else 1, f"mails, {call} number {step} failed")
                wanted(len(names), 4 if first == 250 else 2, f"files {names}, {call} number {step} failed")
                for n in names:
                    if n.endswith(".eml"):
                        text = open(os.path.join(folder, n), "rb").read()
                        wanted(text in (b"first\r\n", b"second\r\n"), True, "whole")
                    else:
                        json.load(open(os.path.join(folder, n)))
        case(f"{call} fails with {error}: 4xx or whole, and the next one is taken", failed_call)


@case("without O_TMPFILE there are named files for a time, and none is left")
def no_tmpfile():
    folder = scratch("named")
    with Program("sink", "--dir", folder) as p, faults(p, "openat:error=EOPNOTSUPP:when=1"):
        w = Wire(p)
        w.hello()
        for n in (1, 300000):
            w.envelope()
            w.text((b"l" * 70 + b"\r\n") * n)
        w.envelope()
        w.say("DATA", 354)
        w.send((b"l" * 70 + b"\r\n") * 300000)
        w.reset()
        healthy(p.port)
    names = sorted(os.listdir(folder))
    wanted([n[-4:] for n in names if n.endswith(".eml")], [".eml"] * 3, "mails")
    wanted(len(names), 6, f"files {names}")


@case("a name cannot be linked from an unnamed file: copied, or 4xx")
def no_proc():
    folder = scratch("noproc")
    with Program("sink", "--dir", folder) as p, faults(p, "linkat:error=ENOENT:when=1"):
        w = Wire(p)
        w.hello()
        for _ in range(2):
            w.envelope()
            w.text(b"x\r\n", 250, 451, 452)
        w.envelope()
        w.text(b"y\r\n")
        w.bye()
    names = os.listdir(folder)
    wanted(len(names) % 2, 0, f"files {names}")


for fault in ("accept4:error=EINTR:when=1..3", "accept4:error=ECONNABORTED:when=1..3", "accept4:error=EPROTO:when=1..2", "accept4:error=EMFILE:when=1..2",
              "accept4:error=ENOBUFS:when=1..2", "accept4:error=ENOMEM:when=1..2", "accept4:error=EPERM:when=1..2", "accept4:error=ENETDOWN:when=1..2",
              "recvfrom,read,recvmsg:error=EINTR:when=1+3", "recvfrom,recvmsg:error=EAGAIN:when=1+3", "sendto,sendmsg:error=EINTR:when=1+3", "sendto,sendmsg:error=EAGAIN:when=1+3",
              "poll,ppoll,accept4:error=EINTR:when=2+3", "getpeername:error=ENOTCONN:when=1", "getsockname:error=ENOTCONN:when=1"):
    def weather(fault=fault):
        """What passes by itself is waited out, and nobody notices."""
        for mode in ("thread", "process"):
            with Program("sink", "--mode", mode) as p, faults(p, fault):
                for _ in range(4):
                    w = Wire(p, greeting=None)
                    r = w.reply()
                    if r is None and "getpeername" in fault:
                        continue
                    wanted(r.code, 220, "greeting")
                    w.hello()
                    w.envelope()
                    w.text(b"x" * 70 + b"\r\n")
                    w.bye()
    case(f"{fault} is waited out", weather)

def few_are_turned_away(p, fault):
    turned = 0
    for _ in range(8):
        w = Wire(p, greeting=None)
        r = w.reply()
        if r is None:
            raise Failed("closed without a word")
        if r.code == 421:
            turned += 1
            continue
        wanted(r.code, 220, "greeting")
        w.hello()
        w.bye()
    if turned == 8 or (turned == 0 and "mmap" not in fault):
        raise Failed(f"{turned} of 8 were turned away")


for mode, fault in (("thread", "clone,clone3:error=EAGAIN:when=1..2"), ("process", "clone,clone3,fork,vfork:error=EAGAIN:when=1..2"), ("thread", "mmap:error=ENOMEM:when=1..8")):
    def no_thread(mode=mode, fault=fault):
        """No thread, no process: that client hears 421, the next one is served (RELIABILITY 5)."""
        if harness.SANITIZED and mode == "thread":
            raise Skip("a sanitizer's own threads and memory would fail")
        with Program("sink", "--mode", mode) as p:
            with faults(p, fault):  # each thread has its own count
                few_are_turned_away(p, fault)
            healthy(p.port)
    case(f"{fault.split(':')[0]} fails, {mode}: 421 for that client", no_thread)


for program, arguments in (("sink", ("--keep",)), ("sink", ("--mode", "process")), ("relay", None)):
    def starved(program=program, arguments=arguments):
        """Not one page from the system for a while: 4xx, or closed, for those who come then; the server lives, and so do they who come later (RELIABILITY 5)."""
        if harness.SANITIZED:
            raise Skip("a sanitizer's own memory would fail")
        far = Program("sink")
        with Program(program, *(arguments or ("--via", f"127.0.0.1:{far.port}"))) as p:
            healthy(p.port)
            now = p.status("VmSize")
            resource.prlimit(p.pid, resource.RLIMIT_AS, (now, resource.RLIM_INFINITY))
            try:
                for size in (10, 300, 30000, 10 ** 6) * 3:
                    wires = []
                    for _ in range(6):
                        s = socket.create_connection(("127.0.0.1", p.port))
                        s.settimeout(10)
                        wires.append(s)
                    for s in wires:
                        try:
                            s.sendall(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n" + b"NOOP " + b"x" * 1500 + b"\r\nDATA\r\n" +
                                      b"m" * size + b"\r\n.\r\nQUIT\r\n")
                            while s.recv(65536):
                                pass
                        except OSError:
                            pass
                        s.close()
                    if not p.alive():
                        raise Failed(f"it died of {size} octets without memory: {p.stderr()[-500:]}")
            finally:
                if p.alive():
                    resource.prlimit(p.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            healthy(p.port)
        far.stop()
    case(f"no memory from the system for a while: {program} {' '.join(arguments or ())}".strip(), starved)


@case("ids are unlike in 200 processes at once, and no child is left behind")
def processes():
    box = Box("--mode", "process")
    p = box.program
    sockets = []
    for _ in range(200):
        s = socket.create_connection(("127.0.0.1", p.port))
        s.settimeout(harness.WAIT)
        s.sendall(b"EHLO many.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nmany\r\n.\r\nQUIT\r\n")
        sockets.append(s)
    taken = 0
    for s in sockets:
        data = b""
        while more := s.recv(4096):
            data += more
        taken += data.count(b"\r\n250 ") >= 4
        s.close()
    wanted(taken, 200, "mails taken")
    wanted(len(box.mails(helo="many.test")), 200, "mails kept")
    eventually("children are reaped", lambda: not open(f"/proc/{p.pid}/task/{p.pid}/children").read().split(), 10)
    p.stop()


# ---------------------------------------------------------------- no room

class Tiny:
    """A file system of a few hundred KiB."""

    def __init__(self, options):
        self.dir = scratch("tiny")
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "wire", self.dir], capture_output=True).returncode:
            raise Skip("a tmpfs can't be mounted here")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.dir], capture_output=True)


def check_folder(folder, accepted):
    """Every accepted mail whole, with its envelope; nothing else but .eml of nobody's."""
    names = set(os.listdir(folder))
    have = {}
    for n in names:
        if n.endswith(".json"):
            envelope = json.load(open(os.path.join(folder, n)))
            if envelope["id"] + ".eml" not in names:
                raise Failed(f"{n} without its .eml")
            with open(os.path.join(folder, envelope["id"] + ".eml"), "rb") as f:
                text = f.read()
            have[envelope["from"]] = text
            wanted(len(text), envelope["size"], f"size of {n}")
    for sender, text in accepted.items():
        if sender not in have:
            raise Failed(f"acknowledged and lost: {sender}")
        wanted(have[sender], text, f"text of {sender}")
    return names, have


def fill(p, folder, size, most=60, mode="DATA"):
    """Mails until one is refused for room; what was accepted."""
    accepted, refused = {}, 0
    w = Wire(p, timeout=30)
    w.hello()
    for i in range(most):
        text = (b"%06d " % i * 10 + b"\r\n") * (size // 72 + 1)
        w.say(f"MAIL FROM:<f{i}@a.test>", 250)
        w.say("RCPT TO:<r@b.test>", 250)
        if mode == "DATA":
            if w.say("DATA", 354, 452, 451).code != 354:
                refused += 1
                w.say("RSET", 250)
                continue
            w.send(text + b".\r\n")
        else:
            w.send(b"BDAT %d LAST\r\n" % len(text) + text)
        if w.expect(250, 452, 451, 431).code == 250:
            accepted[f"f{i}@a.test"] = text
        else:
            refused += 1
            if refused >= 3:
                break
    else:
        raise Failed("it never was full")
    w.bye()
    return accepted


for what, options, size, deep in [("bytes", "size=600k", 50000, ()), ("bytes, small mails", "size=200k", 3000, ()), ("inodes", "size=4m,nr_inodes=20", 100, ()),
                                  ("an odd inode", "size=4m,nr_inodes=21", 100, ()), ("bytes, spooled", "size=30m", 17 << 20, ()), ("bytes, with chunks", "size=600k", 50000, ("BDAT",)),
                                  ("bytes, process", "size=600k", 50000, ("process",))]:
    def full(options=options, size=size, deep=deep):
        with Tiny(options) as tiny:
            with Program("sink", "--dir", tiny.dir, *(("--mode", "process") if "process" in deep else ())) as p:
                accepted = fill(p, tiny.dir, size, mode="BDAT" if "BDAT" in deep else "DATA")
                names, _ = check_folder(tiny.dir, accepted)
                wanted(len(names), 2 * len(accepted), f"files {sorted(names)}")
                for n in names:  # somebody makes room: it recovers without a human
                    os.unlink(os.path.join(tiny.dir, n))
                healthy(p.port)
                again = fill(p, tiny.dir, size, mode="DATA")
                if len(again) < len(accepted) - 2:
                    raise Failed(f"room for {len(accepted)} at first, for {len(again)} later: something is still held")
    case(f"full of {what}: 452, nothing half, and then recovery", full)


@case("many at once on a full disk")
def full_for_all():
    with Tiny("size=1m") as tiny:
        with Program("sink", "--dir", tiny.dir) as p:
            accepted, codes, lock = {}, [], threading.Lock()

            def client(k):
                w = Wire(p, timeout=30)
                w.hello()
                for i in range(12):
                    text = (b"%d.%d " % (k, i) * 9 + b"\r\n") * 400
                    w.envelope(f"FROM:<c{k}.{i}@a.test>")
                    w.say("DATA", 354)
                    w.send(text + b".\r\n")
                    code = w.expect(250, 452, 451).code
                    with lock:
                        codes.append(code)
                        if code == 250:
                            accepted[f"c{k}.{i}@a.test"] = text
                w.bye()
            errors = in_threads(client, 8)
            wanted(errors, [], "errors")
            if 452 not in codes or 250 not in codes:
                raise Failed(f"codes {set(codes)}")
            names, _ = check_folder(tiny.dir, accepted)
            wanted(len(names), 2 * len(accepted), "files")


def in_threads(function, n, within=60):
    errors = []

    def one(k):
        harness.local.wires = []
        try:
            function(k)
        except Exception as e:
            errors.append(f"{k}: {e}")
        finally:
            for w in harness.local.wires:
                w.close()
    threads = [threading.Thread(target=one, args=(k,)) for k in range(n)]
    for t in threads:
        t.start()
    end = time.monotonic() + within
    for t in threads:
        t.join(max(0.1, end - time.monotonic()))
    return errors


@case("a limit on file sizes: 452, nothing half, and then the next one")
def file_size():
    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    folder = scratch("fsize")
    with Program("sink", "--dir", folder, before=before) as p:
        w = Wire(p)
        w.hello()
        for n, codes in ((1000, (250,)), (200_000, (452, 451, 552)), (1000, (250,)), (20 << 20, (452, 451, 552)), (99_999 // 72 * 72, (250,)), (110_000, (452, 451, 552))):
            w.envelope()
            w.text((b"f" * 70 + b"\r\n") * (n // 72), *codes)
        w.bye()
    wanted(len(os.listdir(folder)), 6, "files")


@case("the folder goes away and comes back")
def no_folder():
    folder = os.path.join(scratch("gone"), "mail")
    os.mkdir(folder)
    with Program("sink", "--dir", folder) as p:
        w = Wire(p)
        w.hello()
        w.envelope()
        w.text(b"1\r\n")
        shutil.rmtree(folder)
        for n in (1, 300000):
            w.envelope()
            if w.say("DATA", 354, 451, 452).code == 354:
                w.send((b"l" * 70 + b"\r\n") * n + b".\r\n")
                w.expect(451, 452)
            else:
                w.say("RSET", 250)
        os.mkdir(folder)
        w.envelope()
        w.text(b"3\r\n")
        w.bye()
    wanted(len(os.listdir(folder)), 2, "files")


# ---------------------------------------------------------------- sudden ends

class Load:
    """Clients that send mails to a sink with a folder; each mail has a sender of its own, and a text that follows from it."""

    def __init__(self, port, clients, seed):
        self.acknowledged, self.sent, self.lock = {}, {}, threading.Lock()
        self.port, self.stop, self.odd = port, threading.Event(), []
        self.threads = [threading.Thread(target=self.client, args=(f"{seed}.{k}",)) for k in range(clients)]
        for t in self.threads:
            t.start()

    def text(self, name):
        rng = random.Random(name)
        return f"Subject: {name}\r\n\r\n".encode() + b"".join(b"%d\r\n" % rng.randrange(10 ** 30) for _ in range(rng.choice((1, 10, 100, 3000))))

    def client(self, key):
        i = 0
        while not self.stop.is_set():
            try:
                s = socket.create_connection(("127.0.0.1", self.port), timeout=10)
            except OSError:
                return
            try:
                f = s.makefile("rb")
                f.readline()
                s.sendall(b"HELO c.test\r\n")
                f.readline()
                while not self.stop.is_set():
                    i += 1
                    name = f"{key}.{i}"
                    sender, text = f"{name}@a.test", self.text(name)
                    with self.lock:
                        self.sent[sender] = text
                    s.sendall(f"MAIL FROM:<{sender}>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n".encode())
                    codes = [f.readline()[:3] for _ in range(3)]
                    if codes != [b"250", b"250", b"354"]:
                        break
                    s.sendall(text + b".\r\n")
                    answer = f.readline()
                    if answer[:3] == b"250":
                        with self.lock:
                            self.acknowledged[sender] = text
                    elif answer:
                        if answer[:3] not in (b"421", b"451", b"452"):
                            self.odd.append(answer)
                        break
                    else:
                        break
                s.sendall(b"QUIT\r\n") if self.stop.is_set() else None
            except OSError:
                pass
            finally:
                s.close()

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(20)


@case("kill -9 under load, at 20 moments: what was acknowledged is there, whole")
def killed():
    folder = scratch("kill")
    rng = random.Random(9)
    everything, sent = {}, {}
    for round_ in range(20):
        p = Program("sink", "--dir", folder)
        load = Load(p.port, 4, round_)
        time.sleep(rng.uniform(0.02, 0.25))
        p.kill()
        load.end()
        everything.update(load.acknowledged)
        sent.update(load.sent)
        names, have = check_folder(folder, everything)
        for sender, text in have.items():
            wanted(text, sent[sender], f"text of {sender}")
        odd = [n for n in names if not n.endswith((".eml", ".json"))]
        if odd:
            raise Failed(f"left over: {odd}")
    if len(everything) < 100:
        raise Failed(f"only {len(everything)} mails were acknowledged: no load")


for mode in ("thread", "process"):
    def terminated(mode=mode):
        """SIGTERM: a clean end in bounded time, nothing acknowledged lost, and nothing kept that was not answered or still could be."""
        folder = scratch("term")
        rng = random.Random(15)
        for round_ in range(6):
            p = Program("sink", "--dir", folder, "--mode", mode)
            load = Load(p.port, 4, round_)
            time.sleep(rng.uniform(0.05, 0.3))
            began = time.monotonic()
            p.stop(20)
            took = time.monotonic() - began
            load.end()
            wanted(load.odd, [], "answers")
            names, have = check_folder(folder, load.acknowledged)
            unasked = [s for s in have if s.startswith(f"{round_}.") and s not in load.acknowledged]
            wanted(unasked, [], "kept, but its sender did not hear 250")
            wanted([n for n in names if n.endswith(".eml") and n[:-4] + ".json" not in names], [], "half")
            if took > 8:
                raise Failed(f"the end took {took:.1f} s")
    case(f"SIGTERM under load, {mode}", terminated)

    def idle_term(mode=mode):
        """The idle hear 421, a running mail ends, nobody new comes in. (Who has begun, but sends nothing, may be either.)"""
        box = Box("--mode", mode)
        p = box.program
        idle, between, running, chunks = Wire(p), Wire(p), Wire(p), Wire(p)
        for w in (idle, between, running, chunks):
            w.hello()
        between.envelope()
        running.envelope()
        running.say("DATA", 354)
        running.send("first half\r\n")
        chunks.envelope()
        chunks.send("BDAT 20 LAST\r\n0123456789")
        time.sleep(0.1)
        os.kill(p.pid, signal.SIGTERM)
        idle.expect(421)
        idle.at_end()
        idle.close()
        def refused():
            try:
                socket.create_connection(("127.0.0.1", p.port), 1).close()
                return False
            except OSError:
                return True
        eventually("nobody new", refused)
        running.send("second half\r\n.\r\n")
        running.expect(250)
        chunks.send("01234567\r\n")
        chunks.expect(250)
        between.send("DATA\r\nend\r\n.\r\n")
        kept = [r.code for r in between.until_end()][:2] == [354, 250]
        for w in (running, chunks, between):
            w.until_end()
            w.close()
        wanted(p.process.wait(40), 0, "status")
        p.complain()
        wanted(sorted(box.text(m) for m in box.mails()), [b"012345678901234567\r\n"] + [b"end\r\n"] * kept + [b"first half\r\nsecond half\r\n"], "texts")
        wanted(box.strays(), [], "strays")
    case(f"SIGTERM: 421 to the idle, running mails end, {mode}", idle_term)

    def stubborn(mode=mode):
        """Clients that neither send nor go can't hold up the end for ever (the drain is 30 s by default)."""
        if not harness.SLOW:
            raise Skip("slow: SLOW=1 runs it")
        with Program("sink", "--mode", mode) as p:
            stay = [Wire(p) for _ in range(5)]
            for w in stay:
                w.hello()
                w.envelope()
                w.say("DATA", 354)
            began = time.monotonic()
            p.stop(45)
            if time.monotonic() - began > 40:
                raise Failed("too long")
    case(f"SIGTERM: stubborn clients are cut, {mode}", stubborn)


@case("SIGTERM twice, and at once")
def twice():
    for delay in (0, 0.001, 0.02):
        p = Program("sink")
        time.sleep(delay)
        os.kill(p.pid, signal.SIGTERM)
        os.kill(p.pid, signal.SIGTERM)
        wanted(p.process.wait(10), 0, "status")


@case("SIGINT ends it as well")
def interrupt():
    p = Program("sink")
    os.kill(p.pid, signal.SIGINT)
    wanted(p.process.wait(10), 0, "status")


@case("kill -9 of the relay under load: each 250 is at the next hop")
def killed_relay():
    far = Box()
    rng = random.Random(4)
    acknowledged = {}
    for round_ in range(8):
        p = Program("relay", "--via", f"127.0.0.1:{far.port}")
        load = Load(p.port, 3, f"r{round_}")
        time.sleep(rng.uniform(0.05, 0.3))
        p.kill()
        load.end()
        acknowledged.update(load.acknowledged)
    time.sleep(0.2)
    far.program.stop()
    have = {}
    for m in far.mails():
        have.setdefault(m["from"], []).append(far.text(m))
    for sender, text in acknowledged.items():
        if sender not in have:
            raise Failed(f"acknowledged and lost: {sender}")
        if not have[sender][0].endswith(text):
            raise Failed(f"damaged: {sender}")
        wanted(len(have[sender]), 1, "copies")
    if len(acknowledged) < 30:
        raise Failed(f"only {len(acknowledged)} mails: no load")


@case("the next hop dies under load: nothing acknowledged is lost, and no half mail is there")
def killed_hop():
    folder = scratch("hop")
    port = None
    acknowledged, sent = {}, {}
    hop = Program("sink", "--dir", folder)
    relay = Program("relay", "--via", f"127.0.0.1:{hop.port}")
    port = hop.port
    rng = random.Random(5)
    for round_ in range(5):
        load = Load(relay.port, 3, f"h{round_}")
        time.sleep(rng.uniform(0.1, 0.3))
        hop.kill()
        time.sleep(0.1)
        hop = Program("sink", "--dir", folder, listen=f"127.0.0.1:{port}")
        time.sleep(0.1)
        load.end()
        acknowledged.update(load.acknowledged)
        sent.update(load.sent)
    relay.stop()
    hop.stop()
    _, have = check_folder(folder, {})
    for sender, text in acknowledged.items():
        if sender not in have:
            raise Failed(f"acknowledged and lost: {sender}")
    for sender, text in have.items():
        if not text.endswith(sent[sender]):
            raise Failed(f"damaged: {sender}")
    if len(acknowledged) < 30:
        raise Failed(f"only {len(acknowledged)} mails: no load")
