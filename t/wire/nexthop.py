"""Relay against next hops that are old, small, broken or lying: nothing lost, nothing doubled, nothing injected (RELIABILITY 3, 5, 8)."""
import re
import socket
import threading
import time

from harness import SANITIZED, Box, Failed, Program, Wire, case, stuffed, wanted
from transparency import STYLES, body, without_received


class Then(bytes):
    """An answer, and then the connection is closed."""


class Hop:
    """A next hop that says what it is told to, a thread for each connection. What it took is in `taken`: (from, recipients, text)."""

    def __init__(self, **say):
        self.say = {"greeting": b"220 hop\r\n", "EHLO": b"250-hop\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n", "HELO": b"250 hop\r\n", "MAIL": b"250 ok\r\n",
                    "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n", "dot": b"250 taken\r\n", "RSET": b"250 ok\r\n", "QUIT": b"221 bye\r\n", "NOOP": b"250 ok\r\n"}
        self.say.update(say)
        self.heard = []
        self.taken = []
        self.open = set()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def serve(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            c.settimeout(20)
            self.open.add(c)
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        try:
            self.talk(c)
        except OSError:
            pass
        self.open.discard(c)
        c.close()

    def answer(self, key, line=b""):
        said = self.say.get(key, b"500 what\r\n")
        return said(line) if callable(said) else said

    def talk(self, c):
        f = c.makefile("rb")
        c.sendall(self.answer("greeting"))
        mail, to = None, []
        for line in f:
            self.heard.append(line)
            verb = line[:4].upper().strip().decode("latin-1")
            said = self.answer(verb, line)
            if said is None:
                return
            good = said[:1] == b"2"
            if verb in ("EHLO", "HELO", "RSET"):
                mail, to = None, []
            elif verb == "MAIL" and good:
                mail, to = line.split(b">")[0][11:].decode("utf-8", "replace"), []
            elif verb == "RCPT" and good:
                to.append(line.split(b">")[0][9:].decode("utf-8", "replace"))
            c.sendall(said)
            if isinstance(said, Then) or verb == "QUIT":
                return
            if verb == "DATA" and said.startswith(b"354"):
                lines = []
                for line in f:
                    if line == b".\r\n":
                        break
                    lines.append(line)
                else:
                    return
                said = self.answer("dot")
                self.taken.append((mail, to, b"".join(lines)))
                mail, to = None, []
                if said is None:
                    return
                c.sendall(said)
                if isinstance(said, Then):
                    return

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        self.thread.join(5)
        for c in list(self.open):
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def via(hop, *arguments):
    return Program("relay", "--via", f"127.0.0.1:{hop.port}", "--hostname", "relay.test", *arguments)


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
        ("is cut off inside 250", (451, 450, 421), {"dot": Then(b"250 2.0.0 tak")}), ("is cut off in the middle of 250", (451, 450, 421), {"dot": Then(b"25")}),
        ("is cut off between lines of 250", (451, 450, 421), {"dot": Then(b"250-2.0.0 taken\r\n")}), ("ends 250 with LF", (250, 451), {"dot": b"250 2.0.0 taken\n"}),
        ("says 250 and goes", (250,), {"dot": Then(b"250 2.0.0 taken\r\n")}), ("says 251 to RCPT", (250, 251), {"RCPT": b"251 2.1.5 forwarded\r\n"}),
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



# ---------------------------------------------------------------- transactions

def transactions(name, talk, want, **say):
    """A session with the relay; then what the next hop took of it."""
    def run():
        with Hop(**say) as hop, via(hop) as p:
            w = Wire(p)
            w.hello()
            talk(w)
            wanted([(mail, to) for mail, to, _ in hop.taken], want, "mails at the next hop")
    case(f"at the next hop: {name}", run)


def steps(*said):
    """Pairs of what is said and the codes that may answer it."""
    def talk(w):
        for line, codes in said:
            w.send(line if isinstance(line, bytes) else line.encode() + b"\r\n")
            w.expect(*(codes if isinstance(codes, tuple) else (codes,)))
    return talk


A, B_, X = ("MAIL FROM:<a@a.test>", 250), ("MAIL FROM:<b@a.test>", 250), (b"DATA\r\n", 354)
R1, R2, END, BYE = ("RCPT TO:<r1@b.test>", 250), ("RCPT TO:<r2@b.test>", 250), (b"x\r\n.\r\n", 250), ("QUIT", 221)
transactions("RSET forgets its recipients", steps(A, R1, ("RSET", 250), B_, R2, X, END, BYE), [("b@a.test", ["r2@b.test"])])
transactions("EHLO forgets its recipients", steps(A, R1, ("HELO c.test", 250), B_, R2, X, END, BYE), [("b@a.test", ["r2@b.test"])])
transactions("RSET without recipients", steps(A, ("RSET", 250), B_, R2, X, END, BYE), [("b@a.test", ["r2@b.test"])])
transactions("a refused text is not sent on", steps(A, R1, X, (b"a\nb\r\n.\r\n", (550, 554)), B_, R2, X, END, BYE), [("b@a.test", ["r2@b.test"])])
transactions("a chunk given up", steps(A, R1, (b"BDAT 3\r\nabc", 250), ("RSET", 250), B_, R2, X, END, BYE), [("b@a.test", ["r2@b.test"])])
transactions("three mails", steps(*[A, R1, X, END, B_, R1, R2, X, END, A, R2, X, END, BYE]),
             [("a@a.test", ["r1@b.test"]), ("b@a.test", ["r1@b.test", "r2@b.test"]), ("a@a.test", ["r2@b.test"])])
transactions("commands out of order in between", steps(A, R1, A[:1] + (503,), ("NOOP", 250), ("VRFY x", 252), ("FOO", 500), R2, X, END, BYE), [("a@a.test", ["r1@b.test", "r2@b.test"])])
transactions("one recipient twice", steps(A, R1, R1, X, END, BYE), [("a@a.test", ["r1@b.test", "r1@b.test"])])
transactions("a refused recipient is not among them", steps(A, R1, ("RCPT TO:<bad@b.test>", 550), R2, X, END, BYE), [("a@a.test", ["r1@b.test", "r2@b.test"])],
             RCPT=lambda line: b"550 5.1.1 no\r\n" if b"bad" in line else b"250 ok\r\n")
transactions("all recipients refused", steps(A, ("RCPT TO:<bad@b.test>", 550), ("DATA", (503, 554)), ("RSET", 250), B_, R2, X, END, BYE), [("b@a.test", ["r2@b.test"])],
             RCPT=lambda line: b"550 5.1.1 no\r\n" if b"bad" in line else b"250 ok\r\n")
transactions("the next hop says 421 and goes at RCPT", steps(A, ("RCPT TO:<r1@b.test>", (421, 450, 451)), ("RSET", 250), BYE), [], RCPT=Then(b"421 4.3.2 going\r\n"))
transactions("the next hop says 421 and goes at DATA", steps(A, R1, X, (b"x\r\n.\r\n", (421, 450, 451)), ("NOOP", 250), BYE), [], DATA=Then(b"421 4.3.2 going\r\n"))
transactions("a deferred text, and then another mail", steps(A, R1, X, (b"x\r\n.\r\n", 451), B_, R2, X, (b"x\r\n.\r\n", 451), BYE),
             [("a@a.test", ["r1@b.test"]), ("b@a.test", ["r2@b.test"])], dot=b"451 4.3.0 later\r\n")


@case("the next hop goes after RCPT: tried once more or deferred, never lost")
def goes_after_rcpt():
    with Hop(RCPT=Then(b"250 ok\r\n")) as hop, via(hop) as p:
        w = Wire(p)
        w.hello()
        w.envelope()
        w.say("DATA", 354)
        w.send("x\r\n.\r\n")
        w.expect(451, 450, 421)
        w.close()
        wanted(hop.taken, [], "mails")


@case("an answer that came too early is not the answer to the text")
def early_answer():
    """354 and, unasked, 250 behind it: the text was refused later, and its sender must not hear 250."""
    with Hop(DATA=b"354 go\r\n250 2.0.0 early\r\n", dot=b"554 5.6.0 refused\r\n") as hop, via(hop) as p:
        w = Wire(p)
        w.hello()
        w.envelope()
        w.say("DATA", 354)
        w.send("x\r\n.\r\n")
        w.expect(451, 450, 421, 554)


@case("an answer too many is not the next one's")
def answer_too_many():
    """Two answers to each RCPT: the third recipient is refused, and must not be accepted by the first one's second answer."""
    with Hop(RCPT=lambda line: b"550 5.1.1 no\r\n" if b"r3" in line else b"250 ok\r\n250 ok\r\n") as hop, via(hop) as p:
        w = Wire(p)
        w.hello()
        w.say("MAIL FROM:<s@a.test>", 250)
        codes = [w.say(f"RCPT TO:<r{i}@b.test>", 250, 550, 451, 450, 421).code for i in (1, 2, 3)]
        if codes[2] == 250:
            w.say("DATA", 354, 451, 554)
            w.send("x\r\n.\r\n")
            w.expect(451, 450, 421, 550, 554)  # at the latest here
        w.close()
        for _, to, _ in hop.taken:
            raise Failed(f"delivered to {to} after codes {codes}")


for style in STYLES:
    def by_data(style=style):
        """A next hop without CHUNKING hears DATA: stuffed rightly, and nothing else changed."""
        with Hop() as hop, via(hop) as p:
            w = Wire(p)
            w.hello()
            texts = [b"X: y\r\n" + body(i, style) for i in range(4)]  # its first line must not fold the Received field
            for i, text in enumerate(texts):
                w.envelope()
                if i % 2:
                    w.text(text)
                else:
                    w.send(b"BDAT %d LAST\r\n" % len(text) + text)
                    w.expect(250)
            w.bye()
            wanted(len(hop.taken), 4, "mails")
            for (_, _, sent), text in zip(hop.taken, texts):
                field = without_received(sent)[1]
                wanted(sent[len(field):], stuffed(text), "text as it was sent")
    case(f"{style} by DATA to a next hop without CHUNKING", by_data)

for text in (b"abc", b"", b".", b"a\r\n.", b"a\r\n..\r\nb", b"\r\n"):
    def unended(text=text):
        with Hop() as hop, via(hop) as p:
            w = Wire(p)
            w.hello()
            w.envelope()
            w.send(b"BDAT %d LAST\r\n" % len(text) + text)
            w.expect(250)
            w.bye()
            (_, _, sent), = hop.taken
            field = without_received(sent)[1]
            want = stuffed(text if text.endswith(b"\r\n") or not text else text + b"\r\n")
            wanted(sent[len(field):], want, "text as it was sent")
    case(f"{text!r} by DATA to a next hop without CHUNKING", unended)

for name, parameter, first, later in [
        ("BINARYMIME", "BODY=BINARYMIME", b"250-hop\r\n250-CHUNKING\r\n250 BINARYMIME\r\n", b"250-hop\r\n250 8BITMIME\r\n"),
        ("SMTPUTF8", "SMTPUTF8", b"250-hop\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n", b"250-hop\r\n250 8BITMIME\r\n")]:
    def changes(parameter=parameter, first=first, later=later):
        """It offered it when asked, and no more when the mail comes: refused or deferred, not sent as something else."""
        count = []

        def ehlo(line):
            count.append(1)
            return first if len(count) == 1 else later
        with Hop(EHLO=ehlo) as hop, via(hop) as p:
            w = Wire(p)
            w.hello()
            w.say("MAIL FROM:<\u00e4@a.test> SMTPUTF8" if parameter == "SMTPUTF8" else "MAIL FROM:<s@a.test> " + parameter, 250)
            codes = tuple(range(400, 600))
            if w.say("RCPT TO:<r@b.test>", 250, *codes).code == 250:
                w.send(b"BDAT 5 LAST\r\na\nb\xe4c")
                w.expect(*codes)
            w.close()
            wanted(hop.taken, [], "mails")
    case(f"a next hop that no longer offers {name}", changes)


@case("a header of 20 MiB is no burden")
def large_header():
    with Hop() as hop, via(hop) as p:
        w = Wire(p, timeout=30)
        w.hello()
        for block in (b"X-Y: z\r\n", b"X-Y: z\r\n folded\r\n", b"\tfolded only\r\n", b":\r\n", b"no colon at all\r\n", b"Received : x\r\n"):
            w.envelope()
            w.say("DATA", 354)
            began = time.monotonic()
            w.send(block * ((20 << 20) // len(block)) + b".\r\n")
            w.expect(250, 554)
            if time.monotonic() - began > 10 and not SANITIZED:
                raise Failed(f"{block!r}: {time.monotonic() - began:.1f} s")
            hop.taken.clear()
        w.bye()


@case("8 clients at once: each mail once, whole, to its own recipient")
def at_once():
    far = Box()
    with Program("relay", "--via", f"127.0.0.1:{far.port}") as p:
        sent, errors = {}, []

        def client(k):
            try:
                w = Wire(p)
                w.hello()
                for i in range(12):
                    name = f"{k}.{i}"
                    text = body(k * 100 + i, STYLES[(k + i) % len(STYLES)]) if (k + i) % 7 else b"z\r\n"
                    w.envelope(f"FROM:<s{name}@a.test>", f"TO:<r{name}@b.test>", f"TO:<q{name}@b.test>")
                    w.text(b"X-Name: " + name.encode() + b"\r\n" + text)
                    sent[f"s{name}@a.test"] = ([f"r{name}@b.test", f"q{name}@b.test"], b"X-Name: " + name.encode() + b"\r\n" + text)
                w.bye()
            except Exception as e:
                errors.append(f"{k}: {e}")
        threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        wanted(errors, [], "errors")
    far.program.stop()
    mails = far.mails()
    wanted(len(mails), 96, "mails")
    for m in mails:
        to, text = sent.pop(m["from"])
        wanted(m["to"], to, "to")
        wanted(without_received(far.text(m))[0], text, "text")


@case("through two relays")
def two():
    far = Box()
    with Program("relay", "--via", f"127.0.0.1:{far.port}", "--hostname", "second.test") as second:
        with Program("relay", "--via", f"127.0.0.1:{second.port}", "--hostname", "first.test") as first:
            w = Wire(first)
            w.hello()
            text = b"Subject: x\r\n\r\n" + body(5, "dots")
            w.envelope()
            w.text(text)
            w.bye()
    far.program.stop()
    m, = far.mails()
    if not far.text(m).endswith(text):
        raise Failed("damaged")
    head = far.text(m)[:-len(text)]
    wanted(len(re.findall(rb"(?m)^Received: ", head)), 2, "Received fields")
    if head.index(b"second.test") > head.index(b"first.test") and b"from first.test" not in head:
        raise Failed(f"the newest is not on top: {head!r}")


@case("a next hop that says nothing holds up its own client only, and EHLO not for long")
def black_hole():
    silent = socket.create_server(("127.0.0.1", 0), backlog=64)  # connected by the kernel, never greeted
    p = Program("relay", "--via", f"127.0.0.1:{silent.getsockname()[1]}")
    try:
        wires = [Wire(p, timeout=25) for _ in range(6)]
        began = time.monotonic()
        for w in wires:
            w.send("EHLO c.test\r\n")
        for w in wires:
            w.expect(250, 421, 451)
        if time.monotonic() - began > 20:
            raise Failed(f"6 clients waited {time.monotonic() - began:.0f} s for the answer to EHLO")
        wires[0].say("MAIL FROM:<s@a.test>", 250, 451)
        wires[0].send("RCPT TO:<r@b.test>\r\n")
        wires[1].say("NOOP", 250)
    finally:
        p.kill()
        silent.close()
