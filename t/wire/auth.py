"""AUTH (RFC 4954), octet by octet: where it is offered, how an exchange goes, who guesses, and what comes behind it."""
import base64
import os
import re
import shutil
import socket
import ssl
import subprocess
import time

from harness import Box, Failed, Program, Skip, Wire, case, eventually, healthy, scratch, shared, wanted

MOST = 12288  # octets of base64 in a line
GOOD = b"\0joe\0sesame"
WRONG = b"\0joe\0secret"


def b64(octets):
    return base64.b64encode(octets)


def accounts():
    path = os.path.join(scratch("accounts"), "accounts")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write("joe:sesame\n")
    return path


def box():
    return shared.get("auth", lambda: Box("--auth-file", accounts(), "--auth-loopback"))


def required():
    return shared.get("auth required", lambda: Box("--auth-file", accounts(), "--auth-loopback", "--require-auth"))


_last = 1


def wire(where=None, host=None, hello=True):
    """Each case guesses from an address of its own, since they are counted by it."""
    global _last
    if host is None:
        _last += 1
        host = f"127.0.{_last >> 8}.{_last & 255}"
    s = socket.socket()
    s.settimeout(15)
    try:
        s.bind((host, 0))
    except OSError:
        raise Skip("127.0.0.0/8 is not this machine's own") from None
    s.connect(("127.0.0.1", (where or box()).port))
    w = Wire(s)
    w.host = host
    if hello:
        w.hello()
    return w


def offer(reply):
    return next((line[5:].split() for line in reply.text().split("\n") if line.startswith("AUTH ")), None)


def asked(w, line, challenge=None):
    """Says the line, and hears 334 with this challenge."""
    w.send(line + b"\r\n")
    got = w.expect(334).lines
    if len(got) != 1 or (challenge is not None and got[0] != b"334 " + b64(challenge) + b"\r\n"):
        raise Failed(f"the challenge is {got!r}")
    return base64.b64decode(got[0][4:].strip(), validate=True)


# ---- where ----

@case("AUTH is offered on loopback where that is allowed, and not again after success")
def offered():
    w = wire(hello=False)
    mechanisms = offer(w.say("EHLO me", 250))
    if not mechanisms or "PLAIN" not in mechanisms:
        raise Failed(f"offered: {mechanisms}")
    w.say(b"AUTH PLAIN " + b64(GOOD), 235)
    wanted(offer(w.say("EHLO me", 250)), None, "offered again")
    w.say(b"AUTH PLAIN " + b64(GOOD), 503)
    w.in_step()


@case("AUTH before EHLO, after HELO and within a transaction is 503")
def order():
    w = wire(hello=False)
    w.say(b"AUTH PLAIN " + b64(GOOD), 503)
    w.say("HELO me", 250)
    w.say(b"AUTH PLAIN " + b64(GOOD), 503)
    w.say("EHLO me", 250)
    w.say("MAIL FROM:<a@b.test>", 250)
    w.say(b"AUTH PLAIN " + b64(GOOD), 503)
    w.say("RSET", 250)
    w.say(b"AUTH PLAIN " + b64(GOOD), 235)
    w.in_step()


@case("nobody sends before AUTH where it is required")
def before():
    w = wire(required())
    for mail in ("MAIL FROM:<a@b.test>", "MAIL FROM:<>", "MAIL FROM:<a@b.test> SIZE=1"):
        wanted(w.say(mail, 530).text()[:5], "5.7.0", "status")
    w.say("RCPT TO:<postmaster>", 503)
    w.say("DATA", 503)
    w.say(b"AUTH PLAIN " + b64(GOOD), 235)
    w.envelope()
    w.text(b"x\r\n")
    w.in_step()
    mail = required().mails(w.name)[0]
    wanted(mail["user"], "joe", "user")
    if b" with ESMTPA " not in required().text(mail).split(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").replace(b"\r\n ", b" "):
        wanted(mail.get("protocol"), "ESMTPA", "protocol")


def certificate():
    """The files of a certificate and its key."""
    if not shutil.which("openssl"):
        raise Skip("there is no openssl")
    folder = scratch("certificate")
    key, cert = os.path.join(folder, "key"), os.path.join(folder, "certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=mx.test", "-keyout", key, "-out", cert], check=True, capture_output=True)
    os.chmod(key, 0o600)
    return cert, key


