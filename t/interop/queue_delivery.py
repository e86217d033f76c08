"""queue_delivery.py -- what the daemon has taken into its queue comes to Postfix, OpenSMTPD, Dovecot, a Maildir and a command, by
all its ways; what is refused comes back as a bounce that Python's email and Postfix understand.
"""
import email
import email.policy
import re

from clients import ANNA, BERT, CARL
from dovecot import LOCKED_OUT, USERS, Dovecot
from hosts import Street
from ledger import OFFER, Ledger
from maildir import Stored
from mx import has_stored
from nsd import Nsd
from opensmtpd import OpenSMTPD
from parts import TORTURE, case, check, equal, free_port, letter, smtp, travelled, wait_for
from postfix import BUSY, REFUSED, Postfix
from queued import FOUND, HERE, NOT_FOUND, SMTPD, WRONG, caught, hand_in, queue_id, start
from relaying import REFUSES, SLEEPS
from secure_hops import PASSWORD, USER, Hop, came_by


def submit(daemon, to, mail=None, sender=ANNA, options=(), rcpt_options=()):
    """By a client of Python's; the queue's id."""
    with smtp(daemon.port) as session:
        code, text = hand_in(session, sender, to, mail or letter(TORTURE), ["BODY=8BITMIME", *options], rcpt_options)
    equal(code, 250, f"code of {text}")
    return queue_id(text)


def by(*hops):
    """--routes DOMAIN=DESTINATION,..."""
    return ",".join(f"{domain}={where}" for domain, where in hops)


def last_replies(daemon):
    """Recipient -> what was said last."""
    return {to["to"]: to["last"] for item in daemon.items() for to in item["recipients"]}


# ---- to real servers ----

@case("smtpd to Postfix by smart host with STARTTLS and login: a mail for two goes through the queue octet for octet")
def smart_host(box):
    hop, file = Hop(box, mechanisms=("SCRAM-SHA-256", "PLAIN")), box.new("password")
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    daemon = start(box, SMTPD, relay=f"localhost:{hop.postfix.port}", relay_tls="verify", relay_ca=hop.authority.file,
                   relay_user=USER, relay_pass_file=file)
    mail = letter(TORTURE)
    submit(daemon, [BERT, CARL], mail)
    found, = hop.sink.wait_for(1)
    travelled(found, ANNA, [BERT, CARL], mail, hops=2)
    equal(came_by(found), "ESMTPSA", "protocol that Postfix tells")
    daemon.empty()
    equal(len(hop.sink.mails()), 1, "mails")


@case("smtpd with a route for each domain: one mail for eight comes to Postfix, OpenSMTPD, Dovecot twice, a Maildir and a command")
def ways(box):
    sink, opensmtpd, dovecot, mail = box.sink(), OpenSMTPD(box), Dovecot(box), letter(TORTURE)
    postfix, folder, piped, script = Postfix(box, sink.port), box.new("maildirs"), box.new("piped"), box.new("script")
    folder.mkdir()
    script.write_text(f'#!/bin/sh\n{{ echo "Delivered-To: $1"; cat; }} > "{piped}.tmp" && mv "{piped}.tmp" "{piped}"\n')
    script.chmod(0o755)
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{sink.port}", maildir=f"{folder}/{{domain}}/{{local}}", mailboxes="any", domains="here.test",
                   handlers=f"^pipe@ pipe:{script} {{recipient}}",
                   routes=by(("postfix.test", f"smtp:127.0.0.1:{postfix.port}"), ("opensmtpd.test", f"smtp:127.0.0.1:{opensmtpd.port}"),
                             ("example.test", f"lmtp:127.0.0.1:{dovecot.port}"), (".example.test", f"lmtp:unix:{dovecot.socket}")))
    to = ["bert@postfix.test", "carl@postfix.test", "bert@opensmtpd.test", *USERS, "bert@here.test", "Carl+News@here.test", "pipe@here.test"]
    submit(daemon, to, mail)
    found, = sink.wait_for(1)
    travelled(found, ANNA, to[:2], mail, hops=2)
    has_stored(opensmtpd, to[2:3], mail)
    daemon.empty()
    equal(sorted(each.to for each in dovecot.mails()), [[each] for each in sorted(USERS)], "who has the mail at Dovecot")
    for each in dovecot.mails():
        travelled(each, ANNA, each.to, mail, hops=2)
    for local, address in (("bert", to[5]), ("carl", to[6])):
        path, = folder.glob(f"here.test/{local}/new/*")
        travelled(Stored(path, [address]), ANNA, [address], mail, hops=1)
    travelled(Stored(piped, []), ANNA, [to[7]], mail, hops=1)
    submit(daemon, ["unknown@sub.example.test"])  # over the socket
    daemon.empty()
    bounce, = [Bounce(each) for each in sink.mails() if each.sender == ""]
    equal((bounce.to, [about["Status"] for about in bounce.recipients]), ([ANNA], ["5.1.1"]), "whom the bounce is for, and why")


