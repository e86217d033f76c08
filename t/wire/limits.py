"""Limits: at, one below, one above (RFC 5321 4.5.3, RFC 1870)."""
import socket
import time

from harness import SANITIZED, Box, Failed, Program, Wire, case, discard, eventually, healthy, shared, sink, wanted

LIMIT = 1000


def small():
    return shared.get("limited", lambda: Box("--max-size", str(LIMIT)))


def text_of(n, dots=False):
    """A text of n octets, ending with CRLF."""
    if dots:
        return (b".\r\n" * (n // 3 + 1))[:n - n % 3] if n % 3 == 0 else b"x" * (n % 3) + b"\r\n" + b".\r\n" * ((n - n % 3 - 2) // 3) if n >= 5 else None
    return b"s" * (n - 2) + b"\r\n"


case("EHLO says the limit", lambda: _ehlo())


def _ehlo():
    w = Wire(small())
    if f"SIZE {LIMIT}" not in w.say("EHLO c.test", 250).text().split("\n"):
        raise Failed(f"no SIZE {LIMIT}")
    w.bye()


for n, codes in ((0, (250,)), (LIMIT - 1, (250,)), (LIMIT, (250,)), (LIMIT + 1, (552,)), (10 ** 9, (552,)), (10 ** 19, (552,)), (2 ** 64, (552, 501)), (2 ** 64 + 5, (552, 501))):
    def declared(n=n, codes=codes):
        w = Wire(small())
        w.hello()
        w.say(f"MAIL FROM:<s@a.test> SIZE={n}", *codes)
        if codes != (250,):
            w.say("MAIL FROM:<s@a.test>", 250)  # the next MAIL is judged by itself
        w.say("RCPT TO:<r@b.test>", 250)
        w.text(b"x\r\n")
        w.in_step()
    case(f"SIZE={n} where {LIMIT} is the limit", declared)

for n, code in ((2, 250), (LIMIT - 1, 250), (LIMIT, 250), (LIMIT + 1, 552), (LIMIT + 2, 552), (2 * LIMIT, 552), (100 * LIMIT, 552), (2000 * LIMIT, 552)):
    for way in ("DATA", "BDAT", "chunks", "octets"):
        if way == "octets" and n > 3 * LIMIT:
            continue

        def sent(n=n, code=code, way=way):
            w = Wire(small())
            w.hello()
            w.envelope()
            body = text_of(n)
            if way in ("DATA", "octets"):
                w.say("DATA", 354)
                w.send_as("whole" if way == "DATA" else way, body + b".\r\n")
                w.expect(code)
            elif way == "BDAT":
                w.send(b"BDAT %d LAST\r\n" % n + body)
                w.expect(code)
            else:
                rest, refused = body, False
                while rest:
                    chunk, rest = rest[:max(1, n // 7)], rest[max(1, n // 7):]
                    w.send(b"BDAT %d%s\r\n" % (len(chunk), b"" if rest else b" LAST") + chunk)
                    r = w.expect(250, 552, 503, 554)
                    if refused and r.code == 250:
                        raise Failed("taken after a refusal")
                    if r.code == 552:
                        refused = True
                wanted(refused, code == 552, "refused")
            w.envelope()
            w.text(b"after\r\n")
            w.in_step()
            wanted([len(small().text(m)) for m in small().mails(w.name)], ([n] if code == 250 else []) + [7], "sizes")
        case(f"{n} octets by {way} where {LIMIT} is the limit", sent)

for n, code in ((333, 250), (334, 552)):
    def unstuffed(n=n, code=code):
        """The doubled dots are not counted: RFC 1870 6.1 counts the message."""
        w = Wire(small())
        w.hello()
        w.envelope()
        w.say("DATA", 354)
        w.send(b"..\r\n" * n + b".\r\n")
        w.expect(code)
        w.in_step()
    case(f"{n} lines of a dot where {LIMIT} octets are the limit", unstuffed)


@case("a true SIZE, a longer text")
def liar():
    w = Wire(small())
    w.hello()
    w.envelope("FROM:<s@a.test> SIZE=10")
    w.text(text_of(500), 250, 552)  # an estimate only (RFC 1870 6.1)
    w.in_step()


# ---------------------------------------------------------------- command lines

for n in (12, 100, 511, 512):
    def line(n=n):
        """512 octets with CRLF must be taken (RFC 5321 4.5.3.1.4)."""
        w = Wire(discard())
        w.hello()
        w.say("NOOP " + "n" * (n - 7), 250)
        w.say("HELP " + "h" * (n - 7), 214, 211, 504, 501)
        w.in_step()
    case(f"a command line of {n}", line)

for n in (2046, 2047, 2048, 2049, 2050, 2051):
    def edge(n=n):
        """The documented default is 2048, with CRLF."""
        w = Wire(discard())
        w.hello()
        w.say("NOOP " + "n" * (n - 7), 250 if n <= 2048 else 500)
        w.in_step()
    case(f"a command line of {n} where 2048 is the limit", edge)
    def edge_octets(n=n):
        w = Wire(discard())
        w.hello()
        w.send_octets(b"NOOP " + b"n" * (n - 7) + b"\r\n")
        w.expect(250 if n <= 2048 else 500)
        w.in_step()
    case(f"a command line of {n}, octet by octet", edge_octets)

# 64 and 255 octets, and parameters of every extension, in one line (RFC 5321 4.5.3.1, RFC 3461 4.4, 4.2)
@case("the longest MAIL and RCPT that must be known")
def longest():
    w = Wire(sink())
    w.hello()
    domain = ".".join(["d" * 63, "e" * 63, "f" * 60])
    w.say(f"MAIL FROM:<{'l' * 64}@{domain[:189]}> SIZE=00000000000000000001 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=A{'+41' * 33}", 250)
    w.say(f"RCPT TO:<{'l' * 64}@{domain[:189]}> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;{'o' * 493}", 250)
    w.text(b"x\r\n")
    w.in_step()
    m = sink().mails(w.name)[0]
    wanted(m["parameters"]["envid"], "A" * 34, "envid")
    wanted(len(m["recipients"][0]["orcpt"]["address"]), 493, "orcpt")


# ---------------------------------------------------------------- recipients, errors, commands, connections

@case("1000 recipients, and no more")
def recipients():
    w = Wire(sink())
    w.hello()
    w.say("MAIL FROM:<s@a.test>", 250)
    w.send("".join(f"RCPT TO:<r{i}@b.test>\r\n" for i in range(1005)))
    codes = [w.reply().code for _ in range(1005)]
    wanted(codes[:1000], [250] * 1000, "the first 1000")
    if not set(codes[1000:]) <= {452, 552}:
        raise Failed(f"then {codes[1000:]}")
    w.text(b"x\r\n")
    w.envelope()
    w.in_step()
    wanted(sink().mails(w.name)[0]["to"], [f"r{i}@b.test" for i in range(1000)], "recipients")


for name, line in [("unknown", b"FOO"), ("empty", b""), ("too long", b"X" * 5000), ("out of order", b"RCPT TO:<a@b.test>"), ("malformed", b"MAIL FROM:<a b>"),
                   ("with a NUL", b"NOOP\0"), ("with unknown parameters", b"MAIL FROM:<a@b> FOO"), ("without argument", b"EHLO")]:
    for how in ("step by step", "pipelined"):
        def errors(line=line, how=how):
            """10 errors are answered, one more is 421 and the end (the documented default)."""
            w = Wire(discard())
            w.hello()
            if how == "pipelined":
                w.send((line + b"\r\n") * 11 + b"NOOP\r\n" * 3)
            for _ in range(10):
                if how != "pipelined":
                    w.send(line + b"\r\n")
                w.expect(500, 501, 502, 503, 504, 553, 555, 550)
            if how != "pipelined":
                w.send(line + b"\r\n")
            w.expect(421)
            w.at_end()
        case(f"11 commands {name}, {how}", errors)


@case("errors are counted over mails")
def errors_and_mails():
    w = Wire(discard())
    w.hello()
    for _ in range(10):
        w.say("FOO", 500)
        w.envelope()
        w.text(b"x\r\n")
    w.say("FOO", 421)
    w.at_end()


@case("good commands have no such limit")
def good():
    w = Wire(discard())
    w.hello()
    w.send("NOOP\r\nRSET\r\nVRFY x\r\n" * 1000)
    for _ in range(1000):
        w.expect(250), w.expect(250), w.expect(252)
    w.bye()


@case("100,000 commands in a session of the relay, then 421")
def commands():
    with Program("relay", "--via", "127.0.0.1:9") as p:
        w = Wire(p, timeout=60)
        said = 0
        for _ in range(101):
            w.socket.sendall(b"NOOP\r\n" * 1000)
            for _ in range(1000):
                r = w.reply()
                said += 1
                if r.code == 421:
                    if said < 99_000:
                        raise Failed(f"421 after {said}")
                    return
                wanted(r.code, 250, "code")
            w.log.clear()
        raise Failed("no 421")


for limit in (1, 3):
    for mode in ("thread", "process"):
        def connections(limit=limit, mode=mode):
            with Program("sink", "--limit", str(limit), "--mode", mode) as p:
                inside = [Wire(p) for _ in range(limit)]
                for _ in range(3):
                    w = Wire(p, greeting=421)
                    w.at_end()
                for w in inside:
                    w.hello()
                inside.pop().bye()
                def again():
                    w = Wire(p, greeting=None)
                    return w if w.expect(220, 421).code == 220 else None
                w = eventually("a place is free", again)
                w.hello()
                w.envelope()
                w.text(b"x\r\n")
                w.bye()
                if inside:  # dropped without a word
                    inside.pop().reset()
                    eventually("a place is free after a reset", again).bye()
                for w in inside:
                    w.close()
        case(f"--limit {limit}, {mode}", connections)


@case("no limit by default")
def no_limit():
    wires = [Wire(discard()) for _ in range(150)]
    for w in wires:
        w.send("QUIT\r\n")
    for w in wires:
        w.expect(221)


@case("--max-size 0 is none")
def none():
    with Program("sink", "--max-size", "0") as p:
        w = Wire(p)
        r = w.hello()
        sizes = [line for line in r.text().split("\n") if line.startswith("SIZE")]
        if sizes not in ([], ["SIZE"], ["SIZE 0"]):  # RFC 1870 4: no number, or 0
            raise Failed(f"{sizes}")
        w.say("MAIL FROM:<s@a.test> SIZE=9999999999999", 250)
        w.say("RSET", 250)
        w.say("MAIL FROM:<s@a.test> SIZE=99999999999999999999", 250, 552, 501)
        w.say("RSET", 250)
        w.envelope()
        w.text(b"x\r\n")
        w.bye()


for mode in ("thread", "process"):
    def spoke_first(mode=mode):
        """Who is turned away hears it, even if it has spoken already: unread input must not become a reset that eats the 421."""
        with Program("sink", "--limit", "1", "--mode", mode) as p:
            inside = Wire(p)
            for _ in range(10):
                s = socket.create_connection(("127.0.0.1", p.port))
                s.sendall(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\n")
                time.sleep(0.02)
                w = Wire(s, greeting=421)
                w.close()
            inside.bye()
    case(f"421 reaches a client that spoke first, {mode}", spoke_first)


def last_words(name, said, codes):
    def run():
        """The last reply is read by a client that still sends; closing must not destroy it (RFC 793: RST)."""
        for _ in range(5):
            w = Wire(discard())
            w.hello()
            w.send(said + b"NOOP\r\n" * 200)
            time.sleep(0.02)
            heard = [r.code for r in w.until_end()]
            wanted(heard[:len(codes)], codes, "codes")
    case(f"the last words are heard: {name}", run)


last_words("QUIT", b"QUIT\r\n", [221])
last_words("errors", b"FOO\r\n" * 11, [500] * 10 + [421])


for way in ("DATA", "BDAT"):
    def endless(way=way):
        """A refused body is read for its drain only (64 MiB by default), in constant memory."""
        with Program("sink", "--max-size", "1000") as p:
            w = Wire(p)
            w.hello()
            w.envelope()
            if way == "DATA":
                w.say("DATA", 354)
            else:
                w.send("BDAT 500000000 LAST\r\n")
            before, sent = p.rss(), 0
            block = b"QUIT\r\n" * 20000
            try:
                while sent < 200 << 20:
                    w.socket.sendall(block)
                    sent += len(block)
            except OSError:
                pass
            if sent >= 200 << 20:
                raise Failed("200 MiB of a refused body were read")
            if p.rss() > before + (8 << 20) and not SANITIZED:
                raise Failed("it grew")
            w.close()
            healthy(p.port)
    case(f"a refused body without end, {way}", endless)