def secured():
    cert, key = certificate()
    return Program("sink", "--hostname", "mx.test", "--auth-file", accounts(), "--tls-cert", cert, "--tls-key", key)


@case("with TLS, AUTH is 538 before it and offered behind it, and one octet behind STARTTLS ends the session")
def tls():
    p = shared.get("auth tls", secured)
    w = wire(p, hello=False)
    wanted(offer(w.say("EHLO me", 250)), None, "offered in the clear")
    wanted(w.say(b"AUTH PLAIN " + b64(GOOD), 538).text()[:6], "5.7.11", "status")
    w.say("STARTTLS", 220)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    w.socket = context.wrap_socket(w.socket)
    w.say(b"AUTH PLAIN " + b64(GOOD), 503)
    if not offer(w.say("EHLO me", 250)):
        raise Failed("not offered")
    for _ in range(2):
        asked(w, b"AUTH PLAIN", b"")
        w.say("*", 501)
    w.say(b"AUTH PLAIN " + b64(WRONG), 535)
    asked(w, b"AUTH PLAIN", b"")
    w.say(b64(GOOD), 235)
    w.say("QUIT", 221)

    w = wire(p)
    w.send(b"STARTTLS\r\nA")
    w.until_end()


# ---- an exchange ----

for how in ("whole", "octets", 1, 2, 3):
    def exchange(how=how):
        w = wire()
        w.send_as(how, b"AUTH PLAIN " + b64(GOOD) + b"\r\n")
        w.expect(235)
        w.in_step()
        w = wire()
        w.send_as(how, b"auth plain\r\n")
        w.expect(334)
        w.send_as(how, b64(GOOD) + b"\r\n")
        w.expect(235)
        w.in_step()
        w = wire()
        w.send_as(how, b"AUTH LOGIN\r\n")
        w.expect(334)
        w.send_as(how, b64(b"joe") + b"\r\n")
        w.expect(334)
        w.send_as(how, b64(b"sesame") + b"\r\n")
        w.expect(235)
        w.in_step()
    case(f"PLAIN and LOGIN, the octets sent {how}", exchange)


@case("an empty challenge is 334 and a blank; a star cancels; the session goes on")
def cancelled():
    w = wire()
    for mechanism in (b"PLAIN", b"SCRAM-SHA-256"):
        asked(w, b"AUTH " + mechanism, b"")
        wanted(w.say("*", 501).text()[:5], "5.7.0", "status")
    asked(w, b"AUTH LOGIN")
    w.say("*", 501)
    asked(w, b"AUTH CRAM-MD5")
    w.say("*", 501)
    w.envelope()
    w.text(b"x\r\n")
    w.in_step()
    wanted(box().mails(w.name)[0].get("user", ""), "", "user")


BAD = (b"A", b"AA", b"AAA", b"AAAAA", b"AA=", b"A===", b"====", b"AA==AA==", b"AAA-", b"AB==", b"AAA\xc3", b"\0\0\0\0",
       b"AAA\0", b"AAAA AAAA", b"AAAA ", b" AAAA", b"\tAAA", b"AAAA\r", b"AAAA\n", b"=", b"**", b"* ", b"EHLO me", b".")
for n, text in enumerate(BAD):
    def undecodable(text=text):
        w = wire()
        asked(w, b"AUTH PLAIN", b"")
        wanted(w.say(text, 501).text()[:5], "5.5.2", "status")
        w.say(b"AUTH PLAIN " + b64(GOOD), 235)
        w.in_step()
    case(f"a response that is not base64 is 501 ({n}: {text!r})", undecodable)

