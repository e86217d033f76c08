"""Octet for octet what was sent: through the sink, and through relay to the sink (RELIABILITY 4)."""
import hashlib
import os
import random
import re
import shutil
import socket
import threading
import time

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
        lines.insert(0, b"X: y")  # else the first may fold the Received field in front of it
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
                text = body(i, style)
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


class Hop:
    """A next hop that says what it is told to; one thread, connections one after the other."""

    def __init__(self, **say):
        self.say = {"greeting": b"220 hop\r\n", "EHLO": b"250-hop\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n", "HELO": b"250 hop\r\n", "MAIL": b"250 ok\r\n",
                    "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n", "dot": b"250 taken\r\n", "RSET": b"250 ok\r\n", "QUIT": b"221 bye\r\n", "NOOP": b"250 ok\r\n"}
        self.say.update(say)
        self.heard = []
        self.taken = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            c.settimeout(20)
            try:
                self.talk(c)
            except OSError:
                pass
            c.close()

    def talk(self, c):
        f = c.makefile("rb")
        c.sendall(self.say["greeting"])
        for line in f:
            self.heard.append(line)
            verb = line[:4].upper().strip().decode("latin-1")
            answer = self.say.get(verb, b"500 what\r\n")
            if callable(answer):
                answer = answer(line)
            if answer is None:
                return
            c.sendall(answer)
            if verb == "QUIT":
                return
            if verb == "DATA" and answer.startswith(b"354"):
                text = b""
                for line in f:
                    if line == b".\r\n":
                        break
                    text += line
                else:
                    return
                self.taken.append(text)
                if self.say["dot"] is None:
                    return
                c.sendall(self.say["dot"])

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


def heard_from(codes, end=None, **say):
    """What the relay's client hears, at RCPT or at the end, when its next hop talks like that; and it is not taken unless said so."""
    def run():
        hop = Hop(**say)
        try:
            with Program("relay", "--via", f"127.0.0.1:{hop.port}", "--hostname", "relay.test") as p:
                w = Wire(p, timeout=30)
                w.hello()
                w.say("MAIL FROM:<s@a.test>", 250)
                r = w.say("RCPT TO:<r@b.test>", 250, *codes)
                if r.code < 300:
                    w.say("DATA", 354)
                    w.send("Subject: x\r\n\r\ny\r\n.\r\n")
                    r = w.reply()
                    if r.code not in codes:
                        raise Failed(f"{r!r} instead of {codes}")
                for line in hop.heard:
                    if not re.match(rb"[A-Z]{4}( [\x21-\x7e ]*)?\r\n$", line):
                        raise Failed(f"the next hop heard {line!r}")
                if 250 not in codes:
                    w.say("RSET", 250)
                w.nothing_more(0.05)
                w.bye()
        finally:
            hop.close()
    return run


