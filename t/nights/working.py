"""working.py -- the daemon with all it has, and clients that work in front of it while others disturb."""
import os
import time

from ledger import Ledger, numbered, whole
from parts import EXAMPLES, PATIENCE, check, equal, wait_for
from queued import SMTPD, Account, Clients, start, together
from secured import Authority, Secured, account_file, ports, stored

SANITIZED = any(sign in (EXAMPLES / "sink").read_bytes() for sign in (b"__asan_init", b"__tsan_init", b"__ubsan_handle"))
USER, PASSWORD = "anna", "of-the-night"
LONG = os.environ.get("NIGHTS") == "long"
SIZES = (300, 2000, 2000, 64 << 10)


def daemon(box, hop, **settings):
    """smtpd with a queue in SQLite, TLS, AUTH, and `hop` for mail to everybody else; `authority` is what its certificate is of."""
    authority = Authority(box)
    pair = authority.issue()
    deliveries = 20
    server = start(box, SMTPD, **{"listen": "127.0.0.1:0,tls:127.0.0.1:0", "maxrelay": deliveries} | settings, relay=f"127.0.0.1:{hop.port}", tls_cert=pair.certificate, tls_key=pair.key,
                   auth_file=account_file(box, stored(USER, PASSWORD)), auth_clear="loopback")
    server.authority, server.tls_port = authority, wait_for("both addresses are told", lambda: ports(server.said())[1:])[0]
    server.kept = 3 * deliveries + 10  # connections to next hops, and to the database with its log
    return server


def sink(box, *arguments, keep=True):
    """A sink that keeps what it takes, if it is to, with TLS on `tls_port`, and AUTH; `arguments` are more options."""
    return Secured(box, "--auth-loopback", "--auth-file", account_file(box, stored(USER, PASSWORD)), *arguments, keep=keep)


class Work:
    """So many clients deliver mail to one server, over connections that they keep, from an address that nobody else has: so many
    mails, or one every `pace` seconds each until it is finished."""

    def __init__(self, port, mails=None, clients=8, prefix="work", pace=0.0):
        self.pace = pace
        self.clients = Clients(port, clients, self.mail, limit=mails, prefix=prefix)

    def mail(self, number):
        time.sleep(self.pace)
        return [f"bert{number}@example.test"], numbered(SIZES[number % len(SIZES)])

    def over(self):
        return not any(thread.is_alive() for thread in self.clients.threads)

    def all_taken(self):
        """Each at the first attempt, over the first connection. How many."""
        clients = self.clients
        if clients.limit is None:
            clients.finish()
        clients.join()
        check(not clients.refused, len(clients.refused), "were refused:", *list(clients.refused.values())[:3])
        check(not clients.cut, len(clients.cut), "clients were cut off")
        equal(len(clients.promised), clients.limit or len(clients.sent), "mails taken")
        return len(clients.promised)

    def delivered(self, hop, *others):
        """By the daemon, whole, once, and nothing but that of `others`."""
        clients = together(self.clients, *(other.clients for other in others))
        wait_for("what was promised is delivered", lambda: clients.pairs() <= hop.seen().keys(), 2 * PATIENCE)
        account = Account(clients, hop)
        account.nothing_lost()
        account.nothing_twice()
        equal(sorted({pair for pair in hop.seen() if pair[0] not in clients.promised}), [], "mails of others")
        return account

    def kept(self, server):
        """By a sink, the same."""
        mails = server.mails()
        equal(sorted((mail.sender, *mail.to) for mail in mails), sorted((sender, *to) for sender, to in self.clients.promised.items()), "mails kept")
        check(all(whole(mail.octets) for mail in mails), "a mail is not what was sent")


def books(box):
    return Ledger(box)


def warmed_up(server, mails=40):
    """What it does for its first clients is done."""
    work = Work(server.port, mails, clients=4, prefix="first")
    work.all_taken()
    return work
