"""many_clients.py -- mail programs in front of the sink, each by every way it has; what they use of SMTP must be what is said here.

A program is a line: its name, what it uses, and a function that has it send a mail along a Lane. What it used is read from the
sink's transcript and from a Tap, so that the table that is made of it (t/interop/matrix) tells what was seen, not what is believed.
"""
import os
import re
import shlex
import smtplib as python_smtp
import ssl
from pathlib import Path
from typing import NamedTuple

import record
from cell import ENTER, UNSHARE, Cell
from clients import ANNA, BERT, CARL
from exim import Exim
from opensmtpd import OpenSMTPD
from parts import PEERS, TREE, Sink, Server, EXAMPLES, Skipped, case, check, client, equal, letter, peer, smtp, system, travelled, wait_for
from postfix import Postfix
from sendmail import Sendmail
from secured import Authority, account_file, ports
from tap import Tap

USER, PASSWORD = "anna", "green1+pencil"
UTF8 = "jürgen@example.org", "用户@example.test"
# What no program that composes or stores mail takes offence at.
TEXT = b".\r\n..\r\n...\r\n.a\r\n\r\n" + "Grüße, 日本\r\n".encode() + b"From the start\r\n\tat a tab\r\nQUIT\r\n\r\nend\r\n"
KINDS = {True: "octet for octet", "below": "below its Received", False: "its own header", "within": "its own header"}
PROGRAMS = TREE / "t/interop/programs"


class Lane(NamedTuple):
    """Where to a mail goes, and how: `way` is "clear", "STARTTLS", "TLS" from the start, or "LMTP", in the clear; with a
    mechanism as USER."""
    box: object
    port: int
    way: str = "clear"
    ca: object = ""
    mechanism: str = ""
    to: tuple = (BERT, CARL)
    sender: str = ANNA
    utf8: bool = False

    def file(self, name, text):
        """A file that nobody else may read; some programs insist on that."""
        path = self.box.new(name)
        path.touch(0o600)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def say(self):
        """For those of programs/."""
        return {"PORT": str(self.port), "WAY": self.way, "CA": str(self.ca), "MECHANISM": self.mechanism, "USER_NAME": USER,
                "PASSWORD": PASSWORD, "FROM": self.sender, "TO": " ".join(self.to), "UTF8": "1" if self.utf8 else ""}


class Wiretap(Sink):
    """A sink that keeps a transcript, with STARTTLS and TLS where there is an authority, and then for USER's mail only if so said."""

    def __init__(self, box, *options, authority=None, login=True):
        self.dir, self.authority = box.new("mails"), authority
        self.dir.mkdir()
        if authority:
            users = ["--auth-file", account_file(box, f"{USER}:{PASSWORD}\n"), "--require-auth"] if login else []
            options = (*options, "--tls-port", "127.0.0.1:0", *authority.issue(rsa=True).options(), *users)
        Server.__init__(self, box, [EXAMPLES / "sink"], "--listen", "127.0.0.1:0", "--transcript", "--dir", self.dir, *options)
        box.keep(self)
        if authority:
            self.tls_port = wait_for("both addresses are told", lambda: ports(self.said())[1:])[0]

    def commands(self):
        """The lines of clients so far."""
        return re.findall(r"^\S+ \S+ C: (.*)$", self.errors.read_text(errors="replace"), re.MULTILINE)


def used(commands):
    """The features of SMTP in these commands."""
    seen = set()
    for line in commands:
        verb, _, rest = line.partition(" ")
        words = [word.partition("=")[0].upper() for word in rest.rpartition(">")[2].split()]
        verb = verb.upper()
        if verb in ("HELO", "EHLO", "LHLO", "STARTTLS"):
            seen.add(verb.replace("LHLO", "LMTP"))
        elif verb == "AUTH":
            seen.add(f"AUTH {rest.split()[0].upper()}")
        elif verb == "BDAT":
            seen.add("CHUNKING")
        elif verb == "MAIL":
            seen |= {name for name in ("SIZE", "SMTPUTF8") if name in words}
            seen |= {"DSN"} if {"RET", "ENVID"} & set(words) else set()
            seen |= {kind for kind in ("8BITMIME", "BINARYMIME") if f"BODY={kind}" in line.upper()}
        elif verb == "RCPT" and {"NOTIFY", "ORCPT"} & set(words):
            seen.add("DSN")
    return seen


