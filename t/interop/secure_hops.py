"""secure_hops.py -- the relay with next hops that want TLS and a login: Postfix with Dovecot's SASL, OpenSMTPD, Exim."""
import base64
import re
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

from clients import ANNA, BERT, CARL
from dovecot import DovecotAuth
from exim import SecureExim
from hosts import Host
from mx import has_stored, heard, status
from opensmtpd import SecureOpenSMTPD
from parts import PATIENCE, TORTURE, case, check, equal, letter, smtp, travelled, wait_for
from postfix import Postfix
from relaying import attempt
from secured import Authority, Secured, account_file, ports, refused_at_start

USER, PASSWORD = "anna@example.org", "Grün, = und 1"
MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN")  # the strongest first
NO_TLS, NO_LOGIN = "451 4.7.5", "451 4.7.8"


def login(box, user=USER, password=PASSWORD):
    """Options of the relay."""
    file = box.new("password")
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    return "--via-user", user, "--via-pass-file", file


def relay_to(box, via, ca, *options):
    return box.server("relay", "--listen", "127.0.0.1:0", "--via", via, "--via-ca", ca, *options)


def refused_relay(box, *options, expected=1):
    """What the relay says that must not start with these options."""
    said = refused_at_start(box, "relay", "--listen", "127.0.0.1:0", *options, expected=expected)
    check(said.startswith("relay: ") and "terminate" not in said, "the relay said", said)
    return said


def end(box, server):
    server.stop()
    box.started.remove(server)


class Hop:
    """A Postfix behind the relay, and behind that a sink that shows what came through. `tls` is its level: none, may, or
    encrypt, where nothing is taken without; it has a door "implicit", one for each of `mechanisms`, and one for no AUTH at all.
    With `mechanisms` it takes the mail of USER only. Its certificate is for localhost and 127.0.0.1, or for `names`."""

    def __init__(self, box, tls="encrypt", mechanisms=(), names=(), settings=(), authority=None):
        self.box, self.sink, self.authority = box, box.sink(), authority or Authority(box)
        self.pair = self.authority.issue(*names)
        self.leaf = self.pair.certificate.read_text()
        self.pair.certificate.write_text(self.leaf + self.authority.file.read_text())  # a chain, with the trust anchor (RFC 7672 3.1.2)
        settings = [f"smtpd_tls_security_level = {tls}", f"smtpd_tls_chain_files = {self.pair.key}, {self.pair.certificate}",
                    "smtpd_tls_loglevel = 1", "smtpd_tls_received_header = yes", "notify_classes =",
                    "smtp_connection_cache_on_demand = no", *settings]
        doors = {"implicit": ["smtpd_tls_wrappermode = yes"]} if tls != "none" else {}
        if mechanisms:
            auth = DovecotAuth(box, {USER: PASSWORD}, " ".join(mechanisms).lower())
            settings += ["smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot", f"smtpd_sasl_path = inet:127.0.0.1:{auth.port}",
                         "smtpd_sasl_local_domain = $myhostname"]
            doors |= {each: [f"smtpd_sasl_mechanism_filter = {each}"] for each in mechanisms}
            doors["no AUTH"] = ["smtpd_sasl_auth_enable = no"]
        self.protocol = f"ESMTP{'S' * (tls != 'none')}{'A' * bool(mechanisms)}"
        self.postfix = Postfix(box, self.sink.port, "hop", settings=settings, doors=doors,
                               permit="permit_sasl_authenticated" if mechanisms else "permit_mynetworks")

    def relay(self, *options, door=None, host="localhost", ca=None):
        port = self.postfix.doors[door] if door else self.postfix.port
        return relay_to(self.box, f"{host}:{port}", ca or self.authority.file, *options)

    def login(self, **other):
        return login(self.box, **other)

    def log(self):
        return self.postfix.log.read_text(errors="replace")

    def delivered(self, relay, protocol=None, method=None):
        """A mail by that relay arrives octet for octet, Postfix tells by which protocol, and by which mechanism."""
        mail, before = letter(TORTURE), self.sink.mails()
        reply = heard(relay, BERT, CARL, mail=mail, options=["BODY=8BITMIME"])
        equal(reply[0], 250, f"code of {reply}")
        fresh = [each for each in self.sink.wait_for(len(before) + 1) if each.octets.endswith(mail)]
        equal(len(fresh), 1, "copies of the mail")
        travelled(fresh[0], ANNA, [BERT, CARL], mail, hops=2)
        equal(came_by(fresh[0]), protocol or self.protocol, "protocol that Postfix tells")
        if method:
            queued = re.search(rb"\(Postfix\) with \S+ id (\w+)", fresh[0].octets)[1].decode()
            said = wait_for("Postfix logs who came", lambda: re.search(rf" {queued}: client=(.*)", self.log()))[1]
            equal(re.findall(r"sasl_(?:method|username)=([^,\s]*)", said), [method, USER], "mechanism and user")

    def refused(self, relay, expected):
        """A mail by that relay is refused so, and nothing comes through."""
        before = len(self.sink.mails())
        equal(status(heard(relay, BERT)), expected, "reply")
        self.postfix.wait_idle()
        equal(len(self.sink.mails()), before, "mails")

    def attempts(self):
        """How many commands AUTH there were, once all that connected have gone; so the relays have to be stopped first."""
        wait_for("Postfix has seen all go", lambda: self.log().count(" connect from ") == self.log().count(" disconnect from "))
        return sum(int(done or tried) for tried, done in re.findall(r" auth=(\d+)(?:/(\d+))?", self.log()))


