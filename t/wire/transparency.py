"""Octet for octet what was sent: through the sink, and through relay to the sink (RELIABILITY 4)."""
import hashlib
import os
import random
import re
import shutil
import socket

import harness
from harness import Box, Failed, Program, SANITIZED, SLOW, Skip, Wire, case, scratch, shared, sink, stuffed, unique, wanted


def far():
    return shared.get("far", Box)


def relay():
    port = far().port
    return shared.get("relay", lambda: Program("relay", "--via", f"127.0.0.1:{port}", "--hostname", "relay.test"))


def body(seed, style):
    """A random text of a kind; it ends with CRLF, and has no bare CR or LF."""
    rng = random.Random(f"{seed}{style}")
    if style == "dots":
        lines = [b"." * rng.randrange(6) + rng.choice((b"", b"x", b" ", b"..")) for _ in range(rng.randrange(1, 200))]
    elif style == "short":
        lines = [bytes(rng.choice(b".a \t") for _ in range(rng.randrange(3))) for _ in range(rng.randrange(1, 3000))]
    elif style == "octets":
        lines = [bytes(c for c in rng.randbytes(rng.randrange(200)) if c not in b"\r\n") for _ in range(rng.randrange(1, 300))]
    elif style == "long":
        lines = [rng.choice((b"l", b".", b"\xff")) * rng.randrange(900, 200000) for _ in range(rng.randrange(1, 6))]
    elif style == "commands":
        lines = [rng.choice((b"QUIT", b"MAIL FROM:<x@y>", b"RSET", b".", b"..", b"DATA", b"BDAT 5 LAST", b"", b"From me", b"From: x")) for _ in range(rng.randrange(1, 100))]
    elif style == "zeros":
        lines = [b"\0" * rng.randrange(2000) for _ in range(rng.randrange(1, 20))]
    else:  # mail
        lines = [b"Subject: %d" % seed, b"X-8bit: \xe4\xf6", b"Received: from a by b;", b"\tfolded", b"", "gr\u00fc\u00dfe".encode(), b"  blanks  ", b"\ttabs\t", b""]
        rng.shuffle(lines)
    return b"".join(line + b"\r\n" for line in lines)


STYLES = ("mail", "dots", "short", "octets", "long", "commands", "zeros")
for style in STYLES:
    for way in ("DATA", "BDAT"):
        def round_trip(style=style, way=way):
            w = Wire(sink())
            w.hello()
            bodies = [body(i, style) for i in range(8)]
            rng = random.Random(style)
            for text in bodies:
                w.envelope()
                if way == "DATA":
                    w.text(text)
                else:
                    rest = text
                    while True:
                        n = rng.randrange(len(rest) + 1) if rng.random() < 0.7 else len(rest)
                        chunk, rest = rest[:n], rest[n:]
                        w.send(b"BDAT %d%s\r\n" % (n, b"" if rest else b" LAST") + chunk)
                        w.expect(250)
                        if not rest:
                            break
            w.bye()
            mails = sink().mails(w.name)
            wanted(len(mails), 8, "mails")
            for m, text in zip(mails, bodies):
                wanted(sink().text(m), text, "text")
                wanted(m["size"], len(text), "size")
        case(f"{style} by {way} to the sink", round_trip)


RECEIVED = re.compile(rb"^Received: [^\r\n]+\r\n(?:[ \t][^\r\n]+\r\n)*")


def without_received(text, what="text"):
    m = RECEIVED.match(text)
    if not m:
        raise Failed(f"no Received field in front: {text[:200]!r}")
    for line in m.group(0).split(b"\r\n"):
        if len(line) > 998:
            raise Failed("a Received line over 998")
        if not all(32 <= c < 127 or c == 9 for c in line):
            raise Failed(f"a Received line with odd octets: {line!r}")
    return text[m.end():], m.group(0)


def through(mail, rcpts, how, text, helo=None):
    """One mail through the relay, and what the far end has of it."""
    token = unique("far").encode()
    tail = rcpts or [b"<" + token + b"@far.test>"]
    w = Wire(relay())
    w.hello(helo)
    w.say(b"MAIL FROM:" + mail, 250)
    for r in tail:
        w.say(b"RCPT TO:" + r, 250)
    if how == "DATA":
        w.text(text)
    else:
        w.send(b"BDAT %d LAST\r\n" % len(text) + text)
        w.expect(250)
    w.bye()
    return tail


