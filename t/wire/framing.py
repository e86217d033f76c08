"""What ends a line, a text, a chunk; and that nothing else does (RFC 5321 2.3.8, 4.1.1.4, 4.5.2, 4.5.3.1, RFC 3030)."""
import time

from harness import Failed, Wire, case, healthy, shared, show, sink, stuffed, wanted, Box, Program

SMUGGLED = b"MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<victim@b.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"


def cleaned(w, codes=(250, 550, 554, 501, 500)):
    """One answer for one text, nothing of it run."""
    r = w.expect(*codes)
    w.in_step()
    mails = sink().mails(w.name)
    if any(m["from"] != "s@a.test" for m in mails):
        raise Failed(f"smuggled: {[m['from'] for m in mails]}")
    if r.code != 250:
        wanted(len(mails), 0, "mails after a refusal")
        return None
    wanted(len(mails), 1, "mails")
    return sink().text(mails[0])


# ---------------------------------------------------------------- false ends of a text

FALSE_ENDS = {
    "LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CRLF.LF": b"\r\n.\n", "CR.CR": b"\r.\r", "CR.CRLF": b"\r.\r\n", "CRLF.CR": b"\r\n.\r",
    "LF.CR": b"\n.\r", "CR.LF": b"\r.\n", "CRLF.CRCRLF": b"\r\n.\r\r\n", "LF.CRCRLF": b"\n.\r\r\n", "CRLF.LFCR": b"\r\n.\n\r", "LFCR.LFCR": b"\n\r.\n\r",
    "LFCR.CRLF": b"\n\r.\r\n", "CRLF.NULCRLF": b"\r\n.\0\r\n", "CRLFNUL.CRLF": b"\r\n\0.\r\n", "CRLF.CRNULLF": b"\r\n.\r\0\n", "CRNULLF.CRLF": b"\r\0\n.\r\n",
    "LFLF.LFLF": b"\n\n.\n\n", "CRCR.CRCR": b"\r\r.\r\r", "CRLF. CRLF": b"\r\n. \r\n", "CRLF .CRLF": b"\r\n .\r\n", "CRLF.TABCRLF": b"\r\n.\t\r\n",
    "CRLF..CRLF": b"\r\n..\r\n", "CRLF...CRLF": b"\r\n...\r\n", "FF.FF": b"\x0c.\x0c", "VT.VT": b"\x0b.\x0b", "NEL.NEL": b"\x85.\x85",
    "UTF-8 NEL.NEL": b"\xc2\x85.\xc2\x85", "UTF-8 LS.LS": b"\xe2\x80\xa8.\xe2\x80\xa8", "CRLF.(8th bit)CRLF": b"\r\n\xae\r\n",
    "CRLF(8th bit).CRLF": b"\x8d\x8a.\x8d\x8a", "full-width .": "\r\n\uff0e\r\n".encode(), "over-long .": b"\r\n\xc0\xae\r\n", "NUL.NUL": b"\0.\0",
    "CRLF.LFLF": b"\r\n.\n\n", "CRLF.LFCRLF": b"\r\n.\n\r\n", "RS.RS": b"\x1e.\x1e", "IAC": b"\r\n\xff\xf4.\r\n", "BS": b"\r\nx\x08.\r\n",
}
for name, end in FALSE_ENDS.items():
    lone = end.replace(b"\r\n", b"")
    bare = b"\r" in lone or b"\n" in lone
    for how in ("whole", "octets", len(name)):
        def false_end(end=end, bare=bare, how=how):
            w = Wire(sink())
            w.hello()
            w.envelope()
            w.say("DATA", 354)
            body = b"Subject: x\r\n\r\nbefore" + end + SMUGGLED
            w.send_as(how, body + b".\r\n")
            text = cleaned(w)
            if text is not None:
                want = body.replace(b"\r\n.", b"\r\n")  # only the real dots are undone
                if bare:  # kept as it is, or each made a line end
                    if text != want and b"smuggled@evil" not in text:
                        raise Failed(f"a part is missing: {show(text)}")
                else:
                    wanted(text, want, "text")
            elif not bare:
                raise Failed("a text without a bare CR or LF was refused")
        case(f"{name} ends no text, {how if isinstance(how, str) else 'cut'}", false_end)