for argument, code, status in (
        (b"", 501, "5.5.4"), (b" ", 501, "5.5.4"), (b" PLAIN *", 501, "5.5.2"), (b" PLAIN AAA", 501, "5.5.2"),
        (b" PLAIN AAAA AAAA", 501, "5.5.4"), (b"  PLAIN", 501, "5.5.4"), (b" PLA*N", 501, "5.5.4"), (b" NTLM", 504, "5.5.4"),
        (b" NTLM AAAA", 504, "5.5.4"), (b" " + b"A" * 20, 504, "5.5.4"), (b" " + b"A" * 21, 501, "5.5.4"),
        (b" CRAM-MD5 AAAA", 501, "5.7.0"), (b" CRAM-MD5 =", 501, "5.7.0")):
    def refused(argument=argument, code=code, status=status):
        w = wire()
        wanted(w.say(b"AUTH" + argument, code).text()[:5], status, "status")
        w.say(b"AUTH PLAIN " + b64(GOOD), 235)
        w.in_step()
    case(f"AUTH{argument.decode()} is {code} {status}", refused)

for line in (b"QUIT", b"RSET", b"NOOP", b"EHLO", b"DATA", b"HELO", b"STARTTLS"):
    def no_command(line=line):
        w = wire()
        asked(w, b"AUTH PLAIN", b"")
        w.say(line, 535)
        w.in_step()
    case(f"{line.decode()} as a response is no command", no_command)


@case("all octets, NUL too, are a response like any other")
def octets():
    w = wire()
    asked(w, b"AUTH PLAIN", b"")
    w.say(b64(bytes(range(256))), 535)
    w.say(b"AUTH PLAIN " + b64(b"\0joe\0ses\0ame"), 535)
    w.say(b"AUTH PLAIN =", 535)
    w.in_step()


# ---- lengths ----

for n in (MOST - 4, MOST, MOST + 1, MOST + 4, 16384, 65536, 1 << 20):
    def long_response(n=n):
        w = wire()
        asked(w, b"AUTH PLAIN", b"")
        w.send(b"A" * n + b"\r\n")
        r = w.expect(535 if n <= MOST else 500)
        if n > MOST:
            wanted(r.text()[:5], "5.5.6", "status")
        w.in_step()
    case(f"a response of {n} octets", long_response)

    def long_command(n=n):
        w = wire()
        w.send(b"AUTH PLAIN " + b"A" * n + b"\r\n")
        w.expect(535 if n <= MOST else 500)
        w.in_step()
    case(f"an initial response of {n} octets", long_command)


@case("no other command is longer for it, before AUTH and after it")
def others():
    w = wire()
    for _ in range(2):
        for n, code in ((2048, 250), (2049, 500), (MOST, 500), (2 * MOST, 500)):
            w.say(b"NOOP " + b"x" * (n - 7), code)
        if _ == 0:
            w.say(b"AUTH PLAIN " + b64(GOOD), 235)
    w.say(b"AUTH PLAIN " + b"A" * 4096, 500)
    w.in_step()


# ---- what is sent too soon ----

@case("commands behind a complete AUTH are commands of whoever it has made the client")
def behind():
    for credentials, codes in ((GOOD, (235, 250, 250, 221)), (WRONG, (535, 530, 503, 221))):
        w = wire(required())
        w.send(b"AUTH PLAIN " + b64(credentials) + b"\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nQUIT\r\n")
        for code in codes:
            w.expect(code)
        w.at_end()


@case("what is there before it was asked for is no response")
def too_soon():
    w = wire()
    w.send(b"AUTH PLAIN\r\n" + b64(GOOD) + b"\r\n")
    w.expect(503)
    w.expect(500)
    w.send(b"AUTH LOGIN\r\nMAIL FROM:<a@b.test>\r\n")
    w.expect(503)
    w.expect(250)
    w.say("RSET", 250)
    w.in_step()


# ---- who guesses ----