@case("smtpd to Dovecot by LMTP: the one of three whose mail cannot be stored waits, the others have theirs once")
def one_waits(box):
    dovecot, mail = Dovecot(box), letter(TORTURE)
    daemon = start(box, SMTPD, relay=f"lmtp:127.0.0.1:{dovecot.port}")
    id = submit(daemon, [USERS[0], LOCKED_OUT, USERS[1]], mail)
    wait_for("he has been tried three times", lambda: [to["attempts"] for item in daemon.items() for to in item["recipients"]] >= [3])
    equal([(item["from"], [to["to"] for to in item["recipients"]]) for item in daemon.items()], [(ANNA, [LOCKED_OUT])], "who waits")
    check(last_replies(daemon)[LOCKED_OUT].startswith("4"), "he heard", last_replies(daemon))
    equal(sorted(each.to for each in dovecot.mails()), [[each] for each in sorted(USERS)], "who has the mail")
    daemon.cancel(id)
    daemon.empty()


# ---- by MX ----

def world(box, program_port, records="", **settings):
    """A daemon by MX, whose example.test has a first host that is down and a second one on that port."""
    zones = {"example.test": "@ MX 10 down\n@ MX 20 program\ndown A 127.0.0.2\nprogram A 127.0.0.1\n", "broken.example": None,
             "example": f"null MX 0 .\n{records}"}
    dns = Nsd(box, zones)
    return start(box, SMTPD, dns=f"127.0.0.1:{dns.port}", mx_port=program_port, **settings)


for kind in (Postfix, OpenSMTPD):
    @case(f"smtpd to {kind.__name__} by MX: the first host is down, the second has the mail, octet for octet")
    def second_mx(box, kind=kind):
        sink, mail = box.sink(), letter(TORTURE)
        program = kind(box, sink.port) if kind == Postfix else kind(box)
        daemon = world(box, program.port)
        submit(daemon, [BERT, CARL.lower()], mail)
        if kind == Postfix:
            found, = sink.wait_for(1)
            travelled(found, ANNA, [BERT, CARL.lower()], mail, hops=2)
        else:
            has_stored(program, [BERT, CARL.lower()], mail)
        daemon.empty()


@case("smtpd by MX: where the first host says 4xx to one of two, that one is tried at the second, and nobody has the mail twice")
def walk(box):
    street = Street(box)
    first, second = street.host("127.0.0.2", RCPT="450 4.2.1 not now"), street.host("127.0.0.3")
    daemon = world(box, street.port, "two MX 10 a\ntwo MX 20 b\na A 127.0.0.2\nb A 127.0.0.3\n")
    submit(daemon, ["bert@two.example", "carl@two.example"])
    daemon.empty()
    equal(sorted(to for _, all_of_them, _ in first.taken + second.taken for to in all_of_them), ["bert@two.example", "carl@two.example"], "who has it")


@case("smtpd by MX: no such domain and null MX are bounced at once, with 5.1.2 and 5.1.10; a DNS that fails is waited for")
def cannot_be(box):
    sink = box.sink()
    daemon = world(box, free_port(), routes=by(("example.org", f"smtp:127.0.0.1:{sink.port}")))
    submit(daemon, ["bert@never.example", "bert@broken.example", "bert@null.example"])
    wait_for("all have been told", lambda: sum(len(Bounce(mail).recipients) for mail in sink.mails()) >= 2)
    told = {about["Final-Recipient"]: (about["Action"], about["Status"]) for mail in sink.mails() for about in Bounce(mail).recipients}
    equal(told, {"rfc822; bert@never.example": ("failed", "5.1.2"), "rfc822; bert@null.example": ("failed", "5.1.10")}, "what was told")
    wait_for("the DNS is asked twice", lambda: [to["attempts"] for item in daemon.items() for to in item["recipients"]] >= [2])
    check(last_replies(daemon)["bert@broken.example"].startswith("451 4.4.3"), "what is waited for heard", last_replies(daemon))