for name, end in {"LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CR.CRLF": b"\r.\r\n", "CRLF.CR": b"\r\n.\r", "CRLF.LF": b"\r\n.\n"}.items():
    def waits(end=end):
        """After a false end, and silence, there is no reply: the server waits for the rest."""
        w = Wire(sink())
        w.hello()
        w.envelope()
        w.say("DATA", 354)
        w.send(b"x" + end)
        w.nothing_more(0.3)
        w.send(b"\r\n.\r\n")
        cleaned(w)
    case(f"nothing is answered after {name}", waits)


@case("CRCRLF.CRLF ends the text, with its bare CR")
def doubled_cr():
    w = Wire(sink())
    w.hello()
    w.envelope()
    w.say("DATA", 354)
    w.send(b"x\r\r\n.\r\n")
    text = cleaned(w)
    if text not in (None, b"x\r\r\n", b"x\r\n\r\n"):
        raise Failed(f"text {show(text)}")


@case("a text that begins with the dot is empty")
def only_dot():
    w = Wire(sink())
    w.hello()
    w.envelope()
    w.say("DATA", 354)
    w.send(b".\r\n")
    wanted(cleaned(w), b"", "text")


@case("a text refused for its line ends is refused once, and the next one not")
def refused_once():
    w = Wire(sink())
    w.hello()
    for body, codes in [(b"a\nb\r\n", (554, 550)), (b"good\r\n", (250,)), (b"a\rb\r\n", (554, 550)), (b"good\r\n", (250,))]:
        w.envelope()
        w.say("DATA", 354)
        w.send(body + b".\r\n")
        w.expect(*codes)
    w.in_step()
    wanted([sink().text(m) for m in sink().mails(w.name)], [b"good\r\n"] * 2, "texts")


# ---------------------------------------------------------------- every cut of one transaction

DIALOGUE = b"MAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n..a\r\n..\r\n\r\nb.\r\n...\r\n.\r\nRSET\r\n"
WANT = b".a\r\n.\r\n\r\nb.\r\n..\r\n"
for part in range(4):
    def every_cut(part=part):
        """Two segments, cut at each octet; then three, at each line end."""
        w = Wire(sink())
        w.hello()
        cuts = [c for c in range(1, len(DIALOGUE)) if c % 4 == part]
        for cut in cuts:
            w.send(DIALOGUE[:cut])
            time.sleep(0.001)
            w.send(DIALOGUE[cut:])
            wanted([w.reply().code for _ in range(5)], [250, 250, 354, 250, 250], f"codes, cut at {cut}")
        w.in_step()
        mails = sink().mails(w.name)
        wanted(len(mails), len(cuts), "mails")
        for m in mails:
            wanted(sink().text(m), WANT, "text")
    case(f"two segments cut anywhere, {part + 1} of 4", every_cut)

