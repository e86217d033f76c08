"""secured.py -- servers with TLS and AUTH: a certificate authority for a case, account files, and a sink that uses them."""
import re
import signal
import smtplib
import ssl
import subprocess
from typing import NamedTuple

from parts import EXAMPLES, PATIENCE, Server, Sink, check, client, equal, system, wait_for

NAME = "mail.example.test"


class Pair(NamedTuple):
    """A certificate's file and its key's."""
    certificate: object
    key: object

    def options(self):
        return "--tls-cert", self.certificate, "--tls-key", self.key


def openssl(*arguments, **how):
    return client(system("openssl"), *arguments, **how)


class Authority:
    """Signs certificates; `file` is what a client is told to trust."""

    def __init__(self, box):
        self.box, self.config = box, box.new("openssl.cnf")
        self.config.write_text("[req]\ndistinguished_name=none\n[none]\n")
        self.file, self.key = self.make("CN=Interop authority", "basicConstraints=critical,CA:TRUE",
                                        "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash")

    def make(self, subject, *extensions, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), signed_by=()):
        pair = Pair(self.box.new("certificate.pem"), self.box.new("key.pem"))
        openssl("req", "-x509", "-config", self.config, "-newkey", *key, "-noenc", "-days", 2, "-subj", f"/{subject}",
                "-out", pair.certificate, "-keyout", pair.key, *signed_by,
                *(option for extension in extensions for option in ("-addext", extension)))
        return pair

    def issue(self, *names, rsa=False):
        """For these DNS names, and for loopback when it is for NAME."""
        names = [f"{'email' if '@' in name else 'DNS'}:{name}" for name in names or [NAME]]
        if names == [f"DNS:{NAME}"]:
            names += ["DNS:localhost", "IP:127.0.0.1"]
        keys = {"key": ("rsa:2048",)} if rsa else {}
        return self.make("CN=" + names[0].partition(":")[2], "basicConstraints=CA:FALSE", "subjectKeyIdentifier=hash",
                         "authorityKeyIdentifier=keyid", "subjectAltName=" + ",".join(names),
                         signed_by=("-CA", self.file, "-CAkey", self.key), **keys)

    def trust(self, lowest=ssl.TLSVersion.TLSv1_2, highest=ssl.TLSVersion.MAXIMUM_SUPPORTED):
        """A context of Python's that believes this authority and nobody else, and looks at names."""
        context = ssl.create_default_context(cafile=self.file)
        context.minimum_version, context.maximum_version = lowest, highest
        return context


class Secured(Sink):
    """A sink with STARTTLS on `port` and TLS from the start on `tls_port`, and the authority behind its certificates. Without
    `keep` it takes mail to nowhere."""

    def __init__(self, box, *arguments, pairs=None, authority=None, keep=True):
        self.authority = authority or Authority(box)
        self.pairs = pairs or [self.authority.issue()]
        self.dir, self.box = box.new("mails"), box
        self.dir.mkdir()
        Server.__init__(self, box, [EXAMPLES / "sink"], "--listen", "127.0.0.1:0", "--tls-port", "127.0.0.1:0",
                        *(("--dir", self.dir) if keep else ()), *(option for pair in self.pairs for option in pair.options()), *arguments)
        box.keep(self)
        self.tls_port = wait_for("both addresses are told", lambda: ports(self.said())[1:])[0]

    def reload(self, expected="certificates read again"):
        """Has it read its files again, and waits until it says what is expected for the next time."""
        before = self.said().count(expected)
        self.process.send_signal(signal.SIGHUP)
        wait_for(f"{self.name} says {expected!r}", lambda: self.said().count(expected) > before)

    def smtp(self, context=None):
        """A client of Python's that has gone through STARTTLS and said EHLO again."""
        sender = smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example.org", timeout=PATIENCE)
        sender.starttls(context=context or self.authority.trust())
        sender.ehlo()
        return sender

    def smtps(self, context=None):
        sender = smtplib.SMTP_SSL("127.0.0.1", self.tls_port, local_hostname="client.example.org", timeout=PATIENCE,
                                  context=context or self.authority.trust())
        sender.ehlo()
        return sender

    def came_by(self, protocol, user=""):
        """The one mail there is, which must have come like that."""
        mail = self.only()
        equal(mail.fields["protocol"], protocol, "protocol")
        equal(mail.fields["user"], user, "user")
        check(bool(mail.fields["cipher"]) == ("S" in protocol.removeprefix("ESMTP")), "cipher:", mail.fields["cipher"])
        return mail


def ports(said):
    return [int(port) for port in re.findall(r"^listening on \S*:(\d+)(?: \(TLS\))?$", said, re.MULTILINE)]


def stored(user, password):
    """The account's line that holds no password, made by our tool."""
    done = subprocess.run([EXAMPLES / "passwd", user], input=f"{password}\n".encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=PATIENCE)
    equal(done.returncode, 0, f"exit status of passwd, which said {done.stdout}")
    line = done.stdout.decode()
    base64 = r"[\w+/=]+"
    check(re.fullmatch(rf"{re.escape(user)}:\{{SCRAM-SHA-256\}}\d+\${base64}:{base64}:{base64}\n", line), "passwd made", line)
    return line


def account_file(box, *lines):
    """A file of accounts, closed to others as it must be."""
    file = box.new("accounts")
    file.touch(0o600)
    file.write_text("".join(lines))
    return file


def refused_at_start(box, program, *arguments, expected=1):
    """What a program says that must not start with these arguments: 2 where they are wrong by themselves, else 1."""
    errors = box.new(f"{program}.err.log")
    with errors.open("wb") as output:
        try:
            status = subprocess.run([EXAMPLES / program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=output, cwd=box.folder, timeout=PATIENCE).returncode
        except subprocess.TimeoutExpired:
            status = None
    said = errors.read_text(errors="replace")
    equal(status, expected, f"exit status of {program}, which said {said!r}")
    check("listening on" not in said, f"{program} listened though it should not:", said)
    return said