def came_by(mail):
    """The protocol in the hop's own Received field."""
    return re.search(rb"\(Postfix\) with (\S+) id", mail.octets)[1].decode()


# ---- TLS ----

@case("Postfix that wants TLS: it gets the mail at any level but none, believed or not where nobody asked for that")
def levels(box):
    hop, stranger = Hop(box), Authority(box).file
    for options in ((), ("--via-tls", "may"), ("--via-tls", "must"), ("--via-tls", "verify")):
        hop.delivered(hop.relay(*options))
    for level in ("may", "must"):
        hop.delivered(hop.relay("--via-tls", level, ca=stranger))
    reply = heard(hop.relay("--via-tls", "none"), BERT)
    check(reply[0] >= 400, "without TLS the sender heard", reply)


@case("Postfix behind the relay, implicit TLS: it gets the mail, believed or not where `may` is asked for")
def implicit(box):
    hop = Hop(box)
    for level in ("implicit", "implicit,verify", "implicit,may"):
        hop.delivered(hop.relay("--via-tls", level, door="implicit"))
    hop.delivered(hop.relay("--via-tls", "implicit,may", door="implicit", ca=Authority(box).file))


@case("Postfix of another authority, or another name, where it is verified: the sender hears 451 4.7.5 and nothing arrives")
def not_verified(box):
    hop, stranger = Hop(box), Authority(box).file
    for ways in ({}, {"door": "implicit"}):
        level = "implicit" if ways else "verify"
        hop.refused(hop.relay("--via-tls", level, ca=stranger, **ways), NO_TLS)
        hop.delivered(hop.relay("--via-tls", level, **ways))
        hop.delivered(hop.relay("--via-tls", level, host="127.0.0.1", **ways))
        other = Hop(box, names=["other.example.org"], authority=hop.authority)
        for host in ("localhost", "127.0.0.1"):
            other.refused(other.relay("--via-tls", level, host=host, **ways), NO_TLS)
        other.delivered(other.relay("--via-tls", "implicit,may" if ways else "must", **ways))


@case("Postfix that offers no STARTTLS: 451 4.7.5 where it must be, without a word of the login, else the mail arrives")
def no_starttls(box):
    hop = Hop(box, tls="none", mechanisms=MECHANISMS)
    for options in (("--via-tls", "must"), ("--via-tls", "verify"), ()):
        relay = hop.relay(*options, *hop.login())
        hop.refused(relay, NO_TLS)
        end(box, relay)
    equal(hop.attempts(), 0, "commands AUTH")
    for level in ("none", "may"):
        hop.delivered(hop.relay("--via-tls", level, *hop.login()), method="SCRAM-SHA-256")


