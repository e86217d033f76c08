"""tried.py -- who the peers are and where their versions are told, and what the cases try that do not say so themselves.

A case of TRIED tries those features with that peer if its sentence holds the words; t/interop/matrix insists that some
case does, and that it started the peer's program.
"""
import json
import platform

from record import TREE, installed, unpacked

# Peer -> (folder of build/peers, package); the folder is "" where it is the system's.
PACKAGES = {
    "curl": ("", "curl"), "openssl s_client": ("", "openssl"), "systemd-analyze": ("", "systemd"), "Net::SMTP (Perl)": ("", "perl"),
    "swaks": ("swaks", "swaks"), "msmtp": ("msmtp", "msmtp"), "s-nail": ("s-nail", "s-nail"), "gsasl": ("gsasl", "gsasl"),
    "Postfix": ("postfix", "postfix"), "Exim": ("exim", "exim4-daemon-light"), "OpenSMTPD": ("opensmtpd", "opensmtpd"),
    "smtp(1) of OpenSMTPD": ("opensmtpd", "opensmtpd"), "Dovecot": ("dovecot", "dovecot-core"), "Dovecot SASL": ("dovecot", "dovecot-core"), "NSD": ("nsd", "nsd"),
    "ldns-signzone": ("ldns", "ldnsutils"), "testssl.sh": ("testssl", "testssl.sh"), "nmap smtp-open-relay": ("nmap", "nmap"),
    "libfaketime": ("faketime", "libfaketime"), "PostgreSQL": ("postgresql", "postgresql-15"),
    "Mutt": ("mailers", "mutt"), "nullmailer": ("mailers", "nullmailer"), "ssmtp": ("mailers", "ssmtp"), "esmtp": ("mailers", "esmtp"),
    "dma": ("mailers", "dma"), "sendEmail": ("mailers", "sendemail"), "git send-email": ("mailers", "git-email"),
    "aiosmtplib": ("mailers", "python3-aiosmtplib"), "Nodemailer": ("mailers", "node-nodemailer"), "aiosmtpd": ("aiosmtpd", "python3-aiosmtpd"),
    "Ruby net/smtp": ("ruby", "ruby3.1"), "PHPMailer": ("php", "libphp-phpmailer"), "Jakarta Mail": ("java", "libjakarta-mail-java"),
    "go-smtp": ("golang", "golang-github-emersion-go-smtp-dev"), "Go net/smtp": ("golang", "golang-1.19-go"), "Sendmail": ("sendmail", "sendmail-bin"), "Cyrus": ("cyrus", "cyrus-imapd"),
}
# Who is large to unpack or slow to start: tried with INTEROP=all only.
LARGE = {"Ruby net/smtp", "PHPMailer", "Jakarta Mail", "go-smtp", "Go net/smtp", "Cyrus", "Haraka", "smtp-server (npm)"}
# What parts.py calls the program that was started, where that is not the folder or the package.
PROGRAM = {"openssl s_client": "openssl", "Net::SMTP (Perl)": "perl", "aiosmtplib": "python3"}