def is_there(seen, sent, exact):
    """The mail as it was sent; of programs that write the header themselves, what was given to them."""
    if exact is True:
        equal(seen.octets, sent, "message")
        return
    if exact == "below":
        travelled(seen, seen.sender, seen.to, sent, hops=1)
        return
    head, _, body = sent.partition(b"\r\n\r\n")
    found, _, text = seen.octets.partition(b"\r\n\r\n")
    if exact == "within":
        check(body in text, "the body is not in", text)
    else:
        equal(text.rstrip(b"\r\n"), body.rstrip(b"\r\n"), "body")
    subject = re.search(rb"^Subject: .*$", head, re.MULTILINE)[0].rstrip()
    check(subject in [line.rstrip() for line in found.split(b"\n")], subject, "is not in", found)


def addresses(mails):
    return sorted(address for mail in mails for address in mail.to)


def sends(name, features, send, exact=True, where=True, text=TEXT, patient=b"MAIL"):
    """Registers a program: what it uses, in the clear, then with TLS and AUTH by each way and mechanism among the features."""
    expected = set(features.split(", "))
    mechanisms = sorted(feature[5:] for feature in expected if feature.startswith("AUTH "))
    ways = [way for way in ("STARTTLS", "TLS") if way in expected]

    @case(f"{name} sends to us: {features}", record.PLAIN and where)
    def by_all_ways(box):
        record.tried(name, "client", *features.split(", "), KINDS[exact])
        sink, seen = Wiretap(box), set()
        tap = Tap(box, sink.port, patient=patient if "PIPELINING" in expected else b"")
        lanes = [Lane(box, tap.port)]
        if "SMTPUTF8" in expected:
            lanes.append(Lane(box, tap.port, to=UTF8[1:], sender=UTF8[0], utf8=True))
        for lane in lanes:
            passes(sink, lane, tuple(lane.to))
        seen |= used(sink.commands()) | ({"PIPELINING"} if tap.pipelined else set())
        if "LMTP" in expected:
            local = Wiretap(box, "--lmtp")
            passes(local, Lane(box, local.port, "LMTP"), (BERT, CARL))
            seen |= used(local.commands())
        if ways:
            authority = Authority(box)
            secure = Wiretap(box, authority=authority, login=bool(mechanisms))
            for number in range(max(len(ways), len(mechanisms))):  # each way and each mechanism once at least
                way, mechanism = ways[number % len(ways)], mechanisms[number % len(mechanisms)] if mechanisms else ""
                port = secure.tls_port if way == "TLS" else secure.port
                passes(secure, Lane(box, port, way, authority.file, mechanism), (BERT, CARL), user=USER if mechanism else "")
                seen |= {way}  # or the mail would not be there
            seen |= used(secure.commands())
        elif mechanisms:
            secure = Wiretap(box, "--auth-loopback", "--auth-file", account_file(box, f"{USER}:{PASSWORD}\n"), "--require-auth")
            for mechanism in mechanisms:
                passes(secure, Lane(box, secure.port, mechanism=mechanism), (BERT, CARL), user=USER)
            seen |= used(secure.commands())
        equal(sorted(seen), sorted(expected), "what it used")

    def passes(sink, lane, to, user=""):
        before, mail = {each.fields["id"] for each in sink.mails()}, letter(text)
        send(lane, mail)
        fresh = wait_for(f"{name}'s mail is there", lambda: addresses(now := [each for each in sink.mails() if each.fields["id"] not in before]) == sorted(to) and now)
        for each in fresh:
            equal(each.sender, lane.sender, "sender")
            equal(each.fields["user"], user, "user")
            check(bool(each.fields["cipher"]) == (lane.way in ("STARTTLS", "TLS")), f"{lane.way}, but the cipher is {each.fields['cipher']!r}")
            is_there(each, mail, exact)


