"""The order of commands, pipelining, and one reply for one command however the octets are cut (RFC 5321 4.1.4, RFC 2920, 3030)."""
import random
import re
import socket

from harness import Failed, Wire, case, discard, sink, wanted

# A conversation: what is said, and the codes that may answer it. "D:" is a text, answered by one reply; it goes out only when
# DATA was answered 354, unless all goes in one write. No codes: nothing is answered.
E, M, R, T, Q = "EHLO c.test", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "D:Subject: x\r\n\r\nhello\r\n.", "QUIT"
OK = (250,)
BYE = (Q, (221,))

CONVERSATIONS = {
    "a mail": [(E, OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), BYE],
    "a mail after HELO": [("HELO c.test", OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), BYE],
    "two mails": [(E, OK)] + [(M, OK), (R, OK), ("DATA", (354,)), (T, OK)] * 2 + [BYE],
    "MAIL before EHLO": [(M, (503,)), (E, OK), (M, OK), BYE],
    "RCPT before EHLO": [(R, (503,)), (E, OK), BYE],
    "DATA before EHLO": [("DATA", (503,)), (E, OK), BYE],
    "RCPT before MAIL": [(E, OK), (R, (503,)), BYE],
    "DATA before MAIL": [(E, OK), ("DATA", (503,)), BYE],
    "DATA before RCPT": [(E, OK), (M, OK), ("DATA", (503, 554)), (R, OK), ("DATA", (354,)), (T, OK), BYE],
    "DATA after a refused RCPT": [(E, OK), (M, OK), ("RCPT TO:<x y>", (501, 553)), ("DATA", (503, 554)), (R, OK), BYE],
    "RCPT after a refused MAIL": [(E, OK), ("MAIL FROM:<x y>", (501, 553)), (R, (503,)), ("DATA", (503,)), (M, OK), BYE],
    "MAIL twice": [(E, OK), (M, OK), (M, (503,)), (R, OK), ("DATA", (354,)), (T, OK), BYE],
    "MAIL after RCPT": [(E, OK), (M, OK), (R, OK), (M, (503,)), ("DATA", (354,)), (T, OK), BYE],
    "RCPT after the text": [(E, OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), (R, (503,)), ("DATA", (503,)), BYE],
    "RSET forgets": [(E, OK), (M, OK), (R, OK), ("RSET", OK), (R, (503,)), ("DATA", (503,)), (M, OK), ("DATA", (503, 554)), BYE],
    "RSET before EHLO": [("RSET", OK), (M, (503,)), (E, OK), (M, OK), BYE],
    "RSET twice": [(E, OK), ("RSET", OK), ("RSET", OK), (M, OK), BYE],
    "RSET keeps EHLO": [(E, OK), ("RSET", OK), (M, OK), (R, OK), BYE],
    "EHLO forgets": [(E, OK), (M, OK), (R, OK), (E, OK), (R, (503,)), ("DATA", (503,)), (M, OK), BYE],
    "HELO forgets": [(E, OK), (M, OK), (R, OK), ("HELO c.test", OK), (R, (503,)), (M, OK), BYE],
    "EHLO after HELO": [("HELO c.test", OK), (M, OK), (E, OK), (M + " SIZE=5 BODY=8BITMIME", OK), BYE],
    "EHLO three times": [(E, OK), (E, OK), (E, OK), (M, OK), BYE],
    "EHLO without a name": [("EHLO", (501,)), (M, (503,)), (E, OK), (M, OK), BYE],
    "HELO without a name": [("HELO", (501,)), (M, (503,)), ("HELO c.test", OK), BYE],
    "everything about nothing": [("NOOP", OK), ("NOOP with words", OK), ("HELP", (211, 214)), ("VRFY x", (252, 250, 502, 503, 550, 551, 553)),
                                 ("EXPN x", (502, 252, 250, 503, 550)), BYE],
    "nothing disturbs a transaction": [(E, OK), (M, OK), ("NOOP", OK), ("HELP", (211, 214)), ("VRFY x", (252,)), (R, OK), ("EXPN x", (502, 252)),
                                       ("FOO", (500,)), ("", (500,)), ("NOOP", OK), ("DATA", (354,)), (T, OK), BYE],
    "verbs in any case": [("ehlo c.test", OK), ("mAiL fRoM:<a@b.test>", OK), ("rcpt to:<c@d.test>", OK), ("dAtA", (354,)), (T, OK), ("quit", (221,))],
    "blanks behind verbs": [(E + "  ", OK), ("NOOP ", OK), ("RSET  ", OK), (M + " ", OK), (R + "  ", OK), ("DATA ", (354,)), (T, OK), ("QUIT ", (221,))],
    "old verbs": [(E, OK), ("SEND FROM:<a@b>", (500, 502)), ("SOML FROM:<a@b>", (500, 502)), ("SAML FROM:<a@b>", (500, 502)), ("TURN", (500, 502)), (R, (503,)), BYE],
    "what is not offered": [(E, OK), ("STARTTLS", (500, 502, 503, 454)), ("AUTH PLAIN AGEAYg==", (500, 502, 503, 504)), ("ETRN x", (500, 502)),
                            ("ATRN", (500, 502)), ("XCLIENT ADDR=1.2.3.4", (500, 502, 503, 550)), ("XFORWARD ADDR=1.2.3.4", (500, 502)), (M, OK), BYE],
    "PROXY is not for everybody": [("PROXY TCP4 1.2.3.4 5.6.7.8 1 2", (500, 502, 503)), (E, OK), BYE],
    "no such verbs": [(E, OK), ("FOO", (500,)), ("NOOPX", (500,)), ("NOO", (500,)), ("DATAX", (500,)), ("QUITE", (500,)), ("QUI", (500,)),
                      ("MAILFROM:<a@b>", (500, 501)), ("N\u00d6OP", (500,)), ("*", (500,)), BYE],
    "empty lines": [("", (500,)), (" ", (500,)), ("   ", (500,)), (E, OK), BYE],
    "a blank before the verb": [(" NOOP", (500, 501, 250)), (E, OK), BYE],
    "a tab behind the verb": [("NOOP\tx", (500, 501, 250)), (E, OK), BYE],
    "VRFY and EXPN without argument": [(E, OK), ("VRFY", (501, 252, 502)), ("EXPN", (501, 502, 252)), (M, OK), BYE],
    "DATA with an argument": [(E, OK), (M, OK), (R, OK), ("DATA x", (501,)), ("DATA", (354,)), (T, OK), BYE],
    "RSET and QUIT with an argument": [(E, OK), (M, OK), ("RSET x", (501, 250)), ("NOOP", OK), BYE],
    "HELP with an argument": [("HELP MAIL", (211, 214, 501, 504)), BYE],
    "a web browser": [("GET / HTTP/1.1", (421,))],  # and no more is heard: what follows may be a stranger's commands
    "BDAT in one piece": [(E, OK), (M, OK), (R, OK), ("B:BDAT 7 LAST\r\nhello\r\n", OK), BYE],
    "BDAT in pieces": [(E, OK), (M, OK), (R, OK), ("B:BDAT 3\r\nhel", OK), ("B:BDAT 2\r\nlo", OK), ("B:BDAT 2 LAST\r\n\r\n", OK), BYE],
    "BDAT ends with an empty chunk": [(E, OK), (M, OK), (R, OK), ("B:BDAT 4\r\nhi\r\n", OK), ("BDAT 0 LAST", OK), (R, (503,)), BYE],
    "BDAT with commands in it": [(E, OK), (M, OK), (R, OK), ("B:BDAT 14 LAST\r\nQUIT\r\nRSET\r\n\r\n", OK), BYE],
    "BDAT with a text's end in it": [(E, OK), (M, OK), (R, OK), ("B:BDAT 12 LAST\r\na\r\n.\r\nQUIT\r\n", (250,)), BYE],
    "BDAT before MAIL": [(E, OK), ("B:BDAT 6\r\nQUIT\r\n", (503,)), ("B:BDAT 6 LAST\r\nQUIT\r\n", (503,)), (M, OK), BYE],
    "BDAT before EHLO": [("B:BDAT 6 LAST\r\nQUIT\r\n", (503,)), (E, OK), BYE],
    "BDAT after HELO": [("HELO c.test", OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", (250, 500, 502, 503)), ("RSET", OK), (M, OK), BYE],
    "BDAT LAST after HELO": [("HELO c.test", OK), (M, OK), (R, OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", (250, 500, 502, 503)), ("RSET", OK), (M, OK), BYE],
    "BDAT without recipients": [(E, OK), (M, OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", (503, 554)), ("RSET", OK), (M, OK), (R, OK), BYE],
    "BDAT then DATA": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), ("DATA", (503,)), ("RSET", OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), BYE],
    "BDAT then MAIL": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), (M, (503,)), ("RSET", OK), (M, OK), BYE],
    "BDAT then RCPT": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), (R, (503,)), ("RSET", OK), (M, OK), BYE],
    "BDAT then NOOP": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), ("NOOP", OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", OK), BYE],
    "BDAT then RSET": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), ("RSET", OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", (503,)), (M, OK), BYE],
    "BDAT then EHLO": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), (E, OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", (503,)), (M, OK), BYE],
    "BDAT after LAST": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", OK), ("B:BDAT 6 LAST\r\nQUIT\r\n", (503,)), ("NOOP", OK), BYE],
    "BDAT then QUIT": [(E, OK), (M, OK), (R, OK), ("B:BDAT 6\r\nQUIT\r\n", OK), BYE],
    "bdat in small letters": [(E, OK), (M, OK), (R, OK), ("B:bdat 4\r\nhi\r\n", OK), ("B:bdat 4 last\r\nho\r\n", OK), BYE],
    "a binary mail by DATA": [(E, OK), (M + " BODY=BINARYMIME", OK), (R, OK), ("DATA", (503,)), ("B:BDAT 6 LAST\r\na\nb\rc\n", (250,)), BYE],
    "a mix of both ways": [(E, OK), (M, OK), (R, OK), ("B:BDAT 4 LAST\r\nhi\r\n", OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), (M, OK), (R, OK),
                           ("B:BDAT 4 LAST\r\nho\r\n", OK), BYE],
    "commands behind the dot": [(E, OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), ("RSET", OK), (M, OK), (R, OK), ("DATA", (354,)), (T, OK), ("NOOP", OK), BYE],
    "nothing after QUIT": [(E, OK), BYE, ("NOOP", (None,)), (M, (None,))],
    "many recipients": [(E, OK), (M, OK)] + [(f"RCPT TO:<r{i}@d.test>", OK) for i in range(100)] + [("DATA", (354,)), (T, OK), BYE],
    "the null sender": [(E, OK), ("MAIL FROM:<>", OK), (R, OK), ("DATA", (354,)), (T, OK), BYE],
    "an empty text": [(E, OK), (M, OK), (R, OK), ("DATA", (354,)), ("D:.", OK), BYE],
    "a text of one empty line": [(E, OK), (M, OK), (R, OK), ("DATA", (354,)), ("D:\r\n.", OK), BYE],
}


