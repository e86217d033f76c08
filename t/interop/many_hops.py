"""many_hops.py -- mail servers behind us: what they took from our relay is stored octet for octet, and a refusal is in their words.

As many_clients.py has it for clients: a server is a line with what we use of what it offers, and that is read from a Tap.
"""
import re

import record
from clients import ANNA, BERT, CARL
from cyrus import Cyrus
from exim import Exim
from many_clients import PASSWORD, PROGRAMS, USER, UTF8, addresses, compiled, used
from mx import heard
from opensmtpd import OpenSMTPD
from parts import PEERS, TORTURE, Server, Sink, Skipped, case, check, equal, free_ports, letter, system, travelled, wait_for
from postfix import REFUSED, Postfix
from sendmail import Sendmail
from secured import Authority
from secure_hops import login
from tap import Tap


class Keeper(Sink):
    """One of programs/ that keeps mails as our sink does, for the `user` of a `pair` by TLS only if they are given."""
    refusal, own_fields = "Nobody of that name lives behind the hills", 0

    def __init__(self, box, command, environment, pair=None):
        self.dir, self.pair = box.new("mails"), pair
        self.dir.mkdir()
        say = {"DIR": self.dir, "CERTIFICATE": pair.certificate if pair else "", "KEY": pair.key if pair else "", "USER_NAME": USER, "PASSWORD": PASSWORD}
        Server.__init__(self, box, ["/usr/bin/env", *(f"{name}={value}" for name, value in (environment | say).items()), *command])
        box.keep(self)

    def mails(self):
        """Without the field on top that tells who has logged in."""
        found = super().mails()
        for mail in found:
            mail.octets = re.sub(rb"\AAuthentication-Results:.*\r\n([ \t].*\r\n)*", b"", mail.octets)
        return found

    def tls_port(self):
        return int(re.search(r"^listening on \S*:(\d+) \(TLS\)$", self.said(), re.MULTILINE)[1])


def stands(name, features, start, where=True):
    """Registers a server: start(box) or start(box, pair) has `port`, mails(), `refusal`, what it says of refused@example.test,
    and the number of trace fields it writes itself."""
    expected = set(features.split(", "))
    mechanisms = [feature[5:] for feature in features.split(", ") if feature.startswith("AUTH ")]

    @case(f"{name} behind us: {features}", record.PLAIN and where)
    def behind(box):
        record.tried(name, "next hop", *features.split(", "), "refusals")
        server = start(box)
        tap = Tap(box, server.port, patient=b"MAIL" if "PIPELINING" in expected else b"")
        via = f"{'lmtp:' if 'LMTP' in expected else ''}127.0.0.1:{tap.port}"
        relay, thread = (box.server(program, "--listen", "127.0.0.1:0", "--via", via) for program in ("relay", "thread"))
        options = ["BODY=8BITMIME", *(["RET=HDRS", "ENVID=QQ314159"] if "DSN" in expected else [])]
        arrives(server, relay, (BERT, CARL), options)
        arrives(server, thread, (BERT, CARL), [])
        if "SMTPUTF8" in expected:
            arrives(server, relay, UTF8[1:], ["SMTPUTF8", "BODY=8BITMIME"])
        for front in (relay, thread):
            code, words = heard(front, "refused@example.test")
            check(code == 550 and server.refusal in words, "the sender heard", code, words)
        seen = used(tap.commands) | ({"PIPELINING"} if tap.pipelined else set())
        if expected & {"STARTTLS", "TLS"}:
            seen |= securely(box)
        equal(sorted(seen), sorted(expected), "what we used")

    def securely(box):
        authority, seen = Authority(box), set()
        server = start(box, authority.issue(rsa=True))
        for way in sorted(expected & {"STARTTLS", "TLS"}):
            for mechanism in mechanisms or [""]:
                port = server.tls_port() if way == "TLS" else server.port
                who = [*login(box, USER, PASSWORD), "--via-auth", mechanism] if mechanism else []
                relay = box.server("relay", "--listen", "127.0.0.1:0", "--via", f"localhost:{port}", "--via-ca", authority.file,
                                   "--via-tls", "implicit" if way == "TLS" else "verify", *who)
                arrives(server, relay, (BERT, CARL), ["BODY=8BITMIME"])
                seen |= {way, f"AUTH {mechanism}"} if mechanism else {way}
        return seen

    def arrives(server, front, to, options):
        mail = letter(TORTURE)
        name_of_it = mail.partition(b"Message-ID: ")[2].partition(b"\r\n")[0]
        code, words = heard(front, *to, mail=mail, options=options)
        check(code == 250, "the sender heard", code, words)
        fresh = wait_for(f"{name} has the mail", lambda: addresses(now := [each for each in server.mails() if name_of_it in each.octets]) == sorted(to) and now)
        for each in fresh:
            travelled(each, ANNA, each.to, mail, hops=1 + server.own_fields)


