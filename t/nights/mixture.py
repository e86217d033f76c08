"""mixture.py -- what clients do in a night: sessions of every kind, small mail and large, good manners and bad ones.

A session is a function of a Night, which counts what was promised; weights say how often each kind comes.
"""
import base64
import random
import socket
import ssl

from crowd import called, reset
from ledger import numbered
from parts import PATIENCE, Failed, check
from working import PASSWORD, USER

HOME, FAR, SENDERS = "home.example", "far.example", "night.example"
BOXES = ("anna", "bert", "carl")
SIZES = (200, 200, 2000, 2000, 8000, 64 << 10, 64 << 10)
LARGE = (1 << 20, 3 << 20)  # in memory; more is spooled
HUGE = 18 << 20


class Gone(Exception):
    """The server has closed the connection, which it may after 421."""


class Talk:
    """A client's side of a session, in the clear or not."""

    def __init__(self, night, tls=False):
        self.night, source = night, f"127.{random.randint(30, 39)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        self.socket = called(night.tls_port if tls else night.port, source)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.encrypt()
        self.replies = self.socket.makefile("rb")
        self.hear(220)

    def encrypt(self):
        self.socket = self.night.context.wrap_socket(self.socket, server_hostname="localhost")

    def start_tls(self):
        self.say(b"STARTTLS\r\n", 220)
        self.replies.close()
        self.encrypt()
        self.replies = self.socket.makefile("rb")
        self.hello()

    def send(self, octets):
        self.socket.sendall(octets)

    def hear(self, *wanted):
        """The code of the next reply, one of `wanted` if there are any."""
        line = self.replies.readline()
        while line[3:4] == b"-":
            line = self.replies.readline()
        if not line:
            raise Gone
        code = int(line[:3])
        check(not wanted or code in wanted, "instead of", wanted, "the client heard", line)
        return code

    def say(self, line, *wanted):
        self.send(line)
        return self.hear(*wanted)

    def hello(self):
        self.say(b"EHLO c.night.test\r\n", 250)

    def login(self, password=PASSWORD, *codes):
        self.say(b"AUTH PLAIN " + base64.b64encode(f"\0{USER}\0{password}".encode()) + b"\r\n", *(codes or (235,)))

    def quit(self):
        self.say(b"QUIT\r\n", 221)
        self.close()

    def close(self):
        self.replies.close()
        self.socket.close()

    def reset(self):
        self.replies.close()
        reset(self.socket)


def stuffed(octets):
    return octets.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def envelope(mail):
    return [f"MAIL FROM:<{mail.sender}>\r\n".encode(), *(f"RCPT TO:<{to}>\r\n".encode() for to in mail.to)]


# ---- one mail ----

def by_steps(talk, mail):
    for line in (*envelope(mail), b"DATA\r\n"):
        talk.say(line, 250, 354)
    talk.night.under_way(mail)
    talk.say(stuffed(mail.octets), 250)
    talk.night.promised(mail)


def pipelined(talk, mail):
    lines = envelope(mail)
    talk.send(b"".join(lines) + b"DATA\r\n")
    for _ in lines:
        talk.hear(250)
    talk.hear(354)
    talk.night.under_way(mail)
    talk.say(stuffed(mail.octets), 250)
    talk.night.promised(mail)