def octets(said):
    if said.startswith("D:"):
        return said[2:].encode() + b"\r\n"
    if said.startswith("B:"):
        return said[2:].encode()
    return said.encode() + b"\r\n"


def check(w, said, codes, reply):
    code = reply.code if reply else None
    if code not in codes:
        raise Failed(f"{said!r}: expected {codes}, heard {reply!r}")


def play(how, conversation, where=None):
    w = Wire(where or sink())
    if how == "step by step":
        for said, codes in conversation:
            try:
                w.send(octets(said))
            except OSError:
                if None not in codes:
                    raise
            check(w, said, codes, w.reply())
            if not w.ended and {221, 421}.isdisjoint(codes):
                w.nothing_more()
    else:
        stream = b"".join(octets(said) for said, _ in conversation)
        try:
            w.send_as(how, stream)
        except OSError:  # it may be gone before we have said all, if that was after QUIT
            pass
        for said, codes in conversation:
            check(w, said, codes, w.reply())
    if not w.ended:
        w.at_end()


for name, conversation in CONVERSATIONS.items():
    for how in ("step by step", "whole", "octets", len(name) + 7):
        case(f"{name}, {how if isinstance(how, str) else 'cut'}", lambda how=how, c=conversation: play(how, c))


@case("pipelined groups come back in one piece")
def groups():
    """RFC 2920 3.2: replies to a group may be gathered; here they should come with few segments and in their order."""
    w = Wire(discard())
    w.hello()
    n = 500
    w.send("MAIL FROM:<a@b.test>\r\n" + "".join(f"RCPT TO:<r{i}@c.test>\r\n" for i in range(n)) + "DATA\r\n")
    wanted([w.reply().code for _ in range(n + 2)], [250] * (n + 1) + [354], "codes")
    w.send("x\r\n.\r\nQUIT\r\n")
    w.expect(250)
    w.expect(221)