@case("smtpd by MX for a route, beside a smart host: at the port and with the TLS that are said for hosts by MX")
def mx_route(box):
    sink = box.sink()
    for level, arrives in (("may", True), ("must", False)):
        daemon = world(box, sink.port, relay=f"127.0.0.1:{free_port()}", routes="example.test=mx", mx_tls=level)
        submit(daemon, [BERT])
        if arrives:
            sink.wait_for(1)
            daemon.empty()
            continue
        wait_for("it has been tried", lambda: [to["attempts"] for item in daemon.items() for to in item["recipients"]] >= [1])
        check(last_replies(daemon)[BERT].startswith("451 4.7."), "without TLS it heard", last_replies(daemon))
        equal(len(sink.mails()), 1, "mails in the clear")


# ---- bounces ----

class Bounce:
    """A notification, as Python's email reads it: fields of the message, of each recipient, and what is returned."""

    def __init__(self, mail):
        equal(mail.sender, "", "sender of a bounce")
        self.to = mail.to
        self.all = email.message_from_bytes(mail.octets, policy=email.policy.default)
        equal(self.all.get_content_type(), "multipart/report", "type")
        equal(self.all.get_param("report-type"), "delivery-status", "report-type")
        check(not self.all.defects, "defects:", self.all.defects)
        self.text, self.status, self.returned = self.all.get_payload()
        equal((self.text.get_content_type(), self.status.get_content_type()), ("text/plain", "message/delivery-status"), "types of the parts")
        self.message, *self.recipients = self.status.get_payload()
        equal(self.message["Reporting-MTA"], f"dns; {HERE}", "Reporting-MTA")
        equal(self.all["From"].addresses[0].domain, HERE, "domain of who bounces")
        check(self.all["Date"] and self.all["Message-ID"] and self.all["To"] and self.all["Subject"], "fields are missing:", self.all.keys())
        check(self.all["Auto-Submitted"], "no Auto-Submitted")


def fields(octets):
    return email.message_from_bytes(octets, policy=email.policy.default)


def one_of_three(box, program=SMTPD):
    """Postfix refuses the second of three. (the mail, what has arrived, the daemon)"""
    sink, mail = box.sink(), letter(TORTURE)
    postfix = Postfix(box, sink.port)
    daemon = start(box, program, relay=f"127.0.0.1:{postfix.port}", **({"wrong": "one"} if program == WRONG else {}))
    submit(daemon, [BERT, REFUSES, CARL], mail)
    wait_for("the mail and a bounce arrive", lambda: len(sink.mails()) >= 2, 30 if program == SMTPD else 2)
    return mail, sink, postfix, daemon


@case("smtpd to Postfix, which refuses one of three: the others have the mail, and one bounce, with all its fields, comes by way of Postfix")
def refused(box):
    mail, sink, postfix, daemon = one_of_three(box)
    daemon.empty()
    postfix.wait_idle()
    bounce, = [Bounce(each) for each in sink.mails() if each.sender == ""]
    found, = [each for each in sink.mails() if each.sender != ""]
    travelled(found, ANNA, [BERT, CARL], mail, hops=2)
    equal(bounce.to, [ANNA], "who is told")
    about, = bounce.recipients
    equal((about["Final-Recipient"], about["Action"], about["Status"]), (f"rfc822; {REFUSES}", "failed", "5.1.1"), "what is told")
    code, words = REFUSED[:9], REFUSED[10:]
    said = " ".join(about["Diagnostic-Code"].split())
    check(said.startswith(f"smtp; {code} ") and words in said, "Diagnostic-Code", said)
    check("127.0.0.1" in about["Remote-MTA"], "Remote-MTA", about["Remote-MTA"])
    check(bounce.message["Arrival-Date"], "no Arrival-Date")
    equal(bounce.returned.get_content_type(), "text/rfc822-headers", "what is returned")
    equal(fields(bounce.returned.get_payload(decode=True))["Message-ID"], fields(mail)["Message-ID"], "Message-ID of what is returned")
    check(REFUSES in bounce.text.get_content() and "behind the hills" in " ".join(bounce.text.get_content().split()), bounce.text.get_content())


@case("bounce control: a daemon that gives up a mail at the first refusal, and tells nobody, is caught")
def refused_control(box):
    caught("the mail and a bounce arrive", one_of_three, box, WRONG)


