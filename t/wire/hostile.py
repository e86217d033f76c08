"""Clients that mean no good, or have bad luck: they cost their own share, and nobody else's (RELIABILITY 6, 11)."""
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import harness
from harness import Box, Failed, Program, SANITIZED, Skip, Wire, case, eventually, healthy, scratch, wanted

MAIL = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
HELLO = b"EHLO c.test\r\n"


def flat(p, rss, descriptors, allow=8 << 20):
    """Descriptors are back where they were, and memory nearly so."""
    eventually(f"descriptors come back to {descriptors} (now {p.descriptors()})", lambda: p.descriptors() <= descriptors, 20)
    if not SANITIZED and p.rss() > rss + allow:
        raise Failed(f"it grew from {rss >> 10} to {p.rss() >> 10} KiB")


def settled(p):
    for _ in range(3):
        healthy(p.port)
    time.sleep(0.05)
    eventually("quiet", lambda: p.descriptors() == p.descriptors())
    return p.rss(), p.descriptors()


def raw(port):
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(harness.WAIT)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def hear(s, code):
    """Reads up to the end of a reply with this code."""
    data = b""
    while not re.search(rb"(?m)^%d [^\r]*\r\n\Z" % code, data):
        more = s.recv(4096)
        if not more:
            raise Failed(f"expected {code}, heard {data!r} and the end")
        data += more


# ---------------------------------------------------------------- resets in every state

STATES = {  # what is said before, and the last code that is waited for
    "at once": (b"", None), "after the greeting": (b"", 220), "inside a command": (b"EHLO c.te", 220), "after EHLO": (HELLO, 250), "after MAIL": (HELLO + MAIL[:22], None),
    "after RCPT": (HELLO + MAIL, None), "after DATA": (HELLO + MAIL + b"DATA\r\n", 354), "inside a text": (HELLO + MAIL + b"DATA\r\nhello\r\n", 354),
    "inside a large text": (HELLO + MAIL + b"DATA\r\n" + b"x" * 70 + b"\r\n" * 2000, None), "before the last LF": (HELLO + MAIL + b"DATA\r\nhello\r\n.\r", 354),
    "before the answer": (HELLO + MAIL + b"DATA\r\nhello\r\n.\r\n", None), "inside a chunk": (HELLO + MAIL + b"BDAT 1000\r\nabc", None),
    "between chunks": (HELLO + MAIL + b"BDAT 3\r\nabc", None), "inside the last chunk": (HELLO + MAIL + b"BDAT 1000 LAST\r\nabc", None),
    "after the last chunk": (HELLO + MAIL + b"BDAT 5 LAST\r\nabc\r\n", None), "after QUIT": (HELLO + b"QUIT\r\n", None), "with replies unread": (HELLO + b"HELP\r\n" * 500, None),
    "inside a refused chunk": (b"BDAT 1000000\r\nabc", None),
}


def resets(said, code, p, n, ways=("reset", "close")):
    for i in range(n):
        s = raw(p.port)
        if said:
            s.sendall(said)
        if code:
            hear(s, code)
        if ways[i % len(ways)] == "reset":
            reset(s)
        else:
            s.close()


for name, (said, code) in STATES.items():
    def in_state(said=said, code=code, name=name):
        box = Box()
        p = box.program
        rss, descriptors = settled(p)
        resets(said, code, p, 200, ("reset",))
        resets(said, code, p, 20, ("close",))
        flat(p, rss, descriptors)
        healthy(p.port)
        p.stop()
        wanted(box.strays(), [], "strays")
        mine = [m for m in box.mails() if m["helo"] == "c.test"]
        if mine and name not in ("before the answer", "after the last chunk"):
            raise Failed(f"{len(mine)} cut mails were delivered")
        for m in mine:
            wanted(box.text(m) in (b"hello\r\n", b"abc\r\n"), True, "whole")
    case(f"200 resets {name}", in_state)