@case("100 mails in one write")
def all_at_once():
    w = Wire(discard())
    one = "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nhello\r\n..\r\n.\r\n"
    w.send("EHLO c.test\r\n" + one * 100 + "QUIT\r\n")
    codes = [r.code for r in w.until_end()]
    wanted(codes, [250] + [250, 250, 354, 250] * 100 + [221], "codes")


@case("commands before the greeting are answered in order")
def early():
    s = socket.create_connection(("127.0.0.1", sink().port))
    s.sendall(b"EHLO c.test\r\nNOOP\r\nQUIT\r\n")
    w = Wire(s, greeting=None)
    wanted([r.code for r in w.until_end()], [220, 250, 250, 221], "codes")


@case("the greeting names the host")
def greeting():
    w = Wire(sink(), greeting=None)
    r = w.expect(220)
    if not r.lines[0].startswith(b"220 mx.test "):
        raise Failed("not 220 mx.test")


@case("HELP lists the verbs")
def help_():
    w = Wire(sink())
    words = set(re.findall("[A-Z]{4}", w.say("HELP", 214, 211).text()))
    for verb in "HELO EHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP".split():
        if verb not in words:
            raise Failed(f"no {verb}")


@case("after EHLO replies have their enhanced status")
def enhanced():
    w = Wire(sink())
    w.hello()
    for line, code in [("MAIL FROM:<a@b.test>", 250), ("RCPT TO:<c@d.test>", 250), ("RCPT TO:<x y>", 501), ("MAIL FROM:<a@b.test>", 503), ("FOO", 500),
                       ("NOOP", 250), ("RSET", 250), ("DATA", 503), ("MAIL FROM:<a@b.test> FOO=1", 555), ("MAIL FROM:<a@b.test> SIZE=999999999", 552),
                       ("EXPN x", 502), ("VRFY x", 252), ("QUIT", 221)]:
        r = w.say(line, code)
        if not re.match(rb"\d{3} \d\.\d{1,3}\.\d{1,3} ", r.lines[0]):
            raise Failed(f"no enhanced status: {r!r}")