@case("smtpd to Postfix, which puts off one of three: the others have the mail once, he waits with Postfix's words until he is cancelled")
def put_off(box):
    sink, mail = box.sink(), letter(TORTURE)
    postfix = Postfix(box, sink.port)
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{postfix.port}")
    id = submit(daemon, [BERT, SLEEPS, CARL], mail)
    wait_for("he has been tried twice", lambda: [to["attempts"] for item in daemon.items() for to in item["recipients"]] == [2])
    check(last_replies(daemon)[SLEEPS].startswith(BUSY.split(" ")[0]) and "sleeps until tomorrow" in last_replies(daemon)[SLEEPS], last_replies(daemon))
    daemon.cancel(id)
    daemon.empty()
    postfix.wait_idle()
    travelled(sink.only(), ANNA, [BERT, CARL], mail, hops=2)


@case("a bounce that cannot be delivered, and mail of nobody that cannot, are dropped with a line in the log: no loop, nothing is left")
def no_loop(box):
    hop = Ledger(box, RCPT=lambda line: "550 5.1.1 nobody here" if "refused" in line else "")
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{hop.port}")
    submit(daemon, ["refused1@example.test"], sender="refused.sender@example.org")
    submit(daemon, ["refused2@example.test"], sender="")
    daemon.empty()
    submit(daemon, [BERT])
    daemon.empty()
    equal([copy.sender for copy in hop.copies], [ANNA], "senders of what was delivered")
    check(hop.main.asked <= 6, "connections:", hop.main.asked)
    check(re.search(r"refused\.sender@example\.org", daemon.said()), "no line about the bounce in", daemon.said())


# ---- what senders ask for (RFC 3461) ----

class Asking:
    """A daemon before a next hop that offers DSN or not; recipients whose name begins with `refused` are refused, `late` put off."""

    def __init__(self, box, dsn=False, **settings):
        self.hop = Ledger(box, offer=(*OFFER, "DSN") if dsn else OFFER, keep=True,
                          RCPT=lambda line: "550 5.1.1 nobody here" if "<refused" in line else "450 4.2.1 later" if "<late" in line else "")
        self.daemon = start(box, SMTPD, relay=f"127.0.0.1:{self.hop.port}", **settings)

    def bounces(self):
        with self.hop.lock:
            return [Bounce(Seen(copy)) for copy in self.hop.copies if copy.sender == ""]

    def after(self, to, options=(), rcpt_options=(), mail=None):
        """The notifications about one mail that has left the queue."""
        before = len(self.bounces())
        submit(self.daemon, [to], mail, options=options, rcpt_options=rcpt_options)
        self.daemon.empty()
        return self.bounces()[before:]


class Seen:
    def __init__(self, copy):
        self.sender, self.to, self.octets = copy.sender, list(copy.to), copy.octets


@case("NOTIFY: NEVER is told nothing, FAILURE a failure, SUCCESS that the mail was relayed to a host that knows no DSN, and without it no success")
def notify(box):
    asking = Asking(box)
    equal(asking.after("refused@example.test", rcpt_options=["NOTIFY=NEVER"]), [], "NEVER, refused")
    equal(asking.after("refused@example.test", rcpt_options=["NOTIFY=SUCCESS"]), [], "SUCCESS, refused")
    equal(asking.after(BERT), [], "nothing asked for, delivered")
    equal(asking.after(BERT, rcpt_options=["NOTIFY=FAILURE,DELAY"]), [], "FAILURE, delivered")
    failed, = asking.after("refused@example.test", rcpt_options=["NOTIFY=FAILURE"])
    relayed, = asking.after(BERT, ["ENVID=QQ+2B1"], ["NOTIFY=SUCCESS", "ORCPT=rfc822;Bert+2Bx@example.test"])
    equal((failed.recipients[0]["Action"], relayed.recipients[0]["Action"]), ("failed", "relayed"), "actions")
    equal(relayed.message["Original-Envelope-Id"], "QQ+1", "Original-Envelope-Id")
    equal(relayed.recipients[0]["Original-Recipient"], "rfc822; Bert+x@example.test", "Original-Recipient")
    check(relayed.recipients[0]["Status"].startswith("2."), "Status", relayed.recipients[0]["Status"])


@case("NOTIFY=SUCCESS of a Maildir tells that it is delivered")
def notify_maildir(box):
    folder = box.new("maildirs")
    folder.mkdir()
    asking = Asking(box, domains="here.test", maildir=f"{folder}/{{local}}", mailboxes="any")
    delivered, = asking.after("bert@here.test", rcpt_options=["NOTIFY=SUCCESS"])
    equal(delivered.recipients[0]["Action"], "delivered", "action")
    equal(len(list(folder.glob("bert/new/*"))), 1, "mails in the Maildir")