def find_far(address):
    found = [m for m in far().mails() if address in m["to"]]
    if len(found) != 1:
        raise Failed(f"{len(found)} mails for {address}")
    return found[0]


for style in STYLES:
    for way in ("DATA", "BDAT"):
        def relayed(style=style, way=way):
            for i in range(3):
                token = unique("far")
                text = b"X: y\r\n" + body(i, style)  # its first line must not fold the Received field
                mail = b"<s@a.test>" + (b" BODY=8BITMIME" if way == "BDAT" or i % 2 else b"")
                through(mail, [f"<{token}@far.test>".encode()], way, text)
                m = find_far(f"{token}@far.test")
                rest, field = without_received(far().text(m))
                wanted(rest, text, "text")
                if b"relay.test" not in field:
                    raise Failed(f"who received it? {field!r}")
        case(f"{style} by {way} through the relay", relayed)

for text in (b"abc", b"a\r\n.", b".", b"", b"\r\n", b"a\nb\rc\0", bytes(range(256)), b"a\r\n.\r\nQUIT\r\n", b"\r", b"\n", b"a\r"):
    def binary(text=text):
        token = unique("far")
        through(b"<s@a.test> BODY=BINARYMIME", [f"<{token}@far.test>".encode()], "BDAT", text)
        m = find_far(f"{token}@far.test")
        wanted(m["parameters"]["body"], "BINARYMIME", "body")
        wanted(without_received(far().text(m))[0], text, "text")
    case(f"binary {harness.show(text, 40)!r} through the relay", binary)

for text in (b"abc", b"", b".", b"a\r\n.", b"a\r\n..\r\nb"):
    def unended(text=text):
        """Not BINARYMIME and without a last CRLF: the next hop gets it as it was, or with a CRLF where DATA needs one."""
        token = unique("far")
        through(b"<s@a.test>", [f"<{token}@far.test>".encode()], "BDAT", text)
        rest = without_received(far().text(find_far(f"{token}@far.test")))[0]
        if rest not in (text, text + b"\r\n"):
            raise Failed(f"{rest!r} instead of {text!r}")
    case(f"{harness.show(text)!r} without CRLF through the relay", unended)

for mail, rcpt in [('"a b"@x.test', '"c d"'), ('"a\\"b"@x.test', '"c\\\\d"'), ("MiXed.Case@X.Test", "KeepCase"), ("", "n"), ("a+b=c@x.test", "x+y=z"),
                   ("a@[192.0.2.1]", "lit"), ("a@[IPv6:2001:db8::1]", "lit6"), ("!#$%&'*+-/=?^_`{|}~@x.test", "!#$%&'*+-/=?^_`{|}~"), ('""@x.test', '">"')]:
    def envelope(mail=mail, rcpt=rcpt):
        """Local parts stay as they are, quotes and case included."""
        domain = unique("d")
        through(f"<{mail}>".encode(), [f"<{rcpt}@{domain}>".encode()], "DATA", b"x\r\n")
        m = find_far(f"{rcpt}@{domain}")
        wanted(m["from"], mail, "from")
    case(f"the envelope <{mail}> {rcpt} through the relay", envelope)


@case("parameters through the relay")
def parameters():
    domain = unique("d")
    through("<\u00e4@x.test> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+3D".encode(),
            [f"<\u00f6@{domain}> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Bx@y".encode(), f"<p@{domain}> NOTIFY=NEVER".encode()], "DATA", "gr\u00fc\u00dfe\r\n".encode())
    m = find_far(f"\u00f6@{domain}")
    wanted(m["from"], "\u00e4@x.test", "from")
    wanted({k: m["parameters"].get(k) for k in ("smtputf8", "body", "ret", "envid")}, {"smtputf8": True, "body": "8BITMIME", "ret": "HDRS", "envid": "a+b="}, "parameters")
    wanted([r.get("notify") for r in m["recipients"]], ["SUCCESS,DELAY", "NEVER"], "notify")
    wanted(m["recipients"][0]["orcpt"], {"type": "rfc822", "address": "o+x@y"}, "orcpt")