def lines(mail):
    """As files and pipes hold it here."""
    return mail.replace(b"\r\n", b"\n")


def body(mail):
    return lines(mail).partition(b"\n\n")[2]


def subject(mail):
    return re.search(rb"^Subject: (.*?)\r?$", mail, re.MULTILINE)[1].decode()


def mailer(path, **environment):
    command, rest = peer("mailers", path)
    return command, rest | environment


# ---- programs that are given the whole mail ----

def curl(lane, mail):
    login = ["--user", f"{USER}:{PASSWORD}", "--login-options", f"AUTH={lane.mechanism}"] if lane.mechanism else []
    client(system("curl"), "-sS", *(["--ssl-reqd"] if lane.way == "STARTTLS" else []), *(["--cacert", lane.ca] if lane.ca else []), *login,
           f"smtp{'s' * (lane.way == 'TLS')}://localhost:{lane.port}/client.example.org", "--mail-from", lane.sender,
           *(word for to in lane.to for word in ("--mail-rcpt", to)), "-T", lane.file("mail", mail))


def swaks(lane, mail):
    tls = {"clear": ["--pipeline"], "LMTP": ["--protocol", "LMTP"], "STARTTLS": ["--tls"], "TLS": ["--tls-on-connect"]}[lane.way]
    login = ["--auth", lane.mechanism, "--auth-user", USER, "--auth-password", PASSWORD] if lane.mechanism else []
    client(peer("swaks", "usr/bin/swaks"), "--server", "127.0.0.1", "--port", lane.port, "--helo", "client.example.org", *tls, *login,
           "--from", lane.sender, "--to", ",".join(lane.to), "--data", f"@{lane.file('mail', lines(mail).removesuffix(NEWLINE))}", "--suppress-data")


NEWLINE = b"\n"


def msmtp(lane, mail):
    tls = {"clear": ["--tls=off"], "LMTP": ["--tls=off", "--protocol=lmtp"], "STARTTLS": ["--tls=on", "--tls-starttls=on"], "TLS": ["--tls=on", "--tls-starttls=off"]}[lane.way]
    trust = [f"--tls-trust-file={lane.ca}"] if lane.ca else []
    login = [f"--auth={lane.mechanism.lower()}", f"--user={USER}",
             f"--passwordeval=cat {shlex.quote(str(lane.file('password', PASSWORD)))}"] if lane.mechanism else []
    dsn = [] if lane.utf8 else ["--dsn-notify=failure", "--dsn-return=headers"]
    client(peer("msmtp", "usr/bin/msmtp"), "-C", "/dev/null", "--host=localhost", f"--port={lane.port}", "--domain=client.example.org",
           f"--from={lane.sender}", *tls, *trust, *login, *dsn, "--", *lane.to, stdin=lines(mail))


def smtplib(lane, mail):
    context = ssl.create_default_context(cafile=lane.ca) if lane.ca else None
    with (python_smtp.SMTP_SSL("localhost", lane.port, "client.example.org", timeout=30, context=context) if lane.way == "TLS" else
          python_smtp.SMTP("localhost", lane.port, "client.example.org", timeout=30)) as session:
        session.ehlo()
        if lane.way == "STARTTLS":
            session.starttls(context=context)
            session.ehlo()
        if lane.mechanism:
            session.user, session.password = USER, PASSWORD
            session.auth(lane.mechanism, getattr(session, "auth_" + lane.mechanism.lower().replace("-", "_")))
        send_by(session, lane, mail)


def send_by(session, lane, mail):
    options = ["SMTPUTF8"] if lane.utf8 else ["RET=HDRS", "ENVID=QQ314159"]
    session.sendmail(lane.sender, list(lane.to), mail, mail_options=["BODY=8BITMIME", *options], rcpt_options=[] if lane.utf8 else ["NOTIFY=FAILURE"])


