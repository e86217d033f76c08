"""relaying.py -- the relay with a real Postfix behind: what it took has arrived, what was refused is nowhere."""
import smtplib

from clients import ANNA, BERT, CARL, msmtp, s_nail
from parts import TORTURE, case, check, equal, free_port, letter, parameter, smtp, travelled, wait_for
from postfix import BUSY, REFUSED, Postfix

REFUSES, SLEEPS = "refused@example.test", "busy@example.test"  # in Postfix's table


def behind(box, front="relay", withhold=""):
    """(front, sink): a relaying example, a Postfix behind it, and behind that a sink that shows what came through."""
    sink = box.sink()
    sink.postfix = Postfix(box, sink.port, "behind", withhold)
    return box.server(front, "--listen", "127.0.0.1:0", "--via", f"127.0.0.1:{sink.postfix.port}"), sink


def attempt(sender, mail, to, options=()):
    """One transaction, carried on whatever the answers are; returns the replies to each RCPT and to the end of data,
    each as code and one line of text. Where DATA is refused, that reply stands for the last."""
    equal(sender.mail(ANNA, options)[0], 250, "MAIL")
    replies = [sender.rcpt(recipient) for recipient in to]
    try:
        replies.append(sender.data(mail))
    except smtplib.SMTPDataError as refusal:
        replies.append((refusal.smtp_code, refusal.smtp_error))
        sender.rset()
    return [(code, " ".join(text.decode().split())) for code, text in replies]


def came(front, sink, expected, hops=2):
    """What has arrived is `expected`, as (recipients, mail), and a later mail that proves that nothing is under way."""
    last = letter(b"Nothing more before me.\r\n")
    with smtp(front.port) as sender:
        sender.sendmail("last@example.org", [BERT], last)
    wait_for("the last mail arrives", lambda: any(mail.sender == "last@example.org" for mail in sink.mails()))
    sink.postfix.wait_idle()
    found = [mail for mail in sink.mails() if mail.sender != "last@example.org"]
    equal(sorted(sorted(mail.to) for mail in found), sorted(sorted(to) for to, _ in expected), "recipients of what arrived")
    for to, octets in expected:
        mail, = [mail for mail in found if mail.octets.endswith(octets)]
        travelled(mail, ANNA, to, octets, hops)


def refused(answer, said):
    """The answer is Postfix's own, from the code and status down to its words."""
    code, status, words = said.split(" ", 2)
    equal(answer[0], int(code), f"code of {answer}")
    check(answer[1].startswith(status) and words in answer[1], f"expected {said!r}, the sender heard {answer}")


@case("relay to Postfix: a mail goes through octet for octet, below one Received of ours")
def goes_through(box):
    relay, sink = behind(box)
    mail = letter(TORTURE)
    with smtp(relay.port) as sender:
        equal([code for code, _ in attempt(sender, mail, [BERT, CARL], ["BODY=8BITMIME"])], [250] * 3, "replies")
    sink.wait_for(1)
    travelled(sink.only(), ANNA, [BERT, CARL], mail, hops=2)