TRIED = (
    # peer, role, features, words of the sentences
    ("curl", "client", "AUTH XOAUTH2, AUTH OAUTHBEARER", ("curl: XOAUTH2 and OAUTHBEARER by each way",)),
    ("curl", "client", "AUTH EXTERNAL", ("EXTERNAL: curl, msmtp and Python",)),
    ("msmtp", "client", "AUTH EXTERNAL", ("EXTERNAL: curl, msmtp and Python",)),
    ("smtplib (Python)", "client", "AUTH EXTERNAL", ("EXTERNAL: curl, msmtp and Python",)),
    ("smtplib (Python)", "client", "HELO", ("smtplib: HELO alone is enough",)),
    ("smtplib (Python)", "client", "LMTP", ("smtplib.LMTP: a mail arrives octet for octet",)),
    ("smtplib (Python)", "client", "CHUNKING, BINARYMIME", ("a binary mail goes through the relay by BDAT",)),
    ("Postfix", "client", "LMTP", ("Postfix's lmtp(8) over TCP: ten mails",)),
    ("gsasl", "client", "EHLO, STARTTLS, AUTH SCRAM-SHA-256-PLUS, AUTH SCRAM-SHA-256, AUTH CRAM-MD5, AUTH LOGIN, AUTH PLAIN, none: it logs in",
     ("gsasl: SCRAM-SHA-256-PLUS by TLS 1.3 and 1.2",)),
    ("openssl s_client", "client", "EHLO, STARTTLS, TLS, octet for octet", ("openssl: a mail by each way and version",)),

    ("Postfix", "next hop", "STARTTLS", ("Postfix that wants TLS: it gets the mail at any level",)),
    ("Postfix", "next hop", "TLS", ("Postfix behind the relay, implicit TLS",)),
    ("Postfix", "next hop", "AUTH SCRAM-SHA-256, AUTH CRAM-MD5, AUTH PLAIN, AUTH LOGIN", ("Postfix with Dovecot's SASL: each of",)),
    ("Postfix", "next hop", "MX", ("Postfix behind the relay by MX",)),
    ("Postfix", "next hop", "DANE", ("DANE by MX: good records",)),
    ("Postfix", "next hop", "queue", ("smtpd to Postfix by smart host",)),
    ("Exim", "next hop", "MX", ("Exim behind the relay, by --via and by MX: mails are stored",)),
    ("Exim", "next hop", "STARTTLS, TLS, AUTH CRAM-MD5, AUTH PLAIN", ("exim that wants TLS and a login",)),
    ("OpenSMTPD", "next hop", "MX", ("OpenSMTPD behind the relay, by --via and by MX: mails are stored",)),
    ("OpenSMTPD", "next hop", "STARTTLS, TLS, AUTH PLAIN, AUTH LOGIN", ("opensmtpd that wants TLS and a login",)),
    ("OpenSMTPD", "next hop", "queue", ("smtpd to OpenSMTPD by MX",)),
    ("Dovecot", "next hop", "LMTP, 8BITMIME, refusals", ("relay to Dovecot by LMTP over TCP",)),
    ("Dovecot", "next hop", "LMTP on a Unix socket", ("relay to Dovecot by LMTP over a Unix socket",)),
    ("Dovecot", "next hop", "queue", ("smtpd to Dovecot by LMTP",)),

    ("Dovecot SASL", "tool", "tells Postfix, our next hop, whom to believe", ("Postfix with Dovecot's SASL: each of",)),
    ("NSD", "tool", "answers for MX, A, AAAA, CNAME, null MX", ("by MX: the host of the lowest preference", "null MX, no such domain")),
    ("NSD", "tool", "answers for TLSA, signed", ("DANE by MX: good records",)),
    ("ldns-signzone", "tool", "signs the zones of DANE", ("DANE by MX: good records",)),
    ("PostgreSQL", "tool", "holds a queue that machines share", ("PostgresStore keeps every promise",)),
    ("PostgreSQL", "tool", "is killed and restarted under load", ("PostgreSQL is killed and restarted under load",)),
    ("testssl.sh", "tool", "finds no weakness in our TLS", ("testssl.sh: nothing below TLS 1.2",)),
    ("nmap smtp-open-relay", "tool", "calls no server of ours an open relay", ("nmap smtp-open-relay: policy",)),
    ("systemd-analyze", "tool", "understands the units of smtpd", ("smtpd: its units are understood",)),
    ("libfaketime", "tool", "sets the queue's clock forward and back", ("the clock jumps two hours ahead",)),
    ("Python's email", "tool", "reads our bounces, without a defect", ("a bounce is what Python's email takes for one",)),
    ("Postfix", "tool", "passes our bounces on octet for octet", ("a bounce goes through Postfix",)),
    ("s-nail", "tool", "shows our bounces", ("a bounce is read by s-nail",)),
)


def of(sentence):
    return [(peer, role, features) for peer, role, features, words in TRIED if any(each in sentence for each in words)]


# Peer -> package.json of npm's packages, below build/peers.
NPM = {"smtp-server (npm)": "nodemailer/node_modules/smtp-server", "Haraka": "haraka/node_modules/Haraka"}


def versions(peer):
    if peer in NPM:
        try:
            return json.loads((TREE / "build/peers" / NPM[peer] / "package.json").read_text())["version"]
        except OSError:
            return ""
    if "Python" in peer and peer not in PACKAGES:
        return platform.python_version()
    root, package = PACKAGES.get(peer, ("", ""))
    return (unpacked(root, package) if root else "") or installed(package)


KNOWN = {}


def version(peer):
    """As its package has it; "" where it is of no package that is known here."""
    if peer not in KNOWN:
        KNOWN[peer] = versions(peer)
    return KNOWN[peer]


def program(peer):
    """The name under which parts.py notes that it was started."""
    if peer in NPM:
        return NPM[peer].partition("/")[0]
    root, package = PACKAGES.get(peer, ("", ""))
    return PROGRAM.get(peer) or root or package