@case("several recipients and mails through the relay, in one session")
def several():
    w = Wire(relay())
    w.hello()
    want = {}
    for i in range(5):
        d = unique("d")
        w.envelope(f"FROM:<s{i}@a.test>", *[f"TO:<r{k}@{d}>" for k in range(i + 1)])
        text = b"mail %d\r\n..\r\n" % i
        w.text(text)
        want[f"r0@{d}"] = (f"s{i}@a.test", [f"r{k}@{d}" for k in range(i + 1)], text)
    w.bye()
    for key, (sender, to, text) in want.items():
        m = find_far(key)
        wanted((m["from"], m["to"], without_received(far().text(m))[0]), (sender, to, text), "mail")


for name in (b"a(b", b"a)b", b"a;b", b"a b", b"x" * 500, "\u00e4.test".encode(), b"a\tb", b"a\"b", b"[192.0.2.1]", b"<x>", b"a\\", b"(((((((", b"\xff\xfe"):
    def odd_helo(name=name):
        """A strange name in HELO stays inside its Received field."""
        token = unique("far")
        w = Wire(relay())
        if w.say(b"EHLO " + name, 250, 501, 550, 553).code != 250:
            w.hello()
        w.envelope("FROM:<s@a.test>", f"TO:<{token}@far.test>")
        w.text(b"Subject: x\r\n\r\ny\r\n")
        w.bye()
        wanted(without_received(far().text(find_far(f"{token}@far.test")))[0], b"Subject: x\r\n\r\ny\r\n", "text")
    case(f"EHLO {harness.show(name, 30)!r} and the Received field", odd_helo)


@case("hops are counted")
def hops():
    w = Wire(relay())
    w.hello()
    for n, codes in ((50, (250,)), (100, (554,)), (300, (554,))):  # RFC 5321 6.3: at least 100 are allowed
        w.envelope("FROM:<s@a.test>", f"TO:<{unique('hop')}@far.test>")
        w.text(b"Received: from a by b; x\r\n" * n + b"\r\nbody\r\n", *codes)
    w.in_step()


@case("Received in the body is no hop")
def no_hops():
    w = Wire(relay())
    w.hello()
    w.envelope("FROM:<s@a.test>", f"TO:<{unique('hop')}@far.test>")
    w.text(b"Subject: x\r\n\r\n" + b"Received: from a by b; x\r\n" * 200)
    w.bye()


for listen in ("[::1]:0", "localhost:0", "[::]:0", "unix:", "0.0.0.0:0"):
    def listens(listen=listen):
        """Every kind of address; a client over the IPv4 half of [::] is the IPv4 client it is."""
        box = Box()
        path = os.path.join(scratch("unix"), "s") if listen == "unix:" else ""
        for program, arguments in (("sink", ("--dir", box.dir)), ("relay", ("--via", f"127.0.0.1:{box.port}"))):
            if program == "relay" and path:
                continue  # whom to trust there is another question
            try:
                p = Program(program, *arguments, listen=listen + path)
            except Failed as e:
                if "::" in listen:
                    raise Skip(f"no IPv6 here: {e}") from None
                raise
            with p:
                if path:
                    s = socket.socket(socket.AF_UNIX)
                    s.connect(path)
                else:
                    s = socket.create_connection(("::1" if listen == "[::1]:0" else "127.0.0.1", p.port))
                w = Wire(s)
                w.hello()
                w.envelope()
                w.text(b"x\r\n")
                w.bye()
            if path and os.path.exists(path):
                raise Failed("the path of the Unix socket is left")
        box.program.stop()
        wanted(len(box.mails()), 1 if path else 2, "mails")
    case(f"listens on {listen}", listens)


@case("strangers are not relayed")
def strangers():
    box = Box()
    with Program("relay", "--via", f"127.0.0.1:{box.port}", "--trusted", "192.0.2.0/24") as p:
        w = Wire(p)
        w.hello()
        w.say("MAIL FROM:<s@a.test>", 250)
        w.say("RCPT TO:<r@b.test>", 550)
        w.say("DATA", 503, 554)
        w.bye()
    wanted(box.mails(), [], "mails")
    box.program.stop()


# ---------------------------------------------------------------- big ones