@case("nothing a client says is cut out of a reply's form")
def echoes():
    """Whatever is echoed of the client's words stays inside one well-formed line of 512 octets."""
    w = Wire(sink())
    for text in [b"X" * 1500, b"MAIL FROM:<" + b"%s%n" * 100 + b">", b"EHLO " + b"y" * 1900, b"\xff\xfe", b"MAIL FROM:<a@b> " + b"Z" * 1500,
                 b"RCPT TO:<\xc3\xa4@b>", b"HELP " + b"h" * 1500, b"VRFY " + b"v" * 1500]:
        w.send(text + b"\r\n")
        w.reply()
    w.say("QUIT", 221)


@case("each session has its own state")
def sessions_apart():
    """SEEDS B2: one filter for all mixed the lines of clients."""
    a, b = Wire(sink()), Wire(sink())
    a.send("NO")
    b.send("OP\r\n")
    b.expect(500)
    a.send("OP\r\n")
    a.expect(250)
    a.hello()
    a.envelope()
    b.say("RCPT TO:<x@y.test>", 503)
    b.hello()
    b.say("RCPT TO:<x@y.test>", 503)
    a.say("DATA", 354)
    a.send("one\r\n")
    b.envelope("FROM:<other@b.test>")
    b.say("DATA", 354)
    b.send("two\r\n.\r\n")
    b.expect(250)
    a.send("one\r\n.\r\n")
    a.expect(250)
    wanted(sink().text(sink().mails(a.name)[0]), b"one\r\none\r\n", "a's text")
    wanted(sink().text(sink().mails(b.name)[0]), b"two\r\n", "b's text")