def in_chunks(talk, mail):
    lines, octets, chunks = envelope(mail), mail.octets, []
    while octets:
        size = random.randint(1, max(1, len(mail.octets) // 2))
        chunk, octets = octets[:size], octets[size:]
        chunks.append(b"BDAT %d%s\r\n" % (len(chunk), b"" if octets else b" LAST") + chunk)
    talk.night.under_way(mail)
    talk.send(b"".join(lines + chunks))
    for _ in lines + chunks:
        talk.hear(250)
    talk.night.promised(mail)


WAYS = (by_steps, pipelined, in_chunks)


# ---- one session ----

def some_mails(talk, count=None):
    for _ in range(count or random.randint(1, 5)):
        random.choice(WAYS)(talk, talk.night.mail())


def in_the_clear(night):
    talk = Talk(night)
    talk.hello()
    some_mails(talk)
    talk.quit()


def with_start_tls(night):
    talk = Talk(night)
    talk.hello()
    talk.start_tls()
    if random.random() < 0.5:
        talk.login()
    some_mails(talk)
    talk.quit()


def with_tls(night):
    talk = Talk(night, tls=True)
    talk.hello()
    talk.login()
    some_mails(talk)
    talk.quit()


def large(night):
    talk = Talk(night, tls=random.random() < 0.2)
    talk.hello()
    random.choice(WAYS)(talk, night.mail(random.choice(LARGE)))
    talk.quit()


def huge(night):
    """Into a file from the start, or in the end."""
    talk = Talk(night)
    talk.hello()
    random.choice(WAYS)(talk, night.mail(HUGE))
    talk.quit()


def pipelining_all(night):
    """Several mails in one write, the answers are read afterwards."""
    talk = Talk(night)
    talk.hello()
    mails = [night.mail(random.choice(SIZES[:4])) for _ in range(10)]
    for mail in mails:
        night.under_way(mail)
    talk.send(b"".join(b"".join(envelope(mail)) + b"BDAT %d LAST\r\n" % len(mail.octets) + mail.octets for mail in mails))
    for mail in mails:
        for _ in range(len(mail.to) + 2):
            talk.hear(250)
        night.promised(mail)
    talk.quit()


def refused(night):
    """Nobody's mailbox, no recipient at all, and a mail to who is left."""
    talk, mail = Talk(night), night.mail()
    talk.hello()
    talk.say(envelope(mail)[0], 250)
    talk.say(f"RCPT TO:<nobody@{HOME}>\r\n".encode(), 550)
    talk.say(b"DATA\r\n", 503, 554)
    for line in envelope(mail)[1:]:
        talk.say(line, 250)
    talk.say(f"RCPT TO:<nobody.else@{HOME}>\r\n".encode(), 550)
    talk.say(b"DATA\r\n", 354)
    night.under_way(mail)
    talk.say(stuffed(mail.octets), 250)
    night.promised(mail)
    talk.quit()


def resetting(night):
    talk = Talk(night)
    talk.hello()
    for _ in range(3):
        for line in envelope(night.mail())[:random.randint(1, 9)]:
            talk.say(line, 250)
        talk.say(random.choice((b"RSET\r\n", b"EHLO again.test\r\n")), 250)
    talk.send(b"BDAT 10\r\n0123456789RSET\r\n")
    talk.hear(503), talk.hear(250)
    some_mails(talk, 1)
    talk.quit()


def cut_off(night):
    """Inside a text or a chunk: closed or reset."""
    talk, mail = Talk(night), night.mail(random.choice(SIZES + LARGE))
    talk.hello()
    for line in envelope(mail):
        talk.say(line, 250)
    if random.random() < 0.5:
        talk.say(b"DATA\r\n", 354)
        talk.send(stuffed(mail.octets)[:random.randint(0, len(mail.octets))])
    else:
        talk.send((b"BDAT %d LAST\r\n" % len(mail.octets) + mail.octets)[:-random.randint(1, 100)])
    random.choice((talk.reset, talk.close))()


def lost_answer(night):
    """Reset behind the text: nobody knows whether it was taken."""
    talk, mail = Talk(night), night.mail()
    talk.hello()
    for line in (*envelope(mail), b"DATA\r\n"):
        talk.say(line, 250, 354)
    night.under_way(mail)
    talk.send(stuffed(mail.octets))
    talk.reset()


def reset_somewhere(night):
    tls = night.tls_port and random.random() < 0.2
    if random.random() < 0.2:
        reset(called(night.tls_port if tls else night.port, "127.0.0.1"))
        return
    talk = Talk(night, tls=tls)
    talk.send(random.choice((b"", b"EHLO c", b"EHLO c.test\r\n", b"EHLO c.test\r\nMAIL FROM:<cut@night.example>\r\n", b"EHLO c.test\r\nSTARTTLS\r\n", b"EHLO c.test\r\nAUTH PLAIN\r\n",
                             b"EHLO c.test\r\n" * 200, b"BDAT 100000\r\nabc", b"EHLO c.test\r\nAUTH SCRAM-SHA-256 biwsbj1hbm5hLHI9MTIz\r\n")))
    talk.reset()


def impolite(night):
    """Eleven errors are too many."""
    talk = Talk(night)
    talk.hello()
    for _ in range(10):
        talk.say(random.choice((b"FOO\r\n", b"RCPT TO:<a@b.test>\r\n", b"MAIL FROM:a b\r\n", b"x" * 3000 + b"\r\n", b"\0\r\n")), 500, 501, 502, 503, 504, 555, 553)
    talk.say(b"FOO\r\n", 500, 421)
    talk.close()


def wrong_password(night):
    talk = Talk(night, tls=True)
    talk.hello()
    talk.login("of-the-day", 535)
    talk.quit()


def bad_handshake(night):
    connection = called(night.tls_port, "127.0.0.1")
    connection.sendall(b"EHLO not.tls.test\r\n")
    try:
        connection.recv(100)
    except OSError:
        pass
    reset(connection)


KINDS = {in_the_clear: 30, with_start_tls: 8, with_tls: 8, large: 3, huge: 0.2, pipelining_all: 6, refused: 6, resetting: 6, cut_off: 8, lost_answer: 3, reset_somewhere: 12,
         impolite: 2, wrong_password: 1, bad_handshake: 2}


EVERYBODY_THERE = {kind: weight for kind, weight in KINDS.items() if kind is not refused}


def session(night, kinds):
    """One of these kinds."""
    kind, = random.choices(list(kinds), kinds.values())
    try:
        kind(night)
    except (Gone, OSError, ssl.SSLError, ValueError) as reason:
        raise Failed(f"{kind.__name__}: {type(reason).__name__} {reason}") from reason
    return kind.__name__


def any_recipients(number):
    """Some at home, some far away, some of whom the next hop refuses now or for good."""
    def one(which):
        choice = random.random()
        if choice < 0.25:
            return f"{BOXES[which % len(BOXES)]}@{HOME}"
        return f"{'never' if choice < 0.32 else 'later' if choice < 0.38 else 'ok'}.{number}.{which}@{FAR}"
    return list(dict.fromkeys(one(which) for which in range(random.choice((1, 1, 1, 2, 3, 12)))))


def any_octets(size=None):
    return numbered(size or random.choice(SIZES))
