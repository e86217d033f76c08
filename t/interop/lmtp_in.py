"""lmtp_in.py -- real LMTP clients in front of the sink: a reply for each recipient, over TCP and over a Unix socket."""
import os
import smtplib

from clients import ANNA, BERT, CARL
from parts import EXAMPLES, PATIENCE, TORTURE, Server, Sink, arrived, case, check, equal, letter, travelled, wait_for
from postfix import Postfix


class LmtpSink(Sink):
    """The sink, speaking LMTP on a loopback port and on the Unix socket `path`."""

    def __init__(self, box):
        self.dir, self.path = box.new("mails"), str(box.for_all_users() / "lmtp")
        self.dir.mkdir()
        Server.__init__(self, box, [EXAMPLES / "sink"], "--lmtp", "--listen", "127.0.0.1:0", "--listen", f"unix:{self.path}", "--dir", self.dir)
        os.chmod(self.path, 0o666)  # Postfix's client is no superuser


class LmtpPostfix(Postfix):
    """Passes everything on by its lmtp(8), to `where` as its transport tables write it."""

    def __init__(self, box, where):
        self.where = where
        super().__init__(box, 0)

    def settle(self, box, via, withhold):
        super().settle(box, via, withhold)
        main, master = self.home / "main.cf", self.home / "master.cf"
        route = f"relayhost = [127.0.0.1]:{via}\n"
        check(route in main.read_text(), "where does main.cf say where to?")
        main.write_text(main.read_text().replace(route, f"default_transport = lmtp:{self.where}\n"))
        master.write_text(master.read_text() + "lmtp unix - - n - - lmtp\n")
        for path in (main, master):
            os.utime(path, (0, 0))


def lmtp_sink(box):
    return box.keep(LmtpSink(box))


def both(sink):
    """A client of Python's library that has said LHLO, once over TCP and once over the Unix socket."""
    for host, port in (("127.0.0.1", sink.port), (sink.path, 0)):
        with smtplib.LMTP(host, port, local_hostname="client.example.org") as sender:
            sender.sock.settimeout(PATIENCE)
            equal(sender.ehlo()[0], 250, "LHLO")
            yield sender


def deliver(sender, mail, to, options=()):
    """One transaction; the codes after the text, one for each of `to`. The library itself would read only the first."""
    equal(sender.mail(ANNA, options)[0], 250, "MAIL")
    for recipient in to:
        equal(sender.rcpt(recipient)[0], 250, f"RCPT of {recipient}")
    return [sender.data(mail)[0]] + [sender.getreply()[0] for _ in to[1:]]


@case("smtplib.LMTP: a mail arrives octet for octet, with a reply for each recipient, and then another one")
def python(box):
    sink, expected = lmtp_sink(box), []
    for sender in both(sink):
        for keyword in ("pipelining", "enhancedstatuscodes", "8bitmime"):
            check(sender.has_extn(keyword), keyword, "must be offered")
        for to in ([BERT], [BERT, CARL, BERT], [CARL]):
            mail = letter(TORTURE)
            equal(deliver(sender, mail, to, ["BODY=8BITMIME"]), [250] * len(to), "replies to the text")
            expected.append((to, mail))
        equal(sender.noop()[0], 250, "NOOP")  # nothing is left over
        equal(sender.quit()[0], 221, "QUIT")
    found = {mail.octets: mail for mail in sink.mails()}
    equal(len(sink.mails()), len(expected), "mails")
    for to, mail in expected:
        arrived(found[mail], ANNA, to, mail)
        equal(found[mail].fields["protocol"], "LMTP", "protocol")


@case("smtplib.LMTP: sendmail() of a mail for one")
def python_sendmail(box):
    sink = lmtp_sink(box)
    for sender in both(sink):
        for _ in range(2):
            equal(sender.sendmail(ANNA, BERT, letter()), {}, "refused recipients")
    equal(len(sink.mails()), 4, "mails")


@case("smtplib.LMTP: a text with a lone LF is refused for each recipient, and the next mail is taken")
def python_refused(box):
    sink, mail, good = lmtp_sink(box), letter(), []
    for sender in both(sink):
        sender.mail(ANNA)
        for recipient in (BERT, CARL, BERT):
            sender.rcpt(recipient)
        sender.putcmd("DATA")
        equal(sender.getreply()[0], 354, "DATA")
        sender.send(b"lone \n LF\r\n.\r\n")
        equal([sender.getreply()[0] for _ in range(3)], [554] * 3, "replies to the text")
        equal(deliver(sender, mail, [BERT, CARL]), [250, 250], "replies to the next text")
        good.append(mail)
    equal([found.octets for found in sink.mails()], good, "mails")


@case("smtplib: an SMTP client gets no further than EHLO")
def smtp_client(box):
    sink = lmtp_sink(box)
    with smtplib.SMTP("127.0.0.1", sink.port, local_hostname="client.example.org", timeout=PATIENCE) as sender:
        equal((sender.ehlo()[0], sender.helo()[0], sender.mail(ANNA)[0]), (500, 500, 503), "replies")
    equal(sink.mails(), [], "mails")


for kind in ("TCP", "a Unix socket"):
    def where(sink, kind=kind):
        return f"inet:127.0.0.1:{sink.port}" if kind == "TCP" else f"unix:{sink.path}"

    def postfix(box, where=where):
        sink = lmtp_sink(box)
        server, mails = LmtpPostfix(box, where(sink)), [letter(TORTURE) for _ in range(10)]
        for number, mail in enumerate(mails):
            server.submit(mail, ANNA, [BERT, CARL, *(f"user{n}@example.test" for n in range(number))])
        server.wait_idle()
        found = sink.wait_for(len(mails))
        equal(len(found), len(mails), "mails")
        for number, mail in enumerate(mails):
            seen, = [each for each in found if each.octets.endswith(mail)]
            travelled(seen, ANNA, [BERT, CARL, *(f"user{n}@example.test" for n in range(number))], mail, hops=1)
            equal(seen.fields["protocol"], "LMTP", "protocol")
        log = server.log.read_text()
        equal(log.count("status=sent"), 2 * len(mails) + 45, "recipients that Postfix took for delivered")
    case(f"Postfix's lmtp(8) over {kind}: ten mails for two to eleven arrive once each, each recipient counted as delivered")(postfix)

    def deferred(box, where=where):
        sink = lmtp_sink(box)
        server, mail, away = LmtpPostfix(box, where(sink)), letter(TORTURE), sink.dir.with_suffix(".away")
        sink.dir.rename(away)
        server.submit(mail, ANNA, [BERT, CARL])
        wait_for("Postfix defers both", lambda: server.log.read_text().count("status=deferred") >= 2)
        for line in server.log.read_text().splitlines():
            check("status=deferred" not in line or "said: 452 4.3.1" in line, "deferred otherwise:", line)
        away.rename(sink.dir)
        server.wait_flushed()
        seen, = sink.wait_for(1)
        travelled(seen, ANNA, [BERT, CARL], mail, hops=1)
        equal(len(sink.mails()), 1, "mails")
    case(f"Postfix's lmtp(8) over {kind}: a sink that cannot store defers each recipient, and gets the mail once it can")(deferred)