def stream(w, megabytes, line):
    """A text of that many MiB, its hash and size after the dots are undone."""
    block = (line + b"\r\n") * ((1 << 20) // (len(line) + 2))
    sent = stuffed(block) if not line.startswith(b".") else (b"." + line + b"\r\n") * ((1 << 20) // (len(line) + 2))
    sha, size = hashlib.sha256(), 0
    w.log.append(("C", b"[%d MiB]" % megabytes))
    for _ in range(megabytes):
        w.socket.sendall(sent)
        sha.update(block)
        size += len(block)
    w.socket.settimeout(60)
    w.send(b".\r\n")
    return sha.hexdigest(), size


def big(megabytes, limit, keep, line, deep=("--max-size", "0")):
    if keep and shutil.disk_usage(harness.SCRATCH).free < (megabytes << 20) * 3:
        raise Skip("the disk has no room")
    folder = scratch("big")
    arguments = [*deep, *(["--dir", folder] if keep else [])]
    try:
        with Program("sink", *arguments) as p:
            w = Wire(p)
            w.hello()
            w.envelope()
            w.say("DATA", 354)
            sha, size = stream(w, megabytes, line)
            w.expect(250)
            peak = p.peak()
            w.bye()
            if keep:
                name, = [n for n in os.listdir(folder) if n.endswith(".eml")]
                path = os.path.join(folder, name)
                wanted(os.stat(path).st_size, size, "size")
                have = hashlib.sha256()
                with open(path, "rb") as f:
                    while block := f.read(1 << 20):
                        have.update(block)
                wanted(have.hexdigest(), sha, "sha256")
            if peak > limit and not SANITIZED:
                raise Failed(f"{peak >> 20} MiB resident for a mail of {megabytes} MiB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


case("100 MiB are saved in less than 64 MiB of memory", lambda: big(100, 64 << 20, True, b"." + b"m" * 70))
case("100 MiB are sunk in less than 32 MiB of memory", lambda: big(100, 32 << 20, False, b"m" * 70))
for delta in (-1, 0, 1):
    for way in ("DATA", "BDAT"):
        def spooled(delta=delta, way=way):
            """Around the size from which a message is in a file and no longer in memory (16 MiB by default), through both programs."""
            n = (16 << 20) + delta
            text = (b"." + b"s" * 61 + b"\r\n") * (n // 64 - 1)
            text += b"e" * (n - len(text) - 2) + b"\r\n"
            token = unique("far")
            for where, find in ((sink(), lambda: sink().text(sink().mails(w.name)[0])), (relay(), lambda: without_received(far().text(find_far(f"{token}@far.test")))[0])):
                w = Wire(where)
                w.hello()
                w.envelope("FROM:<s@a.test>", f"TO:<{token}@far.test>")
                if way == "DATA":
                    w.text(text)
                else:
                    w.send(b"BDAT %d LAST\r\n" % n + text)
                    w.expect(250)
                w.bye()
                wanted(find(), text, "text")
        case(f"16 MiB {delta:+d} by {way}", spooled)

case("30 MiB in one line", lambda: one_line())


def one_line():
    w = Wire(sink())
    w.hello()
    w.envelope()
    w.say("DATA", 354)
    text = b"\xfe." * (15 << 20) + b"\r\n"
    w.send(text + b".\r\n")
    w.expect(250)
    w.bye()
    wanted(sink().text(sink().mails(w.name)[0]), text, "text")


@case("60 MiB through the relay")
def big_relayed():
    token = unique("far")
    w = Wire(relay())
    w.hello()
    w.envelope("FROM:<s@a.test>", f"TO:<{token}@far.test>")
    w.say("DATA", 354)
    sha, size = stream(w, 60, b".mail" * 14)
    w.expect(250)
    w.bye()
    text = without_received(far().text(find_far(f"{token}@far.test")))[0]
    wanted(len(text), size, "size")
    wanted(hashlib.sha256(text).hexdigest(), sha, "sha256")
    if relay().peak() > 200 << 20 and not SANITIZED:
        raise Failed(f"{relay().peak() >> 20} MiB resident")


def slow(megabytes, keep):
    if not SLOW:
        raise Skip("slow: SLOW=1 runs it")
    big(megabytes, 32 << 20, keep, b"g" * 70)


case("1 GiB is sunk in less than 32 MiB of memory", lambda: slow(1024, False))
case("1 GiB is saved in less than 32 MiB of memory", lambda: slow(1024, True))