# The end of a text at each place of a reader's buffer.
for size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 1 << 20):
    def around(size=size):
        w = Wire(sink())
        w.hello()
        bodies = []
        for delta in range(-8, 9):
            head = b"MAIL FROM:<s@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\n"
            fill = size + delta - len(head)
            lines = (b"l" * 76 + b"\r\n") * (fill // 78 + 1)
            body = lines[:fill - 2] + b"\r\n" if fill >= 2 else b""
            body = body[:-3] + b"x\r\n" if body.endswith(b"\r\r\n") else body
            w.send(head + stuffed(body) + b".\r\nNOOP\r\n")
            bodies.append(body)
            wanted([w.reply().code for _ in range(5)], [250, 250, 354, 250, 250], "codes")
        w.bye()
        for m, body in zip(sink().mails(w.name), bodies):
            wanted(sink().text(m), body, "text")
    case(f"a text's end around octet {size}", around)
    def dots(size=size):
        """A doubled dot, and CRLF, on the edge of a buffer."""
        w = Wire(sink())
        w.hello()
        bodies = []
        for delta in range(-4, 5):
            body = b"d" * (size + delta - 2) + b"\r\n.\r\n..\r\nend\r\n"
            w.envelope()
            w.say("DATA", 354)
            w.send(stuffed(body) + b".\r\n")
            w.expect(250)
            bodies.append(body)
        w.bye()
        for m, body in zip(sink().mails(w.name), bodies):
            wanted(sink().text(m), body, "text")
    case(f"dots around octet {size}", dots)

# ---------------------------------------------------------------- dots (RFC 5321 4.5.2)

for name, sent, want in [
        ("..", b"..\r\n", b".\r\n"), ("...", b"...\r\n", b"..\r\n"), (".x", b".x\r\n", b"x\r\n"), ("..x", b"..x\r\n", b".x\r\n"),
        ("x.", b"x.\r\n", b"x.\r\n"), ("x..", b"x..\r\n", b"x..\r\n"), (". behind text", b"a\r\n..\r\n", b"a\r\n.\r\n"),
        ("lines of dots", b"..\r\n" * 50, b".\r\n" * 50), (".. then command", b"..\r\nQUIT\r\n", b".\r\nQUIT\r\n"),
        ("blank lines", b"\r\n\r\n\r\n", b"\r\n\r\n\r\n"), (".. at the end", b"a\r\n\r\n..\r\n", b"a\r\n\r\n.\r\n"),
        (".  ", b".  \r\n", b"  \r\n"), ("..My bRain hUrts!", b"..My bRain hUrts!\r\n", b".My bRain hUrts!\r\n"),
        ("many dots", b"." * 1000 + b"\r\n", b"." * 999 + b"\r\n")]:
    for how in ("whole", "octets"):
        def dot(sent=sent, want=want, how=how):
            w = Wire(sink())
            w.hello()
            w.envelope()
            w.say("DATA", 354)
            w.send_as(how, sent + b".\r\n")
            wanted(cleaned(w, (250,)), want, "text")
        case(f"dots: {name}, {how}", dot)

# ---------------------------------------------------------------- command lines

for name, octets in [("LF", b"NOOP\nQUIT\r\n"), ("CR", b"NOOP\rQUIT\r\n"), ("NUL", b"NOOP\0QUIT\r\n"), ("LFCR", b"NOOP\n\rQUIT\r\n"), ("CRNULLF", b"NOOP\r\0\nQUIT\r\n"),
                     ("LF in an argument", b"NOOP x\nQUIT\r\n"), ("CR in an argument", b"NOOP x\rQUIT\r\n"), ("CRCR", b"NOOP\r\rQUIT\r\n"), ("VT", b"NOOP\x0bQUIT\r\n"),
                     ("FF", b"NOOP\x0cQUIT\r\n"), ("NEL", b"NOOP\x85QUIT\r\n"), ("CRCRLF", b"NOOP\r\r\n"), ("LFLF", b"QUIT\n\n\r\n"), ("a trailing LF", b"QUIT\n\r\n"),
                     ("a leading LF", b"\nQUIT\r\n"), ("a leading CR", b"\rQUIT\r\n"), ("a leading NUL", b"\0QUIT\r\n"), ("IAC", b"\xff\xf4\xff\xfd\x06QUIT\r\n"),
                     ("an escape", b"\x1b[AQUIT\r\n"), ("8 bit", b"\xd1UIT\r\n"), ("a BOM", b"\xef\xbb\xbfQUIT\r\n")]:
    for how in ("whole", "octets"):
        def line(octets=octets, how=how):
            """One line, whatever is in it: one reply, and no QUIT."""
            w = Wire(sink())
            w.hello()
            w.send_as(how, octets)
            w.expect(250, 500, 501, 502, 554)
            w.in_step()
        case(f"{name} ends no command, {how}", line)

for name, octets in [("LF", b"NOOP\n"), ("CR", b"NOOP\r"), ("LFLF", b"NOOP\n\n")]:
    def silent(octets=octets):
        w = Wire(sink())
        w.hello()
        w.send(octets)
        w.nothing_more(0.3)
        w.send(b"\r\n")
        w.expect(500, 501, 250)
        w.in_step()
    case(f"nothing is answered to a command that ends in {name}", silent)

for name, octets in [("LF in MAIL", b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n"), ("LF in EHLO", b"EHLO a\nMAIL FROM:<a@b>\r\n"), ("CR in RSET", b"RSET\rMAIL FROM:<a@b>\r\n"),
                     ("LF in VRFY", b"VRFY a\nMAIL FROM:<a@b>\r\n"), ("LF in a parameter", b"MAIL FROM:<a@b> SIZE=1\nRCPT TO:<a@b>\r\n")]:
    def inside(octets=octets):
        w = Wire(sink())
        w.hello()
        w.send(octets)
        w.expect(500, 501, 502, 553, 554, 555)
        w.say("RCPT TO:<r@b.test>", 503)
        w.envelope()
        w.in_step()
    case(f"{name} is refused as a whole", inside)

for n in (513, 1000, 2000, 2040, 2046, 2047, 2048, 2049, 2050, 2060, 4090, 4095, 4096, 4097, 4100, 8191, 8192, 8193, 16383, 16384, 16385, 32768, 65534, 65535, 65536,
          65537, 131072, 1 << 20, 5 << 20):
    def tail(n=n):
        """However long a line, it is one: its tail is no command."""
        w = Wire(sink())
        w.hello()
        for octets in (b"X" * n + b"QUIT\r\n", b"X" * n + b" QUIT\r\n", b"NOOP " + b"x" * n + b"\nQUIT\r\n", b"X" * (n - 1) + b"\rQUIT\r\n"):
            w.send(octets)
            w.expect(500, 501, 250)
        w.say("NOOP", 250)
        w.in_step()
    case(f"the tail of a line of {n}", tail)
    if n <= 70000:
        def crlf(n=n):
            w = Wire(sink())
            w.hello()
            for delta in (-2, -1, 0, 1):
                line = b"X" * (n + delta)
                w.send(line + b"\r")
                time.sleep(0.002)
                w.send(b"\nNOOP\r\n")
                w.expect(500)
                w.expect(250)
            w.in_step()
        case(f"CRLF cut behind a line of {n}", crlf)


@case("an over-long line is answered in time, and not kept")
def not_kept():
    p = shared.get("long lines", lambda: Program("sink", "--hostname", "mx.test"))
    w = Wire(p)
    w.hello()
    before = p.peak()
    for _ in range(64):
        w.send(b"X" * (1 << 20))
    w.send(b"\r\n")
    w.expect(500)
    if p.peak() - before > 8 << 20:
        raise Failed(f"it grew by {(p.peak() - before) >> 20} MiB")
    w.in_step()


# 998 octets and CRLF must be taken (RFC 5321 4.5.3.1.6); longer ones too, whole.
for n in (998, 999, 1000, 1001, 2048, 4096, 65535, 65536, 65537, 1 << 20, 10 << 20):
    def long_line(n=n):
        w = Wire(sink())
        w.hello()
        w.envelope()
        w.say("DATA", 354)
        body = b"y" * n + b"\r\nend\r\n"
        w.send(body + b".\r\n")
        wanted(cleaned(w, (250,)), body, "text")
    case(f"a line of {n} in a text", long_line)

# ---------------------------------------------------------------- text after refusals

def small():
    return shared.get("small", lambda: Box("--max-size", "1000"))


for how in ("whole", "octets", 3):
    def too_much(how=how):
        """What is too long is read to its real end, and not run."""
        w = Wire(small())
        w.hello()
        w.envelope()
        w.say("DATA", 354)
        w.send_as(how, (b"z" * 70 + b"\r\n") * 20 + b"QUIT\r\n" + SMUGGLED + b"..\r\n" + SMUGGLED + b"\n.\nQUIT\r\n.\r\n")
        w.expect(552)
        w.in_step()
        wanted(small().mails(w.name), [], "mails")
    case(f"commands behind the limit of a text, {how if isinstance(how, str) else 'cut'}", too_much)
    def too_much_chunk(how=how):
        w = Wire(small())
        w.hello()
        w.envelope()
        chunk = (b"QUIT\r\n" * 300)
        w.send_as(how, b"BDAT %d\r\n" % len(chunk) + chunk)
        w.expect(552)
        w.send_as(how, b"BDAT %d\r\n" % len(chunk) + chunk)
        w.expect(503, 552, 554)
        w.send_as(how, b"BDAT 6 LAST\r\nQUIT\r\n")
        w.expect(503, 552, 554)
        w.in_step()
        wanted(small().mails(w.name), [], "mails")
    case(f"commands behind the limit of chunks, {how if isinstance(how, str) else 'cut'}", too_much_chunk)


@case("a refused DATA, its text sent all the same, delivers nothing")
def refused_data():
    """A client that does not wait for 354 breaks the protocol; whatever is answered, no mail comes of it but by its own commands."""
    w = Wire(sink())
    w.hello()
    w.say("MAIL FROM:<s@a.test>", 250)
    w.send(b"DATA\r\nSubject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    w.until_end()
    wanted(sink().mails(w.name), [], "mails")


# ---------------------------------------------------------------- BDAT

for size in ("1000000000000", "67108865", "4294967296", "4294967297", "9223372036854775807", "9223372036854775808", "18446744073709551615",
             "18446744073709551616", "18446744073709551617", "18446744073709551622", "99999999999999999999999999", "340282366920938463463374607431768211462"):
    for last in ("", " LAST"):
        def huge(size=size, last=last):
            """Not read as a small number, and its octets are no commands; the server may give up reading them."""
            w = Wire(sink())
            w.hello()
            w.envelope()
            w.send(f"BDAT {size}{last}\r\nNOOP\r\nNOOP\r\nRSET\r\n".encode() + SMUGGLED)
            w.half_close()
            for r in w.until_end():
                if r.code < 400:
                    raise Failed(f"octets of the chunk were run: {r!r}")
            wanted(sink().mails(w.name), [], "mails")
        case(f"BDAT {size}{last}", huge)

for argument in ("", " ", " x", " -1", " -1 LAST", " +1", " 1x", " 0x1", " 1.0", " 1 LASTX", " 1 FOO", " 1 LAST LAST", " LAST", " LAST 1", " 1,LAST", " 1 -LAST",
                 " \u0661", " 1\x00", " 1\tLAST", " 1e0", " --1", " 1 1"):
    def wrong(argument=argument):
        """A size that can't be read: refused, and no mail; whether the connection goes on is open."""
        w = Wire(sink())
        w.hello()
        w.envelope()
        w.send(b"BDAT" + argument.encode() + b"\r\n")
        r = w.expect(501, 500, 421, 554, 503)
        if r.code != 421:
            w.half_close()
            w.until_end()
        wanted(sink().mails(w.name), [], "mails")
        healthy(sink().port)
    case(f"BDAT{show(argument.encode())!r} is a syntax error", wrong)

for lost in (0, 1, 50, 99):
    for last in ("", " LAST"):
        for end in ("half-closed", "reset", "closed"):
            def cut(lost=lost, last=last, end=end):
                """A connection lost inside a chunk: nothing is delivered (RELIABILITY 2)."""
                w = Wire(sink())
                w.hello()
                w.envelope()
                w.send(f"BDAT 100{last}\r\n".encode() + b"c" * lost)
                if end == "reset":
                    time.sleep(0.02)
                    w.reset()
                elif end == "closed":
                    w.close()
                else:
                    w.half_close()
                    if any(r.code < 400 for r in w.until_end()):
                        raise Failed("the cut chunk was accepted")
                time.sleep(0.05)
                wanted(sink().mails(w.name), [], "mails")
            case(f"lost after {lost} of BDAT 100{last}, {end}", cut)

for said in (b"", b"x", b"x\r\n", b"x\r\n.", b"x\r\n.\r", b"x\r\n.\n", b".", b".\r", b"x\n.\n", b"x\r\n..\r\n"):
    for end in ("half-closed", "reset"):
        def lost_text(said=said, end=end):
            """A connection lost inside a text."""
            w = Wire(sink())
            w.hello()
            w.envelope()
            w.say("DATA", 354)
            w.send(said) if said else None
            if end == "reset":
                time.sleep(0.02)
                w.reset()
            else:
                w.half_close()
                if any(r.code < 400 for r in w.until_end()):
                    raise Failed("the cut text was accepted")
            time.sleep(0.05)
            wanted(sink().mails(w.name), [], "mails")
        case(f"lost after {show(said)!r} of a text, {end}", lost_text)


def chunked(name, chunks, want, mail="FROM:<s@a.test>", codes=(250,)):
    for how in ("whole", "octets", "pipelined"):
        def run(how=how):
            w = Wire(sink())
            w.hello()
            w.envelope(mail)
            commands = [b"BDAT %d%s\r\n" % (len(c), b" LAST" if i == len(chunks) - 1 else b"") + c for i, c in enumerate(chunks)]
            if how == "pipelined":
                w.send(b"".join(commands))
            for i, c in enumerate(commands):
                if how != "pipelined":
                    w.send_as(how, c)
                w.expect(*(codes if i == len(chunks) - 1 else (250,) + codes))
            w.in_step()
            if codes == (250,):
                mails = sink().mails(w.name)
                wanted(len(mails), 1, "mails")
                wanted(sink().text(mails[0]), want, "text")
            else:
                for m in sink().mails(w.name):
                    wanted(sink().text(m), want, "text")
        case(f"chunks: {name}, {how}", run)


chunked("one", [b"hello\r\n"], b"hello\r\n")
chunked("three", [b"hel", b"lo\r", b"\n"], b"hello\r\n")
chunked("empty ones between", [b"", b"a", b"", b"", b"\r\n", b""], b"a\r\n")
chunked("nothing at all", [b""], b"")
chunked("two times nothing", [b"", b""], b"")
chunked("dots are not special", [b".\r\n..\r\n.x\r\n\r\n.\r\n"], b".\r\n..\r\n.x\r\n\r\n.\r\n")
chunked("no CRLF at the end", [b"abc"], b"abc")
chunked("an end of a text over two chunks", [b"a\r\n.", b"\r\nRSET\r\n"], b"a\r\n.\r\nRSET\r\n")
chunked("CRLF over two chunks", [b"a\r", b"\nb\r\n"], b"a\r\nb\r\n")
chunked("commands", [SMUGGLED + b".\r\nQUIT\r\n"], SMUGGLED + b".\r\nQUIT\r\n")
chunked("all octets, binary", [bytes(range(256)) * 3], bytes(range(256)) * 3, mail="FROM:<s@a.test> BODY=BINARYMIME")
chunked("bare line ends, binary", [b"a\nb\rc", b"\n.\n", b"\r"], b"a\nb\rc\n.\n\r", mail="FROM:<s@a.test> BODY=BINARYMIME")
chunked("a bare LF, not binary", [b"a\nb\r\n"], b"a\nb\r\n", codes=(250, 550, 554))
chunked("a bare CR, not binary", [b"a\rb\r\n"], b"a\rb\r\n", codes=(250, 550, 554))
chunked("a CR at the end of all, not binary", [b"a\r"], b"a\r", codes=(250, 550, 554))
chunked("300 of them", [b"%03d\r\n" % i for i in range(300)], b"".join(b"%03d\r\n" % i for i in range(300)))
chunked("8 bit and NUL", [b"\0\xff\x80\r\n"], b"\0\xff\x80\r\n")


@case("the sum of chunks can't overflow")
def overflow():
    w = Wire(sink())
    w.hello()
    w.envelope()
    w.send(b"BDAT 10\r\n0123456789")
    w.expect(250)
    w.send(b"BDAT 18446744073709551612 LAST\r\nNOOP\r\n")
    w.half_close()
    if any(r.code < 400 for r in w.until_end()):
        raise Failed("taken")
    wanted(sink().mails(w.name), [], "mails")


@case("a refused chunk longer than anybody reads ends the session")
def refused_for_ever():
    w = Wire(sink())
    w.hello()
    w.send(b"BDAT 1000000000000\r\n")  # no MAIL
    sent = 0
    try:
        while sent < 200 << 20:
            w.socket.sendall(b"QUIT\r\n" * 20000)
            sent += 120000
    except OSError:
        pass
    if sent >= 200 << 20:
        raise Failed("200 MiB of a refused chunk were read")
    healthy(sink().port)


@case("several mails in a session are apart")
def apart():
    w = Wire(sink())
    w.hello()
    sent = []
    for i in range(12):
        to = [f"r{i}.{k}@b.test" for k in range(i % 3 + 1)]
        w.envelope(f"FROM:<s{i}@a.test> SIZE={i}" if i % 4 else "FROM:<>", *[f"TO:<{t}>" for t in to])
        body = b"Subject: %d\r\n\r\nbody %d\r\n" % (i, i) * (i + 1)
        if i % 2:
            w.text(body)
        else:
            w.send(b"BDAT %d LAST\r\n" % len(body) + body)
            w.expect(250)
        sent.append((f"s{i}@a.test" if i % 4 else "", to, body))
        if i % 5 == 4:
            w.envelope("FROM:<never@a.test>", "TO:<never@b.test>")
            w.say("RSET", 250)
    w.bye()
    mails = sink().mails(w.name)
    wanted([(m["from"], m["to"], sink().text(m)) for m in mails], sent, "mails")
    wanted(len({m["id"] for m in mails}), 12, "ids")


@case("commands right behind the dot are the next mail's")
def behind():
    w = Wire(sink())
    w.hello()
    group = b"".join(b"MAIL FROM:<s%d@a.test>\r\nRCPT TO:<r@b.test>\r\nDATA\r\nmail %d\r\n.\r\n" % (i, i) for i in range(20))
    w.send(group + b"NOOP\r\n")
    wanted([w.reply().code for _ in range(81)], [250, 250, 354, 250] * 20 + [250], "codes")
    w.in_step()
    wanted([(m["from"], sink().text(m)) for m in sink().mails(w.name)], [(f"s{i}@a.test", b"mail %d\r\n" % i) for i in range(20)], "mails")