for fault, protocols in (("whose handshake fails", "TLSv1"), ("that says 454 to STARTTLS", "none such")):
    @case(f"Postfix {fault}: `may` goes on in the clear, `must` is 451 4.7.5")
    def no_handshake(box, protocols=protocols):
        hop = Hop(box, tls="may", settings=[f"smtpd_tls_protocols = {protocols}"])
        hop.delivered(hop.relay("--via-tls", "may"), protocol="ESMTP")
        for level in ("must", "verify"):
            hop.refused(hop.relay("--via-tls", level), NO_TLS)


@case("Postfix with TLS 1.2 only, and with 1.3 only")
def versions(box):
    for version in ("TLSv1.2", "TLSv1.3"):
        hop = Hop(box, settings=[f"smtpd_tls_mandatory_protocols = {version}"])
        hop.delivered(hop.relay("--via-tls", "verify"))
        check(f"TLS connection established from unknown[127.0.0.1]: {version}" in hop.log(), "the log is\n", hop.log())


@case("a hop that speaks no TLS on the port where TLS is implicit: 4xx, and nothing arrives")
def nothing_implicit(box):
    hop = Hop(box, tls="none")
    reply = heard(hop.relay("--via-tls", "implicit"), BERT)
    check(400 <= reply[0] < 500, "the sender heard", reply)
    equal(hop.sink.mails(), [], "mails")


@case("Postfix that asks for a client certificate gets the mail; where it must have one the sender hears 4xx in its words, by each version")
def client_certificate(box):
    hop = Hop(box, settings=["smtpd_tls_ask_ccert = yes"])
    hop.delivered(hop.relay("--via-tls", "verify"))
    for version in ("TLSv1.2", "TLSv1.3"):
        hop = Hop(box, settings=["smtpd_tls_req_ccert = yes", f"smtpd_tls_CAfile = {hop.authority.file}",
                                 f"smtpd_tls_mandatory_protocols = {version}"])
        for door, level in ((None, "must"), ("implicit", "implicit")):
            hop.refused(hop.relay("--via-tls", level, door=door), "451 4.7.1")


class Encrypted(Host):
    """A scripted hop with TLS from the start, on a port of its own. It hangs up without a word of TLS."""

    def __init__(self, box, pair, **say):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair.certificate, pair.key)
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        super().__init__(listening, say)
        box.keep(self)

    def talk(self, connection):
        try:
            with self.context.wrap_socket(connection, server_side=True) as encrypted, encrypted.makefile("rb") as lines:
                self.dialogue(encrypted, lines)
        except OSError:
            pass
        self.open.discard(connection)

    def stop(self):
        self.close()

    kill = stop


@case("a hop that hangs up within TLS, at each step and behind the dot: the sender hears 4xx, not 250; a refusal is in its own words")
def hangs_up(box):
    authority = Authority(box)
    pair = authority.issue()
    for step in ("connect", "EHLO", "MAIL", "RCPT", "DATA", "dot"):
        for answer in (None, "451 4.3.0 not now", *(["550 5.7.1 never"] if step != "EHLO" else [])):  # HELO would come next
            hop = Encrypted(box, pair, **{step: answer})
            relay = relay_to(box, f"localhost:{hop.port}", authority.file, "--via-tls", "implicit")
            reply = heard(relay, BERT)
            equal(status(reply), " ".join(answer.split()[:2]) if answer else "451 4.4.2", f"reply after {answer} to {step}")
            equal(len(hop.taken), 1 if (step, answer) == ("dot", None) else 0, f"mails taken after {answer} to {step}")
            end(box, relay)


# ---- login ----