for name in ("after RCPT", "inside a text", "before the answer", "inside the last chunk"):
    for program in ("relay", "fork", "thread"):
        def relay_state(name=name, program=program):
            far = Box()
            with Program(program, "--via", f"127.0.0.1:{far.port}") as p:
                healthy(p.port)
                time.sleep(0.2)
                rss, descriptors = p.rss(), p.descriptors()
                resets(*STATES[name], p, 60, ("reset", "close"))
                healthy(p.port)
                time.sleep(0.1)
                # The relay keeps connections to the next hop for the next mail; never one for each that was given up.
                flat(p, rss, descriptors + (4 if program == "relay" else 0))
            far.program.stop()
            bad = [m for m in far.mails() if m["helo"] and b"still here" not in far.text(m) and b"hello" not in far.text(m)]
            wanted(bad, [], "cut mails at the next hop")
            wanted(far.strays(), [], "strays")
        case(f"60 resets {name}, {program}", relay_state)


# ---------------------------------------------------------------- never reading, half closed

def never_reads(said, total):
    def run():
        with Program("sink") as p:
            rss, descriptors = settled(p)
            lazy = []
            for _ in range(5):
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                s.connect(("127.0.0.1", p.port))
                s.setblocking(False)
                sent, quiet = 0, 0
                while sent < total and quiet < 20:
                    try:
                        sent += s.send(said)
                    except BlockingIOError:
                        quiet += 1
                        time.sleep(0.01)
                    except OSError:
                        break
                lazy.append(s)
                if sent >= total:
                    raise Failed(f"{sent} octets of commands were taken from one who never reads")
                healthy(p.port)
            if not SANITIZED and p.rss() > rss + (8 << 20):
                raise Failed(f"it grew from {rss >> 10} to {p.rss() >> 10} KiB")
            for s in lazy:
                reset(s)
            flat(p, rss, descriptors)
    return run


case("who never reads is not read for ever: HELP", never_reads(b"HELP\r\n" * 10000, 400 << 20))
case("who never reads is not read for ever: EHLO", never_reads(b"EHLO c.test\r\n" * 10000, 400 << 20))
case("who never reads is not read for ever: mails", never_reads((MAIL + b"DATA\r\n\r\n.\r\n") * 3000, 400 << 20))