def with_fields(kind):
    """A server of a Cell, which writes a Received field of its own; start() as stands() wants it."""
    def start(box):
        server = kind(box)
        server.own_fields = 1
        return server
    return start


class Behind:
    """A Postfix and the sink behind it, which shows what it took."""
    refusal, own_fields = REFUSED.partition(" ")[2].partition(" ")[2], 1

    def __init__(self, box):
        self.sink = box.sink()
        self.postfix = Postfix(box, self.sink.port)
        self.port, self.mails = self.postfix.port, self.sink.mails


class SendmailBehind(Sendmail):
    """A Sendmail and the sink behind it."""

    def __init__(self, box):
        sink = box.sink()
        super().__init__(box, sink.port)
        self.mails = sink.mails


def aiosmtpd(box, pair=None):
    packages = PEERS / "aiosmtpd/usr/lib/python3/dist-packages"
    if not packages.exists():
        raise Skipped("aiosmtpd is not under build/peers (see t/interop/peers)")
    record.met("aiosmtpd")
    return Keeper(box, ["/usr/bin/python3", "-B", PROGRAMS / "keep_by_aiosmtpd.py"], {"PYTHONPATH": packages}, pair)


def npm(folder, package, program, own_fields=0):
    """A server of npm's packages, which t/bench/peers.sh gets."""
    def start(box, pair=None):
        modules = PEERS / folder / "node_modules"
        if not (modules / package).exists():
            raise Skipped(f"{package} is not under build/peers (see t/bench/peers.sh)")
        record.met(folder)
        command, environment = system("node")
        port, smtps = free_ports(2)
        keeper = Keeper(box, [*command, PROGRAMS / program], environment | {"NODE_PATH": modules, "HARAKA": box.new("haraka"), "PORT": port, "SMTPS": smtps}, pair)
        keeper.own_fields = own_fields
        return keeper
    return start


def go_smtp(box, pair=None):
    command, environment = compiled(box, "keep_by_go_smtp")
    return Keeper(box, command, environment, pair)


stands("Postfix", "EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8, CHUNKING, DSN", Behind)
stands("Exim", "EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8, CHUNKING", with_fields(Exim))
stands("OpenSMTPD", "EHLO, SIZE, 8BITMIME, DSN", with_fields(OpenSMTPD))
stands("Sendmail", "EHLO, PIPELINING, SIZE, 8BITMIME, DSN", SendmailBehind)
stands("aiosmtpd", "EHLO, SIZE, 8BITMIME, SMTPUTF8, STARTTLS, AUTH PLAIN, AUTH LOGIN", aiosmtpd)
stands("smtp-server (npm)", "EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5",
       npm("nodemailer", "smtp-server", "keep_by_smtp_server.js"), record.ALL)
stands("Haraka", "EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", npm("haraka", "Haraka", "keep_by_haraka.js", 1), record.ALL)
stands("go-smtp", "EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8, STARTTLS, TLS, AUTH PLAIN", go_smtp, record.ALL)
stands("Cyrus", "LMTP, PIPELINING, SIZE, 8BITMIME", Cyrus, record.ALL)