def script(program, environment, name):
    """A way to send by one of programs/."""
    def send(lane, mail):
        command, rest = program()
        client(([*command, str(PROGRAMS / name)], rest | environment() | lane.say()), stdin=mail)
    return send


def python():
    record.met("python3")
    return ["/usr/bin/python3", "-B"], {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def modules(path):
    if not (PEERS / "mailers" / path).exists():
        raise Skipped("mailers is not under build/peers (see t/interop/peers)")
    record.met("mailers")
    return str(PEERS / "mailers" / path)


def perl_modules():
    return {"PERL5LIB": mailer("usr/bin/sendemail")[1]["PERL5LIB"]}


def opensmtpd_smtp(lane, mail):
    way = {"clear": "smtp+notls", "STARTTLS": "smtp+tls", "TLS": "smtps"}[lane.way]
    login = f"{USER}:{PASSWORD}@" if lane.mechanism else ""
    client(peer("opensmtpd", "usr/bin/smtp"), "-C", "-F", lane.sender, "-H", "client.example.org", "-s", f"{way}://{login}localhost:{lane.port}",
           *lane.to, stdin=lines(mail))


def git_send_email(lane, mail):
    tls = {"clear": [], "STARTTLS": ["--smtp-encryption=tls"], "TLS": ["--smtp-encryption=ssl"]}[lane.way]
    trust = [f"--smtp-ssl-cert-path={lane.ca}"] if lane.ca else []
    login = [f"--smtp-user={USER}", f"--smtp-pass={PASSWORD}", f"--smtp-auth={lane.mechanism}"] if lane.mechanism else []
    (program,), environment = mailer("usr/lib/git-core/git-send-email", GIT_CONFIG_NOSYSTEM="1", HOME=str(lane.box.folder), GIT_CEILING_DIRECTORIES=str(lane.box.folder),
                                     GIT_EXEC_PATH="", PERL_HASH_SEED="0")
    del environment["GIT_EXEC_PATH"]
    patch = lane.file("0001.patch", b"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n" + lines(mail))
    client((["/usr/bin/perl", program], environment), "--smtp-server=localhost", f"--smtp-server-port={lane.port}", "--smtp-domain=client.example.org",
           *tls, *trust, *login, f"--from=Anna <{lane.sender}>", f"--envelope-sender={lane.sender}", *(f"--to={to}" for to in lane.to), "--no-thread", "--suppress-cc=all", "--confirm=never", "--no-validate",
           "--transfer-encoding=8bit", "--8bit-encoding=UTF-8", patch)


def in_peer(name, path, *arguments):
    def program():
        (found,), environment = peer(name, path)
        return [found, *arguments], environment
    return program


def ruby():
    root = PEERS / "ruby"
    folders = [*root.glob("usr/lib/ruby/gems/*/gems/net-*/lib"), *root.glob("usr/lib/ruby/3*"), *root.glob("usr/lib/*/ruby/3*"), root / "usr/lib/ruby/vendor_ruby"]
    return {"RUBYLIB": ":".join(map(str, folders))}


def java(lane, mail):
    """Compiled anew each time, which Java does by itself for one file."""
    if not (PEERS / "java/.complete").exists():
        raise Skipped("java is not under build/peers (see t/interop/peers)")
    command, environment = system("java")
    record.met("java")
    jars = ":".join(str(PEERS / f"java/usr/share/java/jakarta-{each}.jar") for each in ("mail", "mail-dsn", "activation"))
    trust = []
    if lane.ca:
        store = lane.box.new("trust.p12")
        client(system("keytool"), "-importcert", "-noprompt", "-alias", "ca", "-file", lane.ca, "-keystore", store, "-storetype", "PKCS12", "-storepass", "secret")
        trust = [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=secret"]
    client(([*command, "-XX:TieredStopAtLevel=1", *trust, "-cp", jars, str(PROGRAMS / "SendByJakartaMail.java")], environment | lane.say()), stdin=mail)


def compiled(box, name):
    """A Go program of programs/, as peer() has programs."""
    (compiler,), environment = peer("golang", "usr/lib/go-1.19/bin/go")
    program = box.folder / name
    if not program.exists():
        own = {"GOROOT": PEERS / "golang/usr/lib/go-1.19", "GOPATH": PEERS / "golang/usr/share/gocode", "GOCACHE": PEERS / "golang-cache",
               "GO111MODULE": "off", "CGO_ENABLED": "0"}
        client(([compiler, "build", "-o", str(program), str(PROGRAMS / f"{name}.go")], environment | {each: str(value) for each, value in own.items()}))
    return [str(program)], environment


def go(lane, mail):
    command, environment = compiled(lane.box, "send_by_go")
    client((command, environment | lane.say()), stdin=lines(mail))


# ---- programs that write the header, or part of it ----

def mutt(lane, mail):
    secure = {"clear": ["unset ssl_starttls", "unset ssl_force_tls"], "STARTTLS": ["set ssl_starttls", "set ssl_force_tls"], "TLS": ["set ssl_force_tls"]}[lane.way]
    login = [f'set smtp_pass = "{PASSWORD}"', f'set smtp_authenticators = "{lane.mechanism.lower()}"'] if lane.mechanism else []
    settings = [f'set smtp_url = "smtp{"s" * (lane.way == "TLS")}://{USER + "@" if lane.mechanism else ""}localhost:{lane.port}/"', *secure, *login,
                *([f'set certificate_file = "{lane.ca}"'] if lane.ca else []), 'set hostname = "client.example.org"',
                f'set from = "{lane.sender}"', f'set envelope_from_address = "{lane.sender}"', "set use_envelope_from", "set use_8bitmime", "set allow_8bit",
                'set send_charset = "utf-8"', 'set charset = "utf-8"', "unset copy", "unset record", "unset text_flowed", "set ssl_verify_host",
                *([] if lane.utf8 else ['set dsn_notify = "failure"', 'set dsn_return = "hdrs"'])]
    client(mailer("usr/bin/mutt", HOME=str(lane.box.folder)), "-n", "-F", lane.file("muttrc", "\n".join(settings) + "\n"), "-s", subject(mail), "--", *lane.to, stdin=body(mail))


def s_nail(lane, mail):
    secure = {"clear": ["-S", "smtp-config=-all"], "STARTTLS": ["-S", "smtp-use-starttls"], "TLS": []}[lane.way]
    login = ["-S", f"smtp-auth={lane.mechanism.lower()}"] if lane.mechanism else ["-S", "smtp-auth=none"]
    client(peer("s-nail", "usr/bin/s-nail"), "-:/", "-S", "v15-compat", "-S",
           f"mta=smtp{'s' * (lane.way == 'TLS')}://{USER + ':' + PASSWORD.replace('=', '%3D').replace('+', '%2B') + '@' if lane.mechanism else ''}localhost:{lane.port}",
           *secure, *login, *(["-S", f"tls-ca-file={lane.ca}", "-S", "tls-ca-no-defaults", "-S", "tls-verify=strict"] if lane.ca else []), "-S", "sendwait",
           "-S", "hostname=client.example.org", "-S", f"from={lane.sender}", "-S", "sendcharsets=utf-8", "-S", "ttycharset=utf-8",
           "-S", "mime-encoding=8bit", "-s", subject(mail), *lane.to, stdin=body(mail))


def nullmailer(lane, mail):
    options = {"host": "localhost", "port": lane.port}
    if lane.mechanism:
        options |= {"user": USER, "pass": PASSWORD} | ({"auth-login": None} if lane.mechanism == "LOGIN" else {})
    if lane.way != "clear":
        options |= {"starttls" if lane.way == "STARTTLS" else "tls": None, "x509cafile": lane.ca}
    queued = lane.file("queued", f"{lane.sender}\n{NEWLINE.decode().join(lane.to)}\n\n".encode() + lines(mail))
    (program,), environment = mailer("usr/lib/nullmailer/smtp", HELOHOST="client.example.org")
    client((["/bin/sh", "-c", 'exec "$0" 3< "$1"', program, str(queued)], environment),
           stdin="".join(f"{name}\n" if value is None else f"{name}={value}\n" for name, value in options.items()).encode() + NEWLINE)


def ssmtp(lane, mail):
    settings = {"mailhub": f"localhost:{lane.port}", "hostname": "client.example.org", "FromLineOverride": "YES", "UseTLS": "YES" if lane.way != "clear" else "NO",
                "UseSTARTTLS": "YES" if lane.way == "STARTTLS" else "NO"}
    if lane.mechanism:
        settings |= {"AuthUser": USER, "AuthPass": PASSWORD, "AuthMethod": lane.mechanism}
    client(mailer("usr/sbin/ssmtp"), "-C", lane.file("ssmtp.conf", "".join(f"{name}={value}\n" for name, value in settings.items())), "-f", lane.sender, *lane.to, stdin=lines(mail))


def esmtp(lane, mail):
    settings = [f"hostname = localhost:{lane.port}", "helo = client.example.org"]
    client(mailer("usr/bin/esmtp", HOME=str(lane.box.folder)), "-C", lane.file("esmtprc", "\n".join(settings) + "\n"), "-N", "failure", "-R", "hdrs",
           "-f", lane.sender, *lane.to, stdin=lines(mail))


def sendemail(lane, mail):
    login = ["-xu", USER, "-xp", PASSWORD] if lane.mechanism else []
    client(mailer("usr/bin/sendemail", **({"SSL_CERT_FILE": str(lane.ca)} if lane.ca else {})), "-q", "-f", lane.sender, "-t", *lane.to, "-s", f"localhost:{lane.port}", "-u", subject(mail), "-o", "message-charset=utf-8",
           "-o", f"tls={'yes' if lane.way == 'STARTTLS' else 'no'}", "-o", "fqdn=client.example.org", *login, stdin=body(mail))


class Dma(Cell):
    """The DragonFly Mail Agent, whose files have one place: it is run once, in a small system of its own."""
    name, users = "mailers", (("dma", 64031), ("mail", 8))

    def __init__(self, lane):
        if os.geteuid() != 0:
            raise Skipped("dma must be started by root")
        record.met("mailers")
        self.box, self.peer, self.hostname, self.root = lane.box, PEERS / self.name, "client.example.org", lane.box.new("dma.root")
        self.furnish()
        self.folder("var/spool/dma", "mail", 0o2775)
        settings = ["SMARTHOST localhost", f"PORT {lane.port}", "MAILNAME client.example.org", "NULLCLIENT", "AUTHPATH /etc/dma/auth.conf"]
        settings += {"clear": ["INSECURE"], "STARTTLS": ["SECURETRANSFER", "STARTTLS"], "TLS": ["SECURETRANSFER"]}[lane.way]
        self.write("etc/dma/dma.conf", "\n".join(settings) + "\n")
        self.write("etc/dma/auth.conf", f"{USER}|localhost:{PASSWORD}\n" if lane.mechanism else "")
        self.write("etc/aliases", "")

    def send(self, lane, mail):
        client(([*UNSHARE, ENTER, "sh", str(self.root), str(self.peer), "/usr/sbin/dma"], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}),
               "-D", "-i", "-f", lane.sender, *lane.to, stdin=lines(mail))


def dma(lane, mail):
    Dma(lane).send(lane, mail)


# ---- servers that pass on what they have taken ----

def hand_over(lane, mail, port):
    with smtp(port) as session:
        send_by(session, lane, mail)


def end(lane, server):
    lane.box.started.remove(server)
    server.stop()


def postfix(lane, mail):
    settings = [f"relayhost = [localhost]:{lane.port}", f"smtp_tls_security_level = {'none' if lane.way == 'clear' else 'secure'}",
                f"smtp_tls_wrappermode = {'yes' if lane.way == 'TLS' else 'no'}", f"smtp_tls_CAfile = {lane.ca}"]
    if lane.mechanism:
        plugins = next(PEERS.glob("mailers/usr/lib/*/sasl2"), "")
        settings += [f"import_environment = MAIL_CONFIG MAIL_LOGTAG POSTLOG_SERVICE POSTLOG_HOSTNAME LANG=C LD_LIBRARY_PATH SASL_PATH={plugins}",
                     "smtp_sasl_auth_enable = yes", f"smtp_sasl_password_maps = static:{USER}:{PASSWORD}", "smtp_sasl_security_options = noanonymous",
                     f"smtp_sasl_mechanism_filter = {lane.mechanism}"]
    server = Postfix(lane.box, lane.port, settings=settings)
    hand_over(lane, mail, server.port)
    server.wait_idle()
    end(lane, server)


EXIM = """\
primary_hostname = {hostname}
local_interfaces = 127.0.0.1
hosts_treat_as_local = *
host_lookup =
rfc1413_query_timeout = 0s
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
tls_advertise_hosts =
keep_environment =
acl_smtp_rcpt = accept
acl_smtp_data = accept
queue_run_in_order

begin routers
on:
  driver = manualroute
  route_list = * localhost byname
  self = send
  transport = on

begin transports
on:
  driver = smtp
  port = {port}
  protocol = {protocol}
  hosts_require_tls = {tls}
  hosts_avoid_tls = {no_tls}
  tls_verify_certificates = /etc/exim4/ca.pem
  tls_verify_hosts = {tls}
  hosts_require_auth = {auth}

begin authenticators
{authenticator}
"""
EXIM_LOGIN = {"PLAIN": "plain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^{user}^{password}\n",
              "LOGIN": "login:\n  driver = plaintext\n  public_name = LOGIN\n  client_send = : {user} : {password}\n",
              "CRAM-MD5": "cram:\n  driver = cram_md5\n  public_name = CRAM-MD5\n  client_name = {user}\n  client_secret = {password}\n"}


class EximOn(Exim):
    """Passes everything on along a lane."""

    def __init__(self, lane):
        self.lane = lane
        super().__init__(lane.box)

    def command(self, options, **_):
        lane, secure = self.lane, self.lane.way in ("STARTTLS", "TLS")
        self.write("etc/exim4/ca.pem", Path(lane.ca).read_text() if lane.ca else "")
        self.write("etc/exim4/exim4.conf", EXIM.format(
            hostname=self.hostname, port=lane.port, protocol={"TLS": "smtps", "LMTP": "lmtp"}.get(lane.way, "smtp"), tls="*" if secure else "", no_tls="" if secure else "*",
            auth="*" if lane.mechanism else "", authenticator=EXIM_LOGIN.get(lane.mechanism, "").format(user=USER, password=PASSWORD)))
        return ["/usr/sbin/exim4", "-bdf", *options]


def exim(lane, mail):
    server = EximOn(lane)
    hand_over(lane, mail, server.port)


OPENSMTPD = """\
table logins {{ hop = "{user}:{password}" }}
listen on 127.0.0.1 port {listen} hostname {hostname}
action out relay host "{way}://{label}localhost:{port}" {auth}
match from any for any action out
"""


class OpenSMTPDOn(OpenSMTPD):
    """Passes everything on along a lane."""

    def __init__(self, lane):
        self.lane = lane
        super().__init__(lane.box)

    def command(self, listen, auth=""):
        lane, way = self.lane, {"clear": "smtp+notls", "STARTTLS": "smtp+tls", "TLS": "smtps"}[self.lane.way]
        for name in ("certs/ca-certificates.crt", "cert.pem"):
            self.write(f"etc/ssl/{name}", Path(lane.ca).read_text() if lane.ca else "")
        return ["/usr/sbin/smtpd", "-d", "-v", "-f", self.write("etc/smtpd.conf", OPENSMTPD.format(
            user=USER, password=PASSWORD, listen=self.port, hostname=self.hostname, way=way, port=lane.port,
            label="hop@" if lane.mechanism else "", auth="auth <logins>" if lane.mechanism else ""))]


def opensmtpd(lane, mail):
    server = OpenSMTPDOn(lane)
    with smtp(server.port) as session:
        session.sendmail(lane.sender, list(lane.to), mail)


def sendmail(lane, mail):
    server = Sendmail(lane.box, lane.port, lane.ca)
    hand_over(lane, mail, server.port)


sends("Sendmail", "EHLO, PIPELINING, SIZE, 8BITMIME, DSN, STARTTLS", sendmail, exact="below", patient=b"RCPT")
sends("Postfix", "EHLO, PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5, AUTH SCRAM-SHA-256", postfix, exact="below")
sends("Exim", "EHLO, PIPELINING, CHUNKING, SIZE, SMTPUTF8, DSN, LMTP, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", exim, exact="below")
sends("OpenSMTPD", "EHLO, STARTTLS, TLS, AUTH PLAIN", opensmtpd, exact="below")
sends("curl", "EHLO, SIZE, STARTTLS, TLS, SMTPUTF8, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", curl)
sends("swaks", "EHLO, PIPELINING, LMTP, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", swaks)
sends("msmtp", "EHLO, PIPELINING, DSN, LMTP, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5, AUTH SCRAM-SHA-256", msmtp)
sends("smtplib (Python)", "EHLO, SIZE, 8BITMIME, SMTPUTF8, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", smtplib)
sends("aiosmtplib", "EHLO, SIZE, 8BITMIME, SMTPUTF8, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5",
      script(python, lambda: {"PYTHONPATH": modules("usr/lib/python3/dist-packages")}, "send_by_aiosmtplib.py"))
sends("Nodemailer", "EHLO, 8BITMIME, SMTPUTF8, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5",
      script(lambda: system("node"), lambda: {"NODE_PATH": modules("usr/share/nodejs")}, "send_by_nodemailer.js"))
sends("Net::SMTP (Perl)", "EHLO, SIZE, 8BITMIME, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5",
      script(lambda: system("perl"), perl_modules, "send_by_net_smtp.pl"))
sends("smtp(1) of OpenSMTPD", "EHLO, STARTTLS, TLS, AUTH PLAIN", opensmtpd_smtp)
sends("git send-email", "EHLO, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", git_send_email, exact=False)
sends("Mutt", "EHLO, 8BITMIME, SMTPUTF8, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5, AUTH SCRAM-SHA-256", mutt, exact=False)
sends("s-nail", "HELO, EHLO, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", s_nail, exact=False)
sends("nullmailer", "HELO, EHLO, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN", nullmailer, exact=False)
sends("ssmtp", "HELO, EHLO, STARTTLS, TLS, AUTH LOGIN, AUTH CRAM-MD5", ssmtp, exact=False)
sends("esmtp", "EHLO, PIPELINING, CHUNKING, DSN", esmtp, patient=b"RCPT")
sends("sendEmail", "EHLO, STARTTLS, AUTH LOGIN", sendemail, exact="within", text=TEXT.replace(b".", b"-"))
sends("dma", "EHLO, STARTTLS, TLS, AUTH CRAM-MD5", dma, exact=False)
sends("Ruby net/smtp", "EHLO, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5", script(in_peer("ruby", "usr/bin/ruby3.1"), ruby, "send_by_net_smtp.rb"), where=record.ALL)
sends("PHPMailer", "EHLO, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN, AUTH CRAM-MD5",
      script(in_peer("php", "usr/bin/php8.2", "-n"), lambda: {"PHPMAILER": str(PEERS / "php/usr/share/php/libphp-phpmailer/src")}, "send_by_phpmailer.php"), where=record.ALL)
sends("Jakarta Mail", "EHLO, SMTPUTF8, DSN, STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN", java, where=record.ALL, exact=False)
sends("Go net/smtp", "EHLO, 8BITMIME, SMTPUTF8, STARTTLS, TLS, AUTH PLAIN, AUTH CRAM-MD5", go, where=record.ALL)