@case("wrong names and wrong passwords hear the same, and not at once")
def same():
    heard = set()
    for credentials in (WRONG, b"\0nemo\0sesame", b"x"):
        w = wire()
        began = time.monotonic()
        w.send(b"AUTH PLAIN " + b64(credentials) + b"\r\n")
        heard.add(b"".join(w.expect(535).lines))
        if time.monotonic() - began < 1.9:
            raise Failed("at once")
        w.in_step()
    wanted(len(heard), 1, f"different answers {heard}")


@case("the fourth guess of a session is 421, be it right or wrong")
def session():
    for last in (GOOD, WRONG):
        w = wire()
        for _ in range(3):
            w.say(b"AUTH PLAIN " + b64(WRONG), 535)
        w.say("NOOP", 250)
        w.say(b"AUTH PLAIN " + b64(last), 421)
        w.at_end()


@case("twenty guesses of one address, in however many sessions, then 454 for it and nobody else")
def address():
    p = shared.get("auth guessed", lambda: Program("sink", "--hostname", "mx.test", "--auth-file", accounts(), "--auth-loopback"))
    first = wire(p)
    wires = [first] + [wire(p, first.host) for _ in range(29)]
    for w in wires:
        w.send(b"AUTH PLAIN " + b64(WRONG) + b"\r\n")
    codes = [w.reply().code for w in wires]
    wanted((codes.count(535), codes.count(454)), (20, 10), "535s and 454s")
    w = wire(p, first.host)
    right = w.say(b"AUTH PLAIN " + b64(GOOD), 454).text()
    wanted(w.say(b"AUTH PLAIN " + b64(WRONG), 454).text(), right, "the other answer")
    w.say("AUTH PLAIN", 454)
    w.say(b"AUTH PLAIN " + b64(GOOD), 421)
    w.at_end()
    other = wire(p)
    other.say(b"AUTH PLAIN " + b64(GOOD), 235)
    other.in_step()


@case("a client that leaves in an exchange or during the delay leaves nothing behind")
def leaves():
    p = shared.get("auth left", lambda: Program("sink", "--hostname", "mx.test", "--auth-file", accounts(), "--auth-loopback"))
    wire(p).bye()
    before = eventually("quiet", p.descriptors)
    script = b"AUTH LOGIN\r\n", b64(b"joe") + b"\r\n", b64(b"secret") + b"\r\n"
    for cut in range(sum(map(len, script)) + 1):
        w = wire(p)
        left = cut
        for part in script:
            w.send(part[:left])
            if left < len(part):
                break
            left -= len(part)
            if part is not script[-1]:
                w.expect(334)
        w.reset() if cut % 2 else w.close()
    eventually("descriptors are back", lambda: p.descriptors() <= before + 1)
    healthy(p.port)


@case("SIGTERM waits neither for a delay nor for a response")
def stopped():
    with Program("sink", "--hostname", "mx.test", "--auth-file", accounts(), "--auth-loopback") as p:
        delayed, waiting = wire(p), wire(p)
        asked(waiting, b"AUTH PLAIN", b"")
        delayed.send(b"AUTH PLAIN " + b64(WRONG) + b"\r\n")
        began = time.monotonic()
        wanted(p.end(), 0, "exit status")
        if time.monotonic() - began > 10:
            raise Failed("not at once")
        waiting.expect(421)
        waiting.at_end()
        if (r := delayed.expect(535, 421)).code == 535:
            delayed.expect(421)
        delayed.at_end()


# ---- the AUTH parameter of MAIL ----

@case("MAIL's AUTH= is a mailbox in xtext or <>, and believed of nobody who is not trusted")
def parameter():
    w = wire()
    for value, code in (("<>", 250), ("a@b.test", 250), ("e+3Dmc2@b.test", 250), ("+3C+3E", 250), ("", 501), ("a", 501),
                        ("a=b@c.test", 501), ("a+0D+0A@b.test", 501), ("a+3d@b.test", 501), ("<a@b.test>", 501), ("+", 501)):
        w.say(f"MAIL FROM:<s@a.test> AUTH={value}", code)
        w.say("RSET", 250)
    w.in_step()