@case("Postfix with Dovecot's SASL: each of SCRAM-SHA-256, CRAM-MD5, PLAIN and LOGIN, and the strongest of all")
def mechanisms(box):
    hop = Hop(box, mechanisms=MECHANISMS)
    for door in (None, *MECHANISMS):
        hop.delivered(hop.relay("--via-tls", "verify", *hop.login(), door=door), method=door or MECHANISMS[0])
    hop.delivered(hop.relay(*hop.login()), method=MECHANISMS[0])
    hop.delivered(hop.relay("--via-tls", "implicit", *hop.login(), door="implicit"), method=MECHANISMS[0])
    for each in MECHANISMS:
        hop.delivered(hop.relay("--via-auth", each, *hop.login()), method=each)


@case("Postfix with Dovecot's SASL, and a wrong password or user: 451 4.7.8, a few attempts only, and nothing arrives")
def wrong_password(box):
    hop = Hop(box, mechanisms=MECHANISMS)
    for number, each in enumerate(MECHANISMS, 1):
        relay = hop.relay(*hop.login(password="wrong"), door=each)
        hop.refused(relay, NO_LOGIN)
        check(PASSWORD not in relay.said() and "wrong" not in relay.said(), "the password is told:", relay.said())
        end(box, relay)
        check(number <= hop.attempts() <= 3 * number, hop.attempts(), "attempts")
    hop.refused(hop.relay(*hop.login(user="nobody@example.org")), NO_LOGIN)
    hop.delivered(hop.relay(*hop.login()), method=MECHANISMS[0])


@case("a hop without AUTH, or without a mechanism that was named: 451 4.7.5, and nothing arrives")
def no_mechanism(box):
    hop = Hop(box, mechanisms=MECHANISMS)
    hop.refused(hop.relay(*hop.login(), door="no AUTH"), NO_TLS)
    hop.refused(hop.relay(*hop.login(), "--via-auth", "CRAM-MD5", door="PLAIN"), NO_TLS)
    hop.delivered(hop.relay(*hop.login(), "--via-auth", "CRAM-MD5", "--via-auth", "PLAIN", door="PLAIN"), method="PLAIN")


@case("a password goes in clear text to nobody who is not verified, unless its mechanism is named; as SCRAM or CRAM-MD5 it may")
def clear_text(box):
    plain, encrypted = Hop(box, tls="none", mechanisms=MECHANISMS), Hop(box, mechanisms=MECHANISMS)
    stranger = Authority(box).file
    ways = [(plain, ("--via-tls", level), {}) for level in ("none", "may")] + \
           [(encrypted, ("--via-tls", level), {"ca": stranger}) for level in ("may", "must")]
    for hop, options, where in ways:
        for each in ("PLAIN", "LOGIN"):
            relay = hop.relay(*options, *hop.login(), door=each, **where)
            hop.refused(relay, NO_TLS)
            end(box, relay)
    for hop in (plain, encrypted):
        equal(hop.attempts(), 0, "commands AUTH")
    for hop, options, where in ways:
        for each in ("PLAIN", "LOGIN"):
            hop.delivered(hop.relay(*options, *hop.login(), "--via-auth", each, door=each, **where), method=each)
        for each in ("SCRAM-SHA-256", "CRAM-MD5"):
            hop.delivered(hop.relay(*options, *hop.login(), door=each, **where), method=each)


@case("a password file that is missing or empty ends the relay at its start with that file's name; one that others may read is told")
def password_file(box):
    missing, empty = box.new("missing"), box.new("empty")
    empty.write_text("")
    for file in (missing, empty):
        said = refused_relay(box, "--via", "localhost:9", "--via-user", USER, "--via-pass-file", file)
        check(str(file) in said, "the relay said", said)
    options = login(box)
    options[-1].chmod(0o644)
    relay = box.server("relay", "--listen", "127.0.0.1:0", "--via", "localhost:9", *options)
    check(str(options[-1]) in relay.said(), "the relay said", relay.said())
    check(PASSWORD not in relay.said(), "the password is told")


@case("options that make no sense end the relay at its start: an unknown level, no such authority, a login by MX")
def nonsense(box):
    for options in (("--via", "localhost:9", "--via-tls", "perhaps"), ("--via", "localhost:9", "--via-tls", "implicit,perhaps"),
                    ("--via-tls", "must", *login(box))):
        refused_relay(box, *options, expected=2)
    refused_relay(box, "--via", "localhost:9", "--via-ca", box.new("missing"))


