"""ledger.py -- next hops that keep books: who got which mail, how often, over which connection, and whether it was whole.

A mail that is to be recognized is made by numbered(): its sender is its name, and it tells the sum of its own text.
"""
import hashlib
import selectors
import socket
import threading
import time
import uuid
from collections import Counter, defaultdict
from typing import NamedTuple

from parts import PATIENCE, check, letter

STALL = "stall"  # an answer that does not come before let_go()
OFFER = ("PIPELINING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


def numbered(size=200):
    """A mail of about so many octets of text, that says in its header what its text sums up to."""
    unit = f"{uuid.uuid4()} and so on\r\n".encode()
    text = (unit * (size // len(unit) + 1))[:max(size, 2) - 2] + b"\r\n"
    return b"X-Sum: " + hashlib.sha256(text).hexdigest().encode() + b"\r\n" + letter(text)


def whole(octets):
    """What is below its own header is what numbered() made."""
    head, _, text = octets.partition(b"\r\n\r\n")
    said = [line[7:] for line in head.split(b"\r\n") if line.startswith(b"X-Sum: ")]
    return not said or said == [hashlib.sha256(text).hexdigest().encode()]


def established(connection):
    """The other side has not closed it, whether we have noticed or not."""
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\1"
    except OSError:
        return False


class Copy(NamedTuple):
    """A transaction that was answered 250 (or that was to be, by a host that then hung up)."""
    sender: str
    to: tuple
    whole: bool
    door: object
    client: str  # as it called itself
    connection: int
    turn: int  # which transaction of its connection, from 1
    life: int  # Ledger.life at that time
    at: float
    octets: bytes  # only where the ledger keeps them
    parameters: tuple  # what stood behind the addresses, of MAIL and of each RCPT


class Door:
    """An address of a next hop. `say` has replies for steps, as hosts.Host; they may also be STALL, or a function that is
    given the line and returns one, or "" for the usual. `open` counts its connections, `busy` those that are not idle between
    two mails; `most` and `most_busy` are the largest numbers at once. `asked` counts all connections, `stalled` the stalls."""

    def __init__(self, host, say, port=0):
        self.socket = socket.create_server((host, port), backlog=1000)
        self.host, self.port, self.say = host, self.socket.getsockname()[1], dict(say)
        self.asked, self.stalled, self.open, self.most, self.busy, self.most_busy = 0, 0, 0, 0, 0, 0


class Ledger:
    """With a `context` of ssl's it speaks STARTTLS. One that is `brief` hangs up behind each mail."""

    def __init__(self, box, offer=OFFER, keep=False, context=None, brief=False, **say):
        self.offer, self.keep, self.life, self.over = offer, keep, 0, False
        self.context, self.brief = context, brief
        self.lock, self.copies, self.connections = threading.Lock(), [], 0
        self.open, self.most, self.busy, self.most_busy = 0, 0, 0, 0
        self.released, self.talking, self.talks, self.clients, self.doors = threading.Event(), {}, {}, {}, []
        self.selector = selectors.DefaultSelector()
        self.waker, wake = socket.socketpair()
        self.selector.register(wake, selectors.EVENT_READ)
        self.main = self.door(**say)
        self.port = self.main.port
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        box.keep(self)

    def door(self, host="127.0.0.1", port=0, **say):
        """One more address."""
        door = Door(host, say, port)
        self.doors.append(door)
        self.selector.register(door.socket, selectors.EVENT_READ, door)
        self.waker.send(b".")
        return door

    def leave(self, door):
        """Connections to it are refused from now on."""
        self.doors.remove(door)
        self.selector.unregister(door.socket)
        door.socket.close()

    def count(self, door, opened=0, busy=0):
        """One more or one less; called with the lock."""
        for each in (self, door):
            each.open, each.busy = each.open + opened, each.busy + busy
            each.most_busy = max(each.most_busy, each.busy)
            if each.open > each.most:
                each.most = max(each.most, sum(1 for connection, at in self.talking.values() if each in (self, at) and established(connection)))

    def serve(self):
        while not self.over:
            for key, _ in self.selector.select():
                if key.data is None:
                    key.fileobj.recv(100)
                    continue
                connection, _ = key.fileobj.accept()
                with self.lock:
                    self.connections += 1
                    number, door = self.connections, key.data
                    door.asked += 1
                    self.talking[number] = connection, door
                    self.count(door, opened=1, busy=1)
                threading.Thread(target=self.talk, args=(connection, door, number), daemon=True).start()

    def talk(self, connection, door, number):
        try:
            connection.settimeout(4 * PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = Talk(self, door, connection, number)
            with self.lock:
                self.talks[number] = talk
            with connection, connection.makefile("rb", 1 << 16) as lines:
                talk.all_of_it(lines)
        except OSError:
            pass
        finally:
            with self.lock:
                self.count(door, opened=-1, busy=-talk.busy)
                del self.talking[number], self.talks[number]

    def let_go(self):
        """Whoever was told STALL gets the usual answer, from now on."""
        for door in self.doors:
            door.say = {step: reply for step, reply in door.say.items() if reply is not STALL}
        self.released.set()

    def new_life(self):
        """Who delivers has ended: when its last connection is over, what comes belongs to the next one."""
        end = time.monotonic() + PATIENCE
        while self.open:
            check(time.monotonic() < end, "connections of a dead client stay open")
            time.sleep(0.002)
        self.life += 1

    # ---- the books ----

    def seen(self):
        """(sender, recipient) -> its copies, in order."""
        found = defaultdict(list)
        with self.lock:
            for copy in self.copies:
                for to in copy.to:
                    found[copy.sender, to].append(copy)
        return found

    def last_turns(self):
        """Connection -> how many transactions it had."""
        with self.lock:
            return Counter(copy.connection for copy in self.copies)

    def stop(self):
        self.kill()

    def kill(self):
        if self.over:
            return
        self.over = True
        self.released.set()
        self.waker.send(b".")
        self.thread.join(PATIENCE)
        for door in self.doors:
            door.socket.close()
        with self.lock:
            for connection, _ in self.talking.values():
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Talk:
    """One connection."""

    def __init__(self, ledger, door, connection, number):
        self.ledger, self.door, self.connection, self.number = ledger, door, connection, number
        self.client, self.turn, self.busy = "", 0, True
        self.sender, self.to = "", ()  # of the transaction under way

    def idle(self, idle):
        if idle == self.busy:
            with self.ledger.lock:
                self.busy = not idle
                self.ledger.count(self.door, busy=-1 if idle else 1)

    def reply(self, step, otherwise, line=b""):
        """What is to be said; nothing is said yet."""
        reply = self.door.say.get(step, otherwise)
        if callable(reply):
            reply = reply(line.decode("latin-1").strip())
        if reply is STALL:
            with self.ledger.lock:
                self.door.stalled += 1
            self.ledger.released.wait(4 * PATIENCE)
            reply = otherwise
        return otherwise if reply == "" else reply

    def said(self, step, otherwise, line=b""):
        return self.say(self.reply(step, otherwise, line))

    def say(self, reply):
        if reply is None:
            raise ConnectionAbortedError
        self.connection.sendall(reply.encode() + b"\r\n")
        return reply.startswith(("2", "3"))

    def secured(self):
        """The same connection, encrypted from now on."""
        with self.ledger.context.wrap_socket(self.connection, server_side=True) as connection, connection.makefile("rb", 1 << 16) as lines:
            self.connection = connection
            with self.ledger.lock:
                self.ledger.talking[self.number] = connection, self.door
            self.commands(lines, self.ledger.offer)

    def all_of_it(self, lines):
        if self.said("connect", "220 hop.example.org ESMTP"):
            self.commands(lines, (*self.ledger.offer, "STARTTLS") if self.ledger.context else self.ledger.offer)

    def commands(self, lines, offer):
        sender, to, parameters = None, [], []
        for line in lines:
            self.idle(line[:4].upper() in (b"QUIT", b"RSET", b"NOOP") and not self.busy)
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            verb, address, more = verb.upper(), rest.partition("<")[2].rpartition(">")[0], rest.rpartition(">")[2].strip()
            if verb == "EHLO":
                self.client = self.ledger.clients[self.number] = rest
                self.said(verb, "\r\n".join(f"250-{word}" for word in ("hop.example.org", *offer[:-1])) + f"\r\n250 {offer[-1]}", line)
            elif verb == "STARTTLS" and "STARTTLS" in offer:
                if self.said(verb, "220 2.0.0 go on"):
                    self.secured()
                    return
            elif verb == "MAIL":
                if self.said(verb, "250 2.1.0 ok", line):
                    sender, to, parameters = address, [], [more]
                    self.sender, self.to = address, to
            elif verb == "RCPT":
                if self.said(verb, "250 2.1.5 ok", line):
                    to.append(address)
                    parameters.append(more)
            elif verb == "DATA" and not to:
                self.said("nobody", "554 5.5.1 nobody to send it to")
            elif verb == "DATA":
                if self.said(verb, "354 go on"):
                    text = self.text(lines)
                    if text is None:
                        return
                    self.take(sender, to, text, parameters)
                    if self.ledger.brief:
                        return
                sender, to, self.to = None, [], ()
            elif verb == "QUIT":
                self.said(verb, "221 2.0.0 bye")
                return
            else:
                self.said(verb, "250 2.0.0 ok")

    @staticmethod
    def text(lines):
        text = []
        while (line := lines.readline()) != b".\r\n":
            if not line:
                return None
            text.append(line.removeprefix(b"."))
        return b"".join(text)

    def take(self, sender, to, octets, parameters):
        """Into the books first: what the client hears is there."""
        reply, ledger = self.reply("dot", "250 2.0.0 taken"), self.ledger
        if reply is None or reply.startswith("2"):  # who hangs up now has the mail
            with ledger.lock:
                self.turn += 1
                ledger.copies.append(Copy(sender, tuple(to), whole(octets), self.door, self.client, self.number, self.turn, ledger.life,
                                          time.monotonic(), octets if ledger.keep else b"", tuple(parameters)))
        self.idle(True)
        self.say(reply)