@case("relay to Postfix: a mail sent in chunks, cut between CR and LF and around a dot, goes through octet for octet")
def chunks(box):
    relay, sink = behind(box)
    mail = letter(TORTURE)
    cuts = [0, mail.index(b"\r\n") + 1, mail.index(b"\r\n.\r\n") + 3, len(mail) // 2, len(mail), len(mail)]
    with smtp(relay.port) as sender:
        check(sender.has_extn("chunking"), "CHUNKING must be offered")
        sender.mail(ANNA, ["BODY=8BITMIME"])
        sender.rcpt(BERT)
        for begin, end in zip(cuts, cuts[1:]):
            sender.send(f"BDAT {end - begin}{' LAST' if begin == end else ''}\r\n".encode() + mail[begin:end])
            equal(sender.getreply()[0], 250, f"BDAT of octets {begin} to {end}")
    sink.wait_for(1)
    travelled(sink.only(), ANNA, [BERT], mail, hops=2)


@case("relay to Postfix: SMTPUTF8 and DSN are offered because Postfix offers them, and passed on")
def passes_parameters(box):
    relay, sink = behind(box)
    mail = letter("Gruß\r\n".encode(), subject="Grüße")
    with smtp(relay.port) as sender:
        sender.sendmail("jürgen@example.org", ["用户@example.test"], mail,
                        mail_options=["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ314159"], rcpt_options=["NOTIFY=FAILURE"])
    sink.wait_for(1)
    travelled(sink.only(), "jürgen@example.org", ["用户@example.test"], mail, hops=2)
    equal(parameter(sink.only().fields, "ENVID"), "QQ314159", "ENVID")
    equal(parameter(sink.only().fields["recipients"][0], "NOTIFY"), "FAILURE", "NOTIFY")


@case("relay to Postfix: what Postfix does not offer is not offered")
def offers_no_more(box):
    relay, sink = behind(box, withhold="dsn, smtputf8")
    with smtp(relay.port) as sender:
        for keyword in ("dsn", "smtputf8", "binarymime"):
            check(not sender.has_extn(keyword), keyword, "is offered:", sender.esmtp_features)
        check(sender.has_extn("8bitmime") and sender.has_extn("pipelining"), "8BITMIME and PIPELINING are missing:", sender.esmtp_features)


@case("relay to Postfix: the null sender's mail goes through")
def null_sender(box):
    relay, sink = behind(box)
    mail = letter()
    with smtp(relay.port) as sender:
        sender.sendmail("", [BERT], mail)
    sink.wait_for(1)
    travelled(sink.only(), "", [BERT], mail, hops=2)


@case("relay to Postfix: a refused recipient hears it at RCPT in Postfix's own words, and the others get the mail")
def refuses(box):
    relay, sink = behind(box)
    expected = []
    with smtp(relay.port) as sender:
        for to in ([REFUSES, BERT, CARL], [BERT, SLEEPS, CARL], [BERT, CARL, REFUSES]):
            mail = letter()
            *recipients, last = attempt(sender, mail, to)
            for recipient, answer in zip(to, recipients):
                if recipient in (REFUSES, SLEEPS):
                    refused(answer, REFUSED if recipient == REFUSES else BUSY)
                else:
                    equal(answer[0], 250, f"RCPT of {recipient}")
            equal(last[0], 250, "the end of data")
            expected.append(([BERT, CARL], mail))
    came(relay, sink, expected)


@case("relay to Postfix: with no recipient left there is no DATA, and nothing arrives")
def refuses_all(box):
    relay, sink = behind(box)
    with smtp(relay.port) as sender:
        first, second, data = attempt(sender, letter(), [REFUSES, SLEEPS])
        refused(first, REFUSED)
        refused(second, BUSY)
        check(500 <= data[0] < 600, "DATA without recipients was answered", data)
    came(relay, sink, [])


@case("thread to Postfix: one refused recipient of three, first, in the middle or last: 550 in Postfix's words, nobody gets the mail")
def all_or_nothing(box):
    front, sink = behind(box, "thread")
    with smtp(front.port) as sender:
        for to in ([REFUSES], [REFUSES, BERT, CARL], [BERT, REFUSES, CARL], [BERT, CARL, REFUSES]):
            *recipients, last = attempt(sender, letter(), to)
            equal([code for code, _ in recipients], [250] * len(to), "replies to RCPT")
            refused(last, REFUSED)
    came(front, sink, [])


@case("thread to Postfix: 450 for one recipient is 450 to the sender, outweighs a 550, and nobody gets the mail")
def later(box):
    front, sink = behind(box, "thread")
    with smtp(front.port) as sender:
        for to in ([SLEEPS], [BERT, SLEEPS], [REFUSES, SLEEPS], [SLEEPS, REFUSES]):
            refused(attempt(sender, letter(), to)[-1], BUSY)
    came(front, sink, [])


@case("relay: with the next hop down the sender hears 4xx, and 250 once it is up again")
def next_hop_down(box):
    port = free_port()
    relay, mail = box.relay(port), letter(TORTURE)
    with smtp(relay.port) as sender:
        heard = attempt(sender, mail, [BERT])
        check(any(400 <= code < 500 for code, _ in heard) and heard[-1][0] >= 400, "expected 4xx, the sender heard", heard)
    sink = box.sink(listen=f"127.0.0.1:{port}")
    with smtp(relay.port) as sender:
        equal([code for code, _ in attempt(sender, mail, [BERT])], [250, 250], "replies")
    travelled(sink.only(), ANNA, [BERT], mail, hops=1)


@case("relay: strangers hear 550 5.7.1 at RCPT, others are served")
def strangers(box):
    sink = box.sink()
    closed, open_ = box.relay(sink.port, "--trusted", "192.0.2.0/24"), box.relay(sink.port, "--trusted", "127.0.0.0/8")
    with smtp(closed.port) as sender:
        sender.mail(ANNA)
        code, text = sender.rcpt(BERT)
        check(code == 550 and text.startswith(b"5.7.1 "), "a stranger heard", code, text)
        check(400 <= sender.docmd("DATA")[0] < 600, "a stranger may not send DATA")
    mail = letter()
    with smtp(open_.port) as sender:
        sender.sendmail(ANNA, [BERT], mail)
    travelled(sink.only(), ANNA, [BERT], mail, hops=1)


@case("msmtp through the relay to Postfix")
def msmtp_through(box):
    relay, sink = behind(box)
    mail = letter(TORTURE)
    msmtp(relay.port, mail, BERT, CARL)
    sink.wait_for(1)
    travelled(sink.only(), ANNA, [BERT, CARL], mail, hops=2)


@case("msmtp through the relay to Postfix: a refusal reaches the user in Postfix's words")
def msmtp_refused(box):
    relay, sink = behind(box)
    said = msmtp(relay.port, letter(), BERT, REFUSES, status=None)
    check(REFUSED.split(" ", 2)[2] in " ".join(said.split()), "msmtp said", said)
    came(relay, sink, [])


@case("s-nail through the relay to Postfix")
def s_nail_through(box):
    relay, sink = behind(box)
    text = b".\r\n..\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    s_nail(relay.port, text, BERT, CARL)
    sink.wait_for(1)
    mail = sink.only()
    head, _, body = mail.octets.partition(b"\r\n\r\n")
    equal((mail.sender, sorted(mail.to), body), (ANNA, sorted([BERT, CARL]), text), "the mail")
    check(b"Subject: By hand" in head.split(b"\r\n"), "no subject in", head)
    equal(head.count(b"Received:"), 2, "Received fields")


@case("Postfix to the relay to Postfix: 20 mails arrive once each")
def chain(box):
    relay, sink = behind(box)
    front = Postfix(box, relay.port, "front")
    mails = [letter(TORTURE) for _ in range(20)]
    with smtp(front.port) as sender:
        for mail in mails:
            sender.sendmail(ANNA, [BERT, CARL], mail, mail_options=["BODY=8BITMIME"])
    sink.wait_for(20)
    front.wait_idle()
    sink.postfix.wait_idle()
    found = sink.mails()
    equal(len(found), 20, "mails")
    for mail in mails:
        match = [seen for seen in found if seen.octets.endswith(mail)]
        equal(len(match), 1, "copies of one mail")
        travelled(match[0], ANNA, [BERT, CARL], mail, hops=3)


@case("Postfix to the relay to Postfix: a refusal comes back to Postfix, which bounces it to the sender")
def chain_bounces(box):
    relay, sink = behind(box)
    front = Postfix(box, relay.port, "front")
    front.submit(letter(), ANNA, [REFUSES])
    bounce, = sink.wait_for(1)  # by way of the relay, like everything that Postfix sends
    front.wait_idle()
    equal((bounce.sender, bounce.to), ("", [ANNA]), "the bounce's envelope")
    check(REFUSED.split(" ", 2)[2].encode() in b" ".join(bounce.octets.split()), "no word of the reason in", bounce.octets)
