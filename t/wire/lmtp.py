"""LMTP (RFC 2033): LHLO, and after a text a reply for each recipient, however the octets come and whatever is wrong with them."""
import os
import resource
import signal
import socket

from harness import Box, Failed, Program, Wire, case, scratch, shared, stuffed, unique, wanted

MOST = 100_000  # octets of a text that the small one takes


def sink():
    return shared.get("lmtp", lambda: Box("--lmtp"))


def small():
    return shared.get("lmtp, small", lambda: Box("--lmtp", "--max-size", str(MOST)))


def named(count):
    return tuple(f"TO:<r{n}@b.test>" for n in range(count))


def hello(w):
    w.name = unique("lmtp")
    return w.say("LHLO " + w.name, 250)


def each(w, count, code=250):
    """So many replies, all alike; the words of the first."""
    words = {repr(w.expect(code)) for _ in range(count)}
    wanted(len(words), 1, f"replies that differ: {words}")
    return words.pop()


@case("LHLO and nothing else opens LMTP, and SMTP knows none")
def greeting():
    w = Wire(sink())
    for verb in ("HELO", "EHLO", "ehlo"):
        w.say(f"{verb} me.test", 500)
    w.say("MAIL FROM:<s@a.test>", 503)
    offered = hello(w).text().split("\n")
    for keyword in ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME"):
        if keyword not in offered:
            raise Failed(f"{keyword} is not offered: {offered}")
    w.say("EHLO me.test", 500)
    w.in_step()
    w = Wire(shared.get("sink", Box))
    w.say("LHLO me.test", 500)
    w.hello()
    w.say("LHLO me.test", 500)
    w.in_step()


@case("three recipients, one named twice: three replies, one mail, octet for octet")
def one_mail():
    w = Wire(sink())
    hello(w)
    text = b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n\xff\r\n"
    w.envelope("FROM:<s@a.test>", "TO:<r@b.test>", "TO:<other@b.test>", "TO:<r@b.test>")
    w.say("DATA", 354)
    w.send(stuffed(text) + b".\r\n")
    each(w, 3)
    w.in_step()
    mail, = sink().mails(w.name)
    wanted(mail["to"], ["r@b.test", "other@b.test", "r@b.test"], "recipients")
    wanted(mail["protocol"], "LMTP", "protocol")
    wanted(sink().text(mail), text, "text")


@case("UTF-8 addresses come by UTF8LMTP")
def utf8():
    w = Wire(sink())
    hello(w)
    w.envelope("FROM:<ä@a.test> SMTPUTF8", "TO:<ö@b.test>", "TO:<ü@b.test>")
    w.say("DATA", 354)
    w.send(b"x\r\n.\r\n")
    each(w, 2)
    w.in_step()
    wanted(sink().mails(w.name)[0]["protocol"], "UTF8LMTP", "protocol")


# What a client says at once, and the codes it must hear. After DATA it says the text as if 354 had come.
GROUPS = {
    "DATA": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nDATA\r\nx\r\n..\r\n.\r\n", [250] * 3 + [354] + [250] * 2, [b"x\r\n.\r\n"]),
    "one chunk": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<1@b.test>\r\nBDAT 8 LAST\r\n.\r\nRSE\r\n", [250] * 5, [b".\r\nRSE\r\n"]),
    "three chunks": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nRCPT TO:<3@b.test>\r\nBDAT 2\r\nab"
                     b"BDAT 3\r\nc\r\nBDAT 4 LAST\r\nd\r\n.", [250] * 4 + [250] * 2 + [250] * 3, [b"abc\r\nd\r\n."]),
    "an empty last chunk": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nBDAT 1\r\nxBDAT 0 LAST\r\n", [250] * 3 + [250] + [250] * 2, [b"x"]),
    "a bad recipient among good ones": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<bad\r\nRCPT TO:<3@b.test>\r\nDATA\r\n.\r\n",
                                        [250, 250, 501, 250, 354, 250, 250], [b""]),
    "no good recipient": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<bad\r\nDATA\r\nBDAT 6 LAST\r\nQUIT\r\nRSET\r\n", [250, 501, 503, 503, 250], []),
    "a bare LF": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nDATA\r\nx\n.\nMAIL FROM:<evil@a.test>\r\n.\r\n", [250] * 3 + [354, 554, 554], []),
    "a bare LF in a chunk": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nBDAT 3\r\nx\nyBDAT 6 LAST\r\nQUIT\r\n", [250] * 3 + [554] * 3, []),
    "RSET before the text": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nRSET\r\nDATA\r\n", [250] * 4 + [503], []),
    "RSET between chunks": (b"MAIL FROM:<s@a.test>\r\nRCPT TO:<1@b.test>\r\nRCPT TO:<2@b.test>\r\nBDAT 1\r\nxRSET\r\n", [250] * 5, []),
}
for name, (octets, codes, texts) in GROUPS.items():
    for how in ("whole", "octets", 1, 2):
        def group(octets=octets, codes=codes, texts=texts, how=how):
            """Twice, and then a mail for one: nothing of the first is left over in the second."""
            w = Wire(sink())
            hello(w)
            last = b"MAIL FROM:<s@a.test>\r\nRCPT TO:<last@b.test>\r\nDATA\r\nlast\r\n.\r\n"
            w.send_as(how, octets + octets + last)
            for code in codes * 2 + [250, 250, 354, 250]:
                w.expect(code)
            w.in_step()
            mails = sink().mails(w.name)
            wanted([sink().text(m) for m in mails], texts * 2 + [b"last\r\n"], "texts")
            wanted({m["from"] for m in mails}, {"s@a.test"}, "senders")
        case(f"{name}: the replies are those that are due, {how if isinstance(how, str) else f'cut {how}'}", group)