for name, said, codes in [
        ("with QUIT", HELLO + MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n", [220, 250, 250, 250, 354, 250, 221]),
        ("without QUIT", HELLO + MAIL + b"DATA\r\nx\r\n.\r\n", [220, 250, 250, 250, 354, 250]), ("at once", b"", [220]), ("after EHLO", HELLO, [220, 250]),
        ("inside a command", HELLO + b"NOO", [220, 250]), ("behind CR", HELLO + b"NOOP\r", [220, 250]), ("inside a text", HELLO + MAIL + b"DATA\r\nx\r\n", [220, 250, 250, 250, 354])]:
    def half(said=said, codes=codes):
        w = Wire(harness.discard(), greeting=None)
        w.send(said) if said else None
        w.half_close()
        heard = [r.code for r in w.until_end()]
        if heard[:len(codes)] != codes or heard[len(codes):] not in ([], [421], [451], [500], [554]):
            raise Failed(f"{heard} instead of {codes}")
    case(f"half closed {name}", half)


@case("the mail before a half close without QUIT is not lost")
def half_mail():
    w = Wire(harness.sink())
    w.hello()
    w.send(MAIL + b"DATA\r\nkept\r\n.\r\n")
    w.half_close()
    wanted([r.code for r in w.until_end()][:4], [250, 250, 354, 250], "codes")
    wanted(harness.sink().text(harness.sink().mails(w.name)[0]), b"kept\r\n", "text")


@case("mails whose answers are never read are kept all the same, or not acknowledged")
def unread():
    box = Box()
    for i in range(20):
        s = raw(box.port)
        s.sendall(HELLO + MAIL + b"DATA\r\nunread %d\r\n.\r\n" % i)
        s.close()
    healthy(box.port)
    box.program.stop()
    wanted(box.strays(), [], "strays")
    for m in box.mails(helo="c.test"):
        wanted(bool(re.fullmatch(rb"unread \d+\r\n", box.text(m))), True, "whole")


# ---------------------------------------------------------------- slow ones beside working ones

def mails_in(port, n):
    """How long n mails take, and the longest one."""
    began, longest = time.monotonic(), 0
    with Wire(port) as w:
        w.hello()
        for _ in range(n):
            one = time.monotonic()
            w.envelope()
            w.text(b"Subject: x\r\n\r\nwork\r\n")
            longest = max(longest, time.monotonic() - one)
        w.bye()
    return time.monotonic() - began, longest


def beside(name, setup):
    """The others are served while 60 of these are connected."""
    def run():
        for mode in ("thread", "process"):
            with Program("sink", "--mode", mode) as p:
                alone, _ = mails_in(p.port, 100)
                bad = [raw(p.port) for _ in range(60)]
                stop = threading.Event()
                for s in bad:
                    s.sendall(setup)

                def drip():
                    while not stop.wait(0.02):
                        for s in bad:
                            try:
                                s.send(b"x")
                            except OSError:
                                pass
                t = threading.Thread(target=drip)
                t.start()
                try:
                    taken, longest = mails_in(p.port, 100)
                finally:
                    stop.set()
                    t.join()
                    for s in bad:
                        reset(s)
                if longest > 1.0 and longest > 20 * alone:
                    raise Failed(f"100 mails in {taken:.2f} s instead of {alone:.2f} s, the longest {longest:.2f} s")
                eventually("all have gone", lambda: p.descriptors() < 40)
    case(f"slow clients {name} keep nobody out", run)


beside("inside a command", b"NOOP ")
beside("inside a text", HELLO + MAIL + b"DATA\r\n")
beside("inside a chunk", HELLO + MAIL + b"BDAT 100000\r\n")
beside("inside a refused chunk", b"BDAT 100000000\r\n")
beside("inside an over-long line", b"X" * 3000)


@case("who is turned away and stays keeps nobody out", alone=False)
def turned_away():
    for mode in ("thread", "process"):
        with Program("sink", "--limit", "1", "--mode", mode) as p:
            inside = Wire(p)
            stay = []
            for _ in range(150):
                s = raw(p.port)
                s.sendall(b"EHLO c.test\r\n" * 10)
                stay.append(s)
            began = time.monotonic()
            Wire(p, greeting=421)
            if time.monotonic() - began > 3:
                raise Failed(f"421 after {time.monotonic() - began:.1f} s")
            inside.bye()
            eventually("a place is free", lambda: Wire(p, greeting=None).expect(220, 421).code == 220, 5)
            for s in stay:
                s.close()


# ---------------------------------------------------------------- floods

@case("a flood of 500 connections, each served")
def flood():
    for mode in ("thread", "process"):
        with Program("sink", "--mode", mode) as p:
            rss, descriptors = settled(p)
            sockets = [raw(p.port) for _ in range(500)]
            for s in sockets:
                s.sendall(HELLO + MAIL + b"DATA\r\nflood\r\n.\r\nQUIT\r\n")
            for s in sockets:
                data = b""
                while more := s.recv(65536):
                    data += more
                codes = re.findall(rb"(?m)^(\d{3}) ", data)
                wanted(codes, [b"220", b"250", b"250", b"250", b"354", b"250", b"221"], "codes")
                s.close()
            if mode == "thread":
                flat(p, rss, descriptors, 60 << 20)
            healthy(p.port)


@case("500 idle connections, then as many again")
def idle():
    with Program("sink") as p:
        _, descriptors = settled(p)
        first = None
        for _ in range(4):
            sockets = [raw(p.port) for _ in range(500)]
            for s in sockets:
                hear(s, 220)
            peak = p.rss()
            healthy(p.port)
            for s in sockets:
                s.close()
            eventually("they have gone", lambda: p.descriptors() <= descriptors, 20)
            first = first or peak
        if not SANITIZED and peak > first + (8 << 20):
            raise Failed(f"500 connections: {first >> 20} MiB at first, {peak >> 20} MiB at last")


@case("3000 connections that come and go")
def come_and_go():
    with Program("sink") as p:
        rss, descriptors = settled(p)
        for i in range(3000):
            s = raw(p.port)
            reset(s) if i % 2 else s.close()
        flat(p, rss, descriptors)
        healthy(p.port)


for program, arguments in (("sink", ()), ("sink", ("--mode", "process")), ("relay", ("--via", "127.0.0.1:9")), ("thread", ("--via", "127.0.0.1:9"))):
    def no_descriptors(program=program, arguments=arguments):
        """EMFILE at accept: running sessions finish, no busy loop, and it recovers (RELIABILITY 5)."""
        if SANITIZED:
            raise Skip("a sanitizer needs descriptors to look at memory")
        with Program(program, *arguments, files=(40, 40)) as p:
            inside = Wire(p)
            inside.hello()
            waiting = [raw(p.port) for _ in range(80)]
            time.sleep(0.3)
            ticks = sum(map(int, open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
            time.sleep(1.0)
            used = sum(map(int, open(f"/proc/{p.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])) - ticks
            if used > 30:
                raise Failed(f"{used} of 100 ticks while nothing happens: a busy loop")
            if program == "sink":
                inside.envelope()
                inside.text(b"x\r\n", 250, 451, 452)
            inside.say("NOOP", 250)
            inside.bye()
            for s in waiting:
                s.close()
            w = Wire(p)
            w.hello()
            w.bye()
    case(f"no descriptors left: {program} {' '.join(arguments)}".strip(), no_descriptors)


@case("no memory left for anybody")
def no_memory():
    """With little address space and much mail at once: 4xx for some, nobody dies."""
    import resource
    if SANITIZED:
        raise Skip("a sanitizer needs the address space")
    gib = 700 << 20
    with Program("sink", "--keep", before=lambda: resource.setrlimit(resource.RLIMIT_AS, (gib, gib))) as p:
        block = b"m" * 65534 + b"\r\n"
        codes = []

        def one():
            harness.local.wires = []
            try:
                w = Wire(p, greeting=None, timeout=40)
                for line, good in (("", 220), ("EHLO c.test\r\n", 250), ("MAIL FROM:<a@b.test>\r\n", 250), ("RCPT TO:<c@d.test>\r\n", 250), ("DATA\r\n", 354)):
                    w.send(line) if line else None
                    r = w.reply()
                    code = r.code if r else 421  # a close is 451 to a client (RFC 5321 3.8)
                    if code != good:
                        codes.append(code)
                        return
                for _ in range(15 * 16):
                    w.socket.sendall(block)
                time.sleep(1)
                w.send(b".\r\n")
                codes.append(w.expect(250, 451, 452, 421).code)
            except (BrokenPipeError, ConnectionResetError):
                codes.append(421)  # it went while we sent
            except Exception as e:
                codes.append(repr(e))
            finally:
                for w in harness.local.wires:
                    w.close()
        threads = [threading.Thread(target=one) for _ in range(60)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        odd = [c for c in codes if c not in (250, 421, 451, 452)]
        if odd or not p.alive():
            raise Failed(f"{odd[:5]} {p.stderr()[-500:]}")
        healthy(p.port)


# ---------------------------------------------------------------- garbage

def garbage(rng):
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 3000))
    if kind == 1:
        return bytes(rng.choice(b"\r\n.\0 \xff:<>@\"\\,aM") for _ in range(rng.randrange(1, 400)))
    if kind == 2:  # TLS hello, SSH, HTTP/2, SMB
        return rng.choice((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(300), b"SSH-2.0-x\r\n" + rng.randbytes(100), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                           b"\0\0\0\x85\xffSMB" + rng.randbytes(100), b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + rng.randbytes(20)))
    parts = [HELLO, b"HELO x\r\n", MAIL, b"RSET\r\n", b"DATA\r\n", b"text\r\n..\r\n.\r\n", b"BDAT 5\r\nabcde", b"BDAT 3 LAST\r\nabc", b"NOOP\r\n", b"VRFY x\r\n", b"EXPN y\r\n", b"HELP\r\n",
             b"MAIL FROM:<> SIZE=5 BODY=BINARYMIME SMTPUTF8 RET=FULL ENVID=x\r\n", b"RCPT TO:<\"a b\"@[IPv6:::1]> NOTIFY=NEVER ORCPT=rfc822;x\r\n", b"BDAT 99999\r\n", b"\r\n", b".\r\n", b"QUIT\r\n"]
    stream = bytearray(b"".join(rng.choice(parts) for _ in range(rng.randrange(1, 25))))
    if kind < 6:  # broken in a few places
        for _ in range(rng.randrange(1, 12)):
            at = rng.randrange(len(stream) + 1)
            what = rng.randrange(5)
            if what == 0:
                stream[at:at + 1] = bytes([rng.randrange(256)])
            elif what == 1:
                del stream[at:at + rng.randrange(1, 6)]
            elif what == 2:
                stream[at:at] = rng.choice((b"\r", b"\n", b"\0", b"\r\n", b".", b"\r\n.\r\n", b"\"", b"\\", b"<", b">", b"\xc3\x28", b" " * 50))
            elif what == 3:
                stream[at:at] = stream[at:at + rng.randrange(40)]
            else:
                stream[at:at] = bytes([rng.choice(b"A.\xff")]) * rng.choice((100, 2048, 5000, 20000))
    return bytes(stream)


FORM = re.compile(rb"(?:[2-5]\d\d(?:[ -][\x20-\x7e]{0,506})?\r\n)*\Z")


def fuzz(seed, n, p):
    rng = random.Random(seed)
    for i in range(n):
        data = garbage(rng)
        s = raw(p.port)
        got = b""
        try:
            if rng.random() < 0.2:
                for at in range(0, len(data), 7):
                    s.sendall(data[at:at + 7])
            else:
                s.sendall(data)
            if rng.random() < 0.1:
                reset(s)
                continue
            s.shutdown(socket.SHUT_WR)
            while more := s.recv(65536):
                got += more
        except socket.timeout:
            raise Failed(f"seed {seed}, session {i}: neither answered nor closed: {harness.show(data, 400)}") from None
        except OSError:
            continue
        finally:
            s.close()
        if not got.startswith(b"220") or not FORM.match(got):
            raise Failed(f"seed {seed}, session {i}: {harness.show(data, 400)} was answered {harness.show(got, 600)}")


for seed, (program, arguments) in enumerate([("sink", ()), ("sink", ("--keep",)), ("sink", ("--dir",)), ("sink", ("--max-size", "200")), ("inspect", ())]):
    def fuzzed(seed=seed, program=program, arguments=arguments):
        folder = scratch("fuzz")
        with Program(program, *(arguments + (folder,) if arguments == ("--dir",) else arguments)) as p:
            reader = threading.Thread(target=p.process.stdout.read, daemon=True)  # inspect talks there
            reader.start()
            fuzz(1000 + seed, 60, p)
            rss, descriptors = settled(p)
            fuzz(seed, 400, p)
            flat(p, rss, descriptors)
            healthy(p.port)
        names = os.listdir(folder)
        wanted([n for n in names if not n.endswith((".eml", ".json"))], [], "strays")
    case(f"400 sessions of garbage, {program} {' '.join(arguments)}".strip(), fuzzed)


@case("240 sessions of garbage, relay")
def fuzz_relay():
    far = Box()
    with Program("relay", "--via", f"127.0.0.1:{far.port}") as p:
        fuzz(78, 40, p)
        rss, descriptors = settled(p)
        fuzz(77, 200, p)
        flat(p, rss, descriptors)
        healthy(p.port)
    far.program.stop()
    far.mails()  # all of them are JSON
    wanted(far.strays(), [], "strays")


# ---------------------------------------------------------------- the other programs

for program in ("seed", "thread", "fork", "acl"):
    def one_mail(program=program):
        far = Box()
        with Program(program, "--via", f"127.0.0.1:{far.port}") as p:
            w = Wire(p)
            w.hello()
            w.envelope("FROM:<\"a b\"@a.test>", f"TO:<{program}@b.test>")
            w.text(b"Subject: x\r\n\r\n.\r\n")
            w.say("QUIT", 221) if program != "seed" else w.send("QUIT\r\n")
            w.until_end()
            resets(*STATES["inside a text"], p, 5)
            healthy_once(p)
        far.program.stop()
        m = [m for m in far.mails() if m["to"] == [f"{program}@b.test"]]
        wanted([m["from"] for m in m], ['"a b"@a.test'], "from")
    case(f"a mail through {program}", one_mail)


def healthy_once(p):
    w = Wire(p)
    w.hello()
    w.envelope()
    w.text(b"again\r\n")


@case("the model's loop takes one mail, says so, and goes")
def seed_loop():
    far = Box()
    with Program("seed", "--via", f"127.0.0.1:{far.port}") as p:
        w = Wire(p)
        w.send(HELLO + (MAIL + b"DATA\r\none\r\n.\r\n") * 2)
        codes = [r.code for r in w.until_end()]
        wanted(codes, [250, 250, 250, 354, 250, 421], "codes")
    far.program.stop()
    wanted([far.text(m) [-5:] for m in far.mails()], [b"one\r\n"], "mails")


@case("acl turns strangers away before the greeting")
def acl():
    with Program("acl", "--via", "127.0.0.1:9", "--friends", "192.0.2.0/24") as p:
        for _ in range(3):
            w = Wire(p, greeting=554)
            w.send("QUIT\r\n")
            for r in w.until_end():
                if r.code not in (221, 503):
                    raise Failed(f"{r!r}")


@case("save keeps each mail, or says so")
def save():
    folder = scratch("save")
    with Program("save", "--dir", folder) as p:
        w = Wire(p)
        w.hello()
        for i in range(5):
            w.envelope()
            w.text(b"%d\r\n..\r\n" % i)
        w.envelope()
        w.send("BDAT 100 LAST\r\nx")
        w.reset()
        healthy(p.port)
    texts = sorted(open(os.path.join(folder, n), "rb").read() for n in os.listdir(folder))
    wanted(texts, sorted([b"%d\r\n..\r\n" % i for i in range(5)] + [b"Subject: x\r\n\r\nstill here\r\n"]), "texts")


@case("inspect prints one whole line for each mail")
def inspect():
    import json
    p = Program("inspect")
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(p.process.stdout.readlines()), daemon=True)
    reader.start()

    def client(k):
        w = Wire(p)
        w.hello(f"i{k}.test")
        for i in range(20):
            w.envelope(f"FROM:<s{i}@a.test>")
            w.text(bytes(c for c in range(256) if c not in b"\r\n") * 20 + b"\r\n")
        w.bye()
    threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    p.stop()
    reader.join(5)
    mails = [json.loads(line) for line in lines]
    wanted(len(mails), 160, "lines")
    text = bytes(c for c in range(256) if c not in b"\r\n") * 20 + b"\r\n"
    for m in mails:
        wanted(m["message"].encode("utf-8", "surrogateescape"), text, "message")


for name, said, codes in [("a mail", HELLO + MAIL + b"QUIT\r\n", [220, 250, 250, 250, 221]), ("an early end", HELLO, [220, 250]), ("nothing", b"", [220]),
                          ("garbage", b"\0\xff\r\n" * 3 + b"QUIT\r\n", [220, 500, 500, 500, 221])]:
    def inetd(said=said, codes=codes):
        a, b = socket.socketpair()
        child = subprocess.Popen([os.path.join(harness.EXAMPLES, "inetd"), "--via", "127.0.0.1:9"], stdin=b, stdout=b, stderr=subprocess.DEVNULL)
        try:
            b.close()
            a.sendall(said)
            a.shutdown(socket.SHUT_WR)
            w = Wire(a, greeting=None)
            heard = [r.code for r in w.until_end()]
            if heard[:len(codes)] != codes or heard[len(codes):] not in ([], [421]):
                raise Failed(f"{heard} instead of {codes}")
            wanted(child.wait(10), 0, "exit status")
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
    case(f"inetd: {name}", inetd)


@case("a child killed in process mode costs its client only")
def killed_child():
    box = Box("--mode", "process")
    p = box.program
    others = [Wire(p) for _ in range(5)]
    for w in others:
        w.hello()
    children = set(open(f"/proc/{p.pid}/task/{p.pid}/children").read().split())
    victim = Wire(p)
    victim.hello()
    new = set(open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()) - children
    wanted(len(new), 1, "new children")
    victim.envelope()
    victim.say("DATA", 354)
    victim.send("cut\r\n")
    time.sleep(0.05)
    os.kill(int(new.pop()), signal.SIGKILL)  # a child of a program of ours
    try:
        if any(r.code < 400 for r in victim.until_end()):
            raise Failed("a killed child said 250")
    except Failed:
        raise
    for w in others:
        w.envelope()
        w.text(b"whole\r\n")
        w.bye()
    healthy(p.port)
    p.stop()
    wanted(sorted({box.text(m) for m in box.mails()}), [b"Subject: x\r\n\r\nstill here\r\n", b"whole\r\n"], "texts")
    wanted(box.strays(), [], "strays")