@case("20 clients at once and five mails each: all arrive once, over connections that have logged in once")
def many(box):
    hop = Hop(box, mechanisms=MECHANISMS)
    relay, mails = hop.relay(*hop.login()), [[letter(TORTURE) for _ in range(5)] for _ in range(20)]

    def send(some):
        with smtp(relay.port) as sender:
            return [attempt(sender, mail, [BERT], ["BODY=8BITMIME"])[-1][0] for mail in some]
    with ThreadPoolExecutor(len(mails)) as clients:
        equal(list(clients.map(send, mails)), [[250] * 5] * 20, "replies")
    found = hop.sink.wait_for(100)
    equal(sorted(each.octets[each.octets.index(b"Date: "):] for each in found), sorted(mail for some in mails for mail in some), "mails")
    equal({came_by(each) for each in found}, {"ESMTPSA"}, "protocols")
    hop.postfix.wait_idle()
    end(box, relay)
    check(hop.attempts() <= 25, hop.attempts(), "logins for 20 clients")


@case("a mail of 5 MiB goes through TLS to Postfix octet for octet")
def large(box):
    hop, mail = Hop(box, mechanisms=MECHANISMS), letter(TORTURE * 4000)[:5 << 20] + b"\r\n"
    equal(heard(hop.relay(*hop.login()), BERT, mail=mail, options=["BODY=8BITMIME"])[0], 250, "reply")
    travelled(hop.sink.wait_for(1)[0], ANNA, [BERT], mail, hops=2)


@case("relay to our own sink: SCRAM-SHA-256-PLUS when it is named, by STARTTLS and implicit; it is no way in the clear")
def plus(box):
    sink = Secured(box, "--auth-file", account_file(box, f"{USER}:{PASSWORD}\n"), "--auth-loopback")
    for way, port in (("verify", sink.port), ("implicit", sink.tls_port), ("none", sink.port)):
        relay = relay_to(box, f"localhost:{port}", sink.authority.file, "--via-tls", way, *login(box), "--via-auth", "SCRAM-SHA-256-PLUS")
        reply = heard(relay, BERT)
        if way == "none":
            equal(status(reply), NO_TLS, "reply in the clear")
        else:
            equal(reply[0], 250, f"code of {reply}")
    equal([(mail.fields["protocol"], mail.fields["user"]) for mail in sink.mails()], [("ESMTPSA", USER)] * 2, "protocols and users")


def taken_by(program, way, *options, password=PASSWORD, ca):
    """A relay to OpenSMTPD or Exim."""
    port, level = (program.port, "verify") if way == "STARTTLS" else (program.tls_port, "implicit")
    return relay_to(program.box, f"localhost:{port}", ca, "--via-tls", level, *login(program.box, password=password), *options)


for kind in (SecureOpenSMTPD, SecureExim):
    @case(f"{kind.name} that wants TLS and a login, by STARTTLS and implicit: mails are stored; a wrong password is 451 4.7.8")
    def others(box, kind=kind):
        authority = Authority(box)
        program = kind(box, authority.issue(rsa=True), USER, PASSWORD)
        for way in ("STARTTLS", "implicit"):
            for mechanism in ((), *(("--via-auth", each) for each in kind.mechanisms)):
                mail = letter(TORTURE)
                relay = taken_by(program, way, *mechanism, ca=authority.file)
                equal(heard(relay, BERT, CARL, mail=mail, options=["BODY=8BITMIME"])[0], 250, "reply")
                for each in wait_for("the mail", program.mails):
                    check(re.search(rb"with esmtpsa ", each.octets, re.IGNORECASE), "no ESMTPSA in", each.octets[:600])
                has_stored(program, [BERT, CARL], mail)
            equal(status(heard(taken_by(program, way, password="wrong", ca=authority.file), BERT)), NO_LOGIN, "reply with a wrong password")
            equal(status(heard(taken_by(program, way, ca=Authority(box).file), BERT)), NO_TLS, "reply with another authority")
        equal(program.mails(), [], "mails")