@case("a text over the limit is refused for each recipient, by DATA and by chunks")
def too_large():
    line = b"x" * 70 + b"\r\n"
    text = line * (MOST // len(line) + 2)
    w = Wire(small())
    hello(w)
    for rcpt in (1, 5):
        w.say(f"MAIL FROM:<s@a.test> SIZE={MOST + 1}", 552)
        w.envelope("FROM:<s@a.test>", *named(rcpt))
        w.say("DATA", 354)
        w.send(text + b".\r\n")
        each(w, rcpt, 552)
        w.envelope("FROM:<s@a.test>", *named(rcpt))
        w.send(b"BDAT %d LAST\r\n" % len(text) + text)
        each(w, rcpt, 552)
        w.envelope("FROM:<s@a.test>", *named(rcpt))
        half = text[:len(text) // 2]
        for code in (250, 552, 552):
            w.send(b"BDAT %d\r\n" % len(half) + half)
            w.expect(code)
        w.send(b"BDAT 0 LAST\r\n")
        each(w, rcpt, 552)
    w.envelope("FROM:<s@a.test>", *named(2))
    w.say("DATA", 354)
    w.send(text[:MOST // len(line) * len(line)] + b".\r\n")
    each(w, 2)
    w.in_step()
    wanted(len(small().mails(w.name)), 1, "mails")


@case("no room on disk: 452 for each recipient, nothing half, and then the next one")
def no_room():
    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST))
    folder = scratch("lmtp-full")
    with Program("sink", "--lmtp", "--dir", folder, before=before) as p:
        w = Wire(p)
        hello(w)
        for size, code in ((1000, 250), (2 * MOST, 452), (20 << 20, 452), (1000, 250)):  # in memory, and spooled
            w.envelope("FROM:<s@a.test>", *named(3))
            w.say("DATA", 354)
            w.send((b"f" * 70 + b"\r\n") * (size // 72) + b".\r\n")
            each(w, 3, code)
        w.in_step()
    wanted(len(os.listdir(folder)), 4, "files")


@case("a thousand recipients, pipelined: a thousand replies")
def many():
    w = Wire(sink(), receive_buffer=4096)
    hello(w)
    w.send(b"MAIL FROM:<s@a.test>\r\n" + b"".join(b"RCPT %s\r\n" % r.encode() for r in named(1000)) + b"DATA\r\nx\r\n.\r\n")
    each(w, 1)
    each(w, 1000)
    w.expect(354)
    each(w, 1000)
    w.in_step()
    wanted(len(sink().mails(w.name)[0]["to"]), 1000, "recipients")


@case("a client that leaves instead of reading its replies harms nobody")
def leaves():
    for how in ("reset", "close", "half_close"):
        w = Wire(sink())
        hello(w)
        w.envelope("FROM:<s@a.test>", *named(100))
        w.say("DATA", 354)
        w.send(b"x\r\n.\r\n")
        getattr(w, how)()
        if how == "half_close":
            each(w, 100)
            w.at_end()
    w = Wire(sink())
    hello(w)
    w.in_step()


@case("LMTP over a Unix socket, with a process for each client")
def unix():
    folder, path = scratch("lmtp-unix"), os.path.join(scratch("unix"), "s")
    with Program("sink", "--lmtp", "--mode", "process", "--dir", folder, listen="unix:" + path):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        w = Wire(s)
        hello(w)
        w.envelope("FROM:<s@a.test>", *named(3))
        w.send(b"BDAT 3\r\nabcBDAT 3 LAST\r\nde\r")
        w.expect(250)
        each(w, 3, 554)
        w.envelope("FROM:<s@a.test>", *named(2))
        w.send(b"BDAT 3\r\nabcBDAT 3 LAST\r\ndef")
        w.expect(250)
        each(w, 2)
        w.in_step()
    wanted(len(os.listdir(folder)), 2, "files")