for seed in range(12):
    def random_order(seed=seed):
        """Random commands; a model of RFC 5321's states says what must come."""
        rng = random.Random(seed)
        hello = mail = rcpts = 0
        chunks = False
        stream, expected = b"", []
        for _ in range(120):
            what = rng.choice("ehmmmrrrrdddbblnvz")
            if what in "eh":
                stream += b"EHLO c.test\r\n" if what == "e" else b"HELO c.test\r\n"
                hello, mail, rcpts, chunks = what, 0, 0, False
                expected.append({250})
            elif what == "m":
                stream += b"MAIL FROM:<a@b.test>\r\n"
                good = hello and not mail
                expected.append({250} if good else {503})
                if good:
                    mail, rcpts = 1, 0
            elif what == "r":
                stream += b"RCPT TO:<c@d.test>\r\n"
                good = mail and not chunks
                expected.append({250} if good else {503})
                rcpts += bool(good)
            elif what == "d":
                if mail and rcpts and not chunks:
                    stream += b"DATA\r\nRSET\r\n..\r\nQUIT\r\n.\r\n"
                    expected += [{354}, {250}]
                    mail = rcpts = 0
                else:
                    stream += b"DATA\r\n"
                    expected.append({503, 554})
            elif what in "bl":
                body = b"x" * rng.randrange(20) + b"\r\nQUIT\r\n"
                stream += b"BDAT %d%s\r\n" % (len(body), b" LAST" if what == "l" else b"") + body
                if hello == "h":  # no CHUNKING: known or not, but its octets are never commands
                    expected.append({250, 500, 502, 503, 554})
                    stream += b"RSET\r\n"
                    expected.append({250})
                    mail = rcpts = 0
                    chunks = False
                elif mail and rcpts:
                    expected.append({250})
                    chunks = what == "b"
                    if what == "l":
                        mail = rcpts = 0
                else:
                    expected.append({503, 554})
                    # whether a failed BDAT ends the transaction is open (RFC 3030 leaves the sender RSET only): make it certain
                    stream += b"RSET\r\n"
                    expected.append({250})
                    mail = rcpts = 0
                    chunks = False
            elif what == "n":
                stream += b"NOOP\r\n"
                expected.append({250})
            elif what == "v":
                stream += b"VRFY x\r\n"
                expected.append({252})
            else:
                stream += b"RSET\r\n"
                expected.append({250})
                mail = rcpts = 0
                chunks = False
            # errors are limited per session; a new session before that
            if sum(1 for e in expected if e & {503, 500}) >= 9:
                break
        w = Wire(sink())
        w.send_as(seed if seed % 2 else "whole", stream + b"QUIT\r\n")
        replies = w.until_end()
        wanted(len(replies), len(expected) + 1, "replies")
        for i, (r, codes) in enumerate(zip(replies, expected + [{221}])):
            if r.code not in codes:
                raise Failed(f"reply {i}: {r!r} instead of {codes}")
    case(f"a random order of commands, {seed}", random_order)