for name, codes, say in [
        ("refuses a recipient", (550,), {"RCPT": b"550 5.1.1 nobody\r\n"}), ("defers a recipient", (450,), {"RCPT": b"450 4.2.1 later\r\n"}),
        ("refuses the sender", (550, 553), {"MAIL": b"550 5.7.1 not you\r\n"}), ("refuses DATA", (554,), {"DATA": b"554 5.5.1 no\r\n"}),
        ("refuses the text", (554,), {"dot": b"554 5.6.0 bad\r\n"}), ("defers the text", (451,), {"dot": b"451 4.3.0 later\r\n"}),
        ("takes it in two lines", (250,), {"dot": b"250-2.0.0 taken\r\n250 2.0.0 as 1\r\n"}), ("takes it", (250,), {}),
        ("closes at the end", (451, 450, 421), {"dot": None}), ("closes at RCPT", (451, 450, 421), {"RCPT": None}), ("closes at EHLO and HELO", (451, 450, 421), {"EHLO": None, "HELO": None}),
        ("is busy", (451, 450, 421), {"greeting": b"421 4.3.2 busy\r\n"}), ("has no mail service", tuple(range(400, 600)), {"greeting": b"554 5.3.2 none\r\n"}),
        ("knows HELO only", (250,), {"EHLO": b"502 what\r\n"}),
        ("says what can't be a reply", (451, 450, 421, 554, 502), {"dot": b"hello?\r\n"}), ("says nothing but 250", (250, 451), {"dot": b"250\r\n"}),
        ("mixes its codes", (451, 450, 421, 554), {"dot": b"250-a\r\n550 b\r\n"}), ("says 354 to the end", tuple(range(400, 600)), {"dot": b"354 more\r\n"}),
        ("says 250 to DATA", tuple(range(400, 600)), {"DATA": b"250 ok\r\n"}), ("says 220 to RCPT", (220, 250, *range(400, 600)), {"RCPT": b"220 ok\r\n"}),
        ("puts a CR in its words", (550, 451), {"RCPT": b"550 5.1.1 a\r250 2.0.0 b\r\n"}), ("puts a LF in its words", (550, 451, 450, 421), {"RCPT": b"550 5.1.1 a\n250 2.0.0 b\r\n"}),
        ("puts a NUL in its words", (550, 451), {"RCPT": b"550 5.1.1 a\0b\r\n"}), ("puts 8 bit and escapes in its words", (550, 451), {"RCPT": b"550 5.1.1 \xff\x1b[2J\x07\r\n"}),
        ("talks 100 KiB in a line", tuple(range(400, 600)), {"RCPT": b"550 " + b"x" * 100000 + b"\r\n"}), ("talks 20,000 lines", tuple(range(400, 600)), {"RCPT": b"550-x\r\n" * 20000 + b"550 y\r\n"}),
        ("says its status twice", (550,), {"RCPT": b"550 4.1.1 class\r\n"}), ("speaks of 600", (451, 450, 421, 554), {"RCPT": b"600 what\r\n"}), ("speaks of 099", (451, 450, 421, 554), {"dot": b"099 what\r\n"}),
        ("closes after 221 too early", (250,), {"QUIT": None})]:
    case(f"a next hop that {name}", heard_from(codes, **say))


@case("a recipient's refusal is its own, and nobody else's mail")
def one_of_three():
    hop = Hop(RCPT=lambda line: b"550 5.1.1 nobody\r\n" if b"bad" in line else b"250 ok\r\n")
    try:
        with Program("relay", "--via", f"127.0.0.1:{hop.port}") as p:
            w = Wire(p)
            w.hello()
            w.say("MAIL FROM:<s@a.test>", 250)
            w.say("RCPT TO:<good@b.test>", 250)
            w.say("RCPT TO:<bad@b.test>", 550)
            w.say("RCPT TO:<fine@b.test>", 250)
            w.text(b"x\r\n")
            w.bye()
        wanted(len(hop.taken), 1, "mails at the next hop")
    finally:
        hop.close()


@case("a client that leaves inside its text leaves nothing at the next hop")
def left_inside():
    hop = Hop()
    try:
        with Program("relay", "--via", f"127.0.0.1:{hop.port}") as p:
            for way in (b"DATA\r\nhello\r\n", b"BDAT 100 LAST\r\nhello\r\n"):
                w = Wire(p)
                w.hello()
                w.envelope()
                w.send(way)
                time.sleep(0.05)
                w.reset()
            time.sleep(0.1)
        wanted(hop.taken, [], "mails at the next hop")
    finally:
        hop.close()


def gone(how):
    """Before the final dot upstream the relay looks whether its sender is still there."""
    def run():
        def slowly(line):
            time.sleep(0.6)
            return b"354 go\r\n"
        hop = Hop(DATA=slowly)
        try:
            with Program("relay", "--via", f"127.0.0.1:{hop.port}") as p:
                w = Wire(p)
                w.hello()
                w.envelope()
                w.say("DATA", 354)
                w.send("hello\r\n.\r\n" + ("QUIT\r\n" if how == "half closed" else ""))
                time.sleep(0.2)
                if how == "half closed":
                    w.half_close()
                    wanted([r.code for r in w.until_end()], [250, 221], "codes")
                else:
                    w.reset() if how == "reset" else w.close()
                    time.sleep(0.8)
            wanted(len(hop.taken), 1 if how == "half closed" else 0, "mails at the next hop")
        finally:
            hop.close()
    return run