@case("a next hop with DSN is given RET, ENVID, NOTIFY and ORCPT as they came, and tells of success itself; refused, the bounce is ours")
def passed_on(box):
    asking = Asking(box, dsn=True)
    ours = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bert+2Bx@example.test"]
    equal(asking.after(BERT, ["RET=HDRS", "ENVID=QQ+2B1"], ours), [], "notifications of ours")
    about_mail, about_bert = (set(each.split()) for each in asking.hop.copies[0].parameters)
    check({"RET=HDRS", "ENVID=QQ+2B1"} <= about_mail, about_mail)
    check(about_bert == set(ours), about_bert)
    failed, = asking.after("refused@example.test", ["ENVID=QQ2"], ours)
    equal((failed.message["Original-Envelope-Id"], failed.recipients[0]["Original-Recipient"]), ("QQ2", "rfc822; Bert+x@example.test"), "fields")


@case("RET=FULL returns the mail octet for octet, RET=HDRS and nothing asked for its header only")
def returned(box):
    asking, mail = Asking(box), letter(b"All of it.\r\n" * 50)
    for options, kind in ((["RET=FULL"], "message/rfc822"), (["RET=HDRS"], "text/rfc822-headers"), ([], "text/rfc822-headers")):
        bounce, = asking.after("refused@example.test", options, mail=mail)
        equal(bounce.returned.get_content_type(), kind, f"what {options} returns")
        there = mail in b"".join(copy.octets for copy in asking.hop.copies[-1:])
        equal(there, options == ["RET=FULL"], f"the whole mail is in the bounce with {options}")


@case("a delay: the sender is told once, if he has not declined; then the mail is given up when its life is over, with one bounce")
def delay(box):
    asking = Asking(box, warn=1, life=4)
    submit(asking.daemon, ["late1@example.test"])
    submit(asking.daemon, ["late2@example.test"], rcpt_options=["NOTIFY=FAILURE"])
    submit(asking.daemon, ["late3@example.test"], rcpt_options=["NOTIFY=NEVER"])
    asking.daemon.empty()
    told = sorted((about["Final-Recipient"], about["Action"], about["Status"][:2]) for bounce in asking.bounces() for about in bounce.recipients)
    equal([(who.split("; ")[1], action) for who, action, _ in told],
          [("late1@example.test", "delayed"), ("late1@example.test", "failed"), ("late2@example.test", "failed")], "what was told")
    delayed, = [about for bounce in asking.bounces() for about in bounce.recipients if about["Action"] == "delayed"]
    check(delayed["Will-Retry-Until"] and delayed["Status"].startswith("4."), "the delay's fields:", delayed.items())


# ---- what SimpleSMTP's tests prove (70_pause, 80_cancel) ----

@case("70_pause: paused, one mail is in the queue and stays there; resumed, it is delivered")
def simple_pause(box):
    hop = Ledger(box)
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{hop.port}", paused="true")
    id = submit(daemon, [BERT])
    equal([item["id"] for item in daemon.items()], [id], "what is in the queue")
    equal((daemon.stats()["paused"], hop.main.asked), (True, 0), "paused, connections to the next hop")
    daemon.queue_tool("resume")
    daemon.empty()
    equal([copy.to for copy in hop.copies], [(BERT,)], "delivered")


@case("80_cancel: what is cancelled while paused is not delivered after resume, and what was not is; cancelled twice it is not found")
def simple_cancel(box):
    hop = Ledger(box)
    daemon = start(box, SMTPD, relay=f"127.0.0.1:{hop.port}", paused="true")
    first, second = submit(daemon, [BERT, "carl@else.test"]), submit(daemon, ["carl@example.test"])
    daemon.queue_tool("cancel", first)
    equal([item["id"] for item in daemon.items()], [second], "what is in the queue")
    equal((daemon.asked("cancel", first)[0], daemon.asked("cancel", second)[0]), (NOT_FOUND, FOUND), "cancelled again, and the other one")
    third = submit(daemon, [BERT])
    equal([item["id"] for item in daemon.items()], [third], "what is in the queue")
    daemon.queue_tool("resume")
    daemon.empty()
    equal([copy.to for copy in hop.copies], [(BERT,)], "delivered")