# ---- both sides ----

SENDER, SECRET = ANNA, "Fünf Gänse"


class Front:
    """A relaying example that wants TLS and a login too, before a hop."""

    def __init__(self, box, name, hop, *options):
        pair = hop.authority.issue()
        self.hop, self.server = hop, box.server(
            name, "--listen", "127.0.0.1:0", "--tls-port", "127.0.0.1:0", *pair.options(),
            "--auth-file", account_file(box, f"{SENDER}:{SECRET}\n"),
            "--via", f"localhost:{hop.postfix.port}", "--via-tls", "verify", "--via-ca", hop.authority.file, *hop.login(), *options)
        wait_for("both addresses are told", lambda: len(ports(self.server.said())) == 2)
        self.port, self.tls_port = ports(self.server.said())

    def smtp(self):
        sender = smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example.org", timeout=PATIENCE)
        sender.starttls(context=self.hop.authority.trust())
        return sender

    def smtps(self):
        return smtplib.SMTP_SSL("127.0.0.1", self.tls_port, local_hostname="client.example.org", timeout=PATIENCE,
                                context=self.hop.authority.trust())


def log_in(sender):
    """smtplib's own login() takes ASCII only."""
    sender.ehlo()
    equal(sender.docmd("AUTH PLAIN", base64.b64encode(f"\0{SENDER}\0{SECRET}".encode()).decode())[0], 235, "AUTH")


def received_by(mail):
    """The protocols in the Received fields, the latest first."""
    head = mail.octets.partition(b"\r\n\r\n")[0].decode(errors="replace")
    unfolded = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
    return [re.search(r" with (\w*SMTP\w*)", field)[1] for field in unfolded if field.startswith("Received:")]


for name in ("relay", "submission"):
    @case(f"{name} with TLS and login in front and behind: each Received says ESMTPSA, and without a login it is 530 5.7.0 or 550 5.7.1")
    def both_sides(box, name=name):
        hop = Hop(box, mechanisms=MECHANISMS)
        front = Front(box, name, hop, *(["--trusted", "192.0.2.0/24"] if name == "relay" else []))
        for connect in (front.smtp, front.smtps):
            mail, before = letter(TORTURE), len(hop.sink.mails())
            with connect() as sender:
                sender.ehlo()
                refusal = next(each for each in anonymous(sender) if each[0] >= 400)
                equal(status(refusal), "550 5.7.1" if name == "relay" else "530 5.7.0", "without a login")
                log_in(sender)
                equal([code for code, _ in attempt(sender, mail, [BERT, CARL], ["BODY=8BITMIME"])], [250] * 3, "replies")
            fresh = [each for each in hop.sink.wait_for(before + 1) if each.octets.endswith(mail)]
            equal(len(fresh), 1, "copies of the mail")
            travelled(fresh[0], ANNA, [BERT, CARL], mail, hops=2)
            equal(received_by(fresh[0]), ["ESMTPSA", "ESMTPSA"], "protocols of Postfix and of ours")


def anonymous(sender):
    """The replies to MAIL and RCPT of who has not logged in; afterwards all is as before."""
    replies = [sender.mail(ANNA), sender.rcpt(BERT)]
    sender.rset()
    return [(code, text.decode()) for code, text in replies]


@case("submission: what lacks Date and Message-ID gets them on its way to Postfix, once")
def completed(box):
    hop = Hop(box, mechanisms=MECHANISMS)
    with Front(box, "submission", hop).smtp() as sender:
        log_in(sender)
        equal(attempt(sender, b"From: Anna <anna@example.org>\r\nSubject: bare\r\n\r\nHello.\r\n", [BERT])[-1][0], 250, "reply")
    mail, = hop.sink.wait_for(1)
    head, _, body = mail.octets.partition(b"\r\n\r\n")
    for field in (b"Date", b"Message-ID", b"Subject"):
        equal(len(re.findall(rb"^" + field + rb":", head, re.MULTILINE | re.IGNORECASE)), 1, f"fields {field}")
    equal(body, b"Hello.\r\n", "body")