for how in ("reset", "half closed"):
    case(f"the sender has {how} while the next hop thinks", gone(how))

OFFERS = [(b"250 hop\r\n", ["BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "BODY=BINARYMIME"], []),
          (b"250-hop\r\n250 8BITMIME\r\n", ["SMTPUTF8", "RET=FULL", "BODY=BINARYMIME"], ["BODY=8BITMIME"]),
          (b"250-hop\r\n250-DSN\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n", ["BODY=BINARYMIME"], ["RET=FULL", "SMTPUTF8", "BODY=8BITMIME"]),
          (b"250-hop\r\n250 BINARYMIME\r\n", ["BODY=BINARYMIME", "SMTPUTF8"], [])]
for number, (answer, never, taken) in enumerate(OFFERS):
    def offered(answer=answer, never=never, taken=taken):
        """The relay offers what its next hop offers, and sends no parameter that was not offered."""
        hop = Hop(EHLO=answer)
        try:
            with Program("relay", "--via", f"127.0.0.1:{hop.port}") as p:
                for parameter in taken + never:
                    w = Wire(p)
                    words = w.hello().text().split("\n")
                    wanted(parameter.split("=")[-1] in words or (parameter.startswith("RET") and "DSN" in words), parameter in taken, f"{parameter} in EHLO")
                    w.say("MAIL FROM:<s@a.test> " + parameter, 250 if parameter in taken else 555, 501, 504, 555)
                    if parameter in taken:
                        w.say("RCPT TO:<r@b.test>", 250)
                        w.text(b"x\r\n")
                    w.bye()
                w = Wire(p)
                w.hello()
                w.envelope()
                w.text(b"8 bit: \xe4\r\n", 250, 554, 550)
                w.bye()
            for line in hop.heard:
                if line.startswith(b"MAIL"):
                    for word in line.split()[2:]:
                        word = word.decode().replace("BODY=8BITMIME", "8BITMIME").replace("RET=FULL", "DSN").split("=")[0]
                        if word not in answer.decode():
                            raise Failed(f"the next hop heard {line!r}, and offered {answer!r}")
        finally:
            hop.close()
    case(f"the relay offers what the next hop offers, {number + 1}", offered)


@case("a next hop with less room than the mail needs")
def less_room():
    hop = Hop(EHLO=b"250-hop\r\n250 SIZE 1000\r\n", MAIL=lambda line: b"552 5.3.4 too big\r\n" if b"SIZE=5000" in line else b"250 ok\r\n")
    try:
        with Program("relay", "--via", f"127.0.0.1:{hop.port}") as p:
            w = Wire(p)
            w.hello()
            if w.say("MAIL FROM:<s@a.test> SIZE=5000", 250, 552).code == 250:
                w.say("RCPT TO:<r@b.test>", 552)
            w.say("RSET", 250)
            w.envelope()
            w.text(b"x" * 5000 + b"\r\n", 250, 552)
            w.bye()
    finally:
        hop.close()


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


@case("a dead next hop is a deferral")
def dead():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))  # not listening
    with Program("relay", "--via", f"127.0.0.1:{s.getsockname()[1]}") as p:
        w = Wire(p)
        w.hello()
        w.say("MAIL FROM:<s@a.test>", 250, 451)
        code = w.say("RCPT TO:<r@b.test>", 250, 451, 450, 421).code
        if code == 250:
            w.say("DATA", 354)
            w.send("x\r\n.\r\n")
            w.expect(451, 450, 421)
        w.say("RSET", 250)
        w.bye()
    s.close()


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
