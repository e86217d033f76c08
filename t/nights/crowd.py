"""crowd.py -- thousands of connections in one thread: guests that say a few lines and fall silent, drip, never read, come and go.

Nothing goes on but inside until(), so nothing is shared. Other threads may work meanwhile.
"""
import itertools
import os
import re
import resource
import select
import socket
import struct
import time
from collections import Counter

from parts import PATIENCE, Failed, Late

REPLY = re.compile(rb"^(\d{3})(?: [^\n]*)?\n", re.MULTILINE)
AT_ONCE = 500  # connections that have not been greeted yet
BIND_ADDRESS_NO_PORT = 24  # IP_...: the port is chosen by connect(), so that a port serves many addresses


def number_in(file):
    try:
        with open(file) as text:
            return int(text.read())
    except (OSError, ValueError):
        return 1 << 30


def raise_limits(wanted=65536):
    """For us and all that we start: as many descriptors as are allowed, which root may raise."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(wanted, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return
        except (OSError, ValueError):
            pass


def can_hold(wanted):
    """How many of so many connections a server with a thread for each can have here; says so where it is fewer."""
    most = {"RLIMIT_NOFILE": resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000,
            "threads-max": number_in("/proc/sys/kernel/threads-max") // 2, "pid_max": number_in("/proc/sys/kernel/pid_max") - 4000,
            "max_map_count": (number_in("/proc/sys/vm/max_map_count") - 5000) // 3,  # a stack and its guard, and an arena's end
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // (64 << 10),
            **{file: number_in(file) - 1000 for file in ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")}}
    least = min(most, key=most.get)
    if most[least] >= wanted:
        return wanted
    print(f"        only {most[least]} connections instead of {wanted}: {least} allows no more", flush=True)
    return most[least]


def addresses(network, count):
    """So many addresses of 127.NETWORK.0.0/16, again and again."""
    return itertools.cycle(f"127.{network}.{n // 250}.{n % 250 + 1}" for n in range(count))


def called(port, source, blocking=True, buffer=0):
    """A socket that calls the port, from that address."""
    caller = socket.socket()
    caller.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
    if buffer:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    caller.bind((source, 0))
    caller.setblocking(blocking)
    if blocking:
        caller.settimeout(PATIENCE)
    try:
        caller.connect(("127.0.0.1", port))
    except BlockingIOError:
        pass
    except BaseException:
        caller.close()
        raise
    return caller


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Guest:
    """One connection. `lines` are still to be said, each when the last one was answered; `codes` were heard, `since` is when it
    fell silent, and `ended` when the other side ended it: "closed" or "reset" is `how`."""
    __slots__ = ("socket", "kind", "lines", "drops", "heard", "codes", "since", "ended", "how", "reads")

    def __init__(self, connection, kind, lines, drops, reads):
        self.socket, self.kind, self.lines, self.drops, self.reads = connection, kind, list(lines), drops, reads
        self.heard, self.codes, self.since, self.ended, self.how = b"", [], None, None, ""

    @property
    def settled(self):
        return self.since is not None


class Crowd:
    """Calls itself c.crowd.test; `box` clears up."""

    def __init__(self, box, port):
        self.port, self.guests, self.calling, self.waiting = port, {}, 0, []
        self.epoll, self.next_drop, self.turn = select.epoll(), 0, 0
        self.all = []  # also those who have gone
        box.keep(self)

    # ---- who comes ----

    def invite(self, count, sources, kind, lines=(), drops=None, reads=True, port=None, greets=True):
        """So many come, as soon as there is time: each says `lines` one by one, and then, endlessly, an octet of `drops` a
        second (b"": nothing; None: nothing and it waits). Who does not read says all `lines` at once, as long as it can. Where nobody `greets` it begins at once."""
        self.waiting.extend((next(sources), kind, lines, drops, reads, port or self.port, greets) for _ in range(count))

    def call(self, source, kind, lines, drops, reads, port, greets):
        connection = called(port, source, blocking=False, buffer=0 if reads else 2048)
        guest = Guest(connection, kind, lines, drops and itertools.cycle(drops), reads)
        self.guests[connection.fileno()] = guest
        self.all.append(guest)
        if greets:
            self.calling += 1
        else:
            guest.since = time.monotonic()
        self.epoll.register(connection.fileno(), select.EPOLLIN | select.EPOLLRDHUP if reads else select.EPOLLOUT | select.EPOLLRDHUP)

    # ---- what happens ----

    def until(self, what, condition, seconds=2 * PATIENCE):
        """Lets them go on until that is true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Late(f"waited {seconds} s in vain: {what}; {self}")
            self.step()

    def step(self):
        while self.waiting and self.calling < AT_ONCE:
            self.call(*self.waiting.pop())
        self.drip()
        for number, events in self.epoll.poll(0.02, 1000):
            guest = self.guests.get(number)
            if guest is None:
                continue
            if not guest.reads:
                self.stuff(guest, events)
            elif events & ~select.EPOLLOUT:
                self.listen(guest)

    def listen(self, guest):
        try:
            some = guest.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            return self.over(guest, "reset")
        if not some:
            return self.over(guest, "closed")
        guest.heard += some
        found = list(REPLY.finditer(guest.heard))
        if not found:
            return
        if not guest.codes:
            self.calling -= 1
        guest.codes += [int(each[1]) for each in found]
        guest.heard = guest.heard[found[-1].end():]
        if guest.lines:
            self.say(guest, guest.lines.pop(0))
        if not guest.lines or guest.codes[-1] >= 400:
            guest.lines = []
            guest.since = guest.since or time.monotonic()

    def say(self, guest, octets):
        try:
            guest.socket.send(octets)
            if not guest.lines:
                guest.since = time.monotonic()  # of its last words: what follows them is for nobody
        except BlockingIOError:
            raise Failed(f"{guest.kind}: {len(octets)} octets are not taken") from None
        except OSError:
            self.over(guest, "reset")

    def stuff(self, guest, events):
        """One that never reads: it says its lines as long as somebody takes them, and is told only of the end."""
        if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
            return self.over(guest, "reset" if events & select.EPOLLERR else "closed")
        try:
            for _ in range(64):
                guest.socket.send(b"".join(guest.lines))
        except BlockingIOError:
            pass
        except OSError:
            return self.over(guest, "reset")
        if not guest.settled:
            self.calling -= 1
        guest.since = time.monotonic()
        self.epoll.modify(guest.socket.fileno(), select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def drip(self):
        """An octet of each, every second; a tenth of them at a time."""
        now = time.monotonic()
        if now < self.next_drop:
            return
        self.next_drop, self.turn = now + 0.1, (self.turn + 1) % 10
        for number, guest in list(self.guests.items()):
            if guest.drops and guest.settled and number % 10 == self.turn:
                try:
                    guest.socket.send(bytes([next(guest.drops)]))
                except OSError:
                    pass  # the end of it will be heard

    def over(self, guest, how):
        number = guest.socket.fileno()
        self.epoll.unregister(number)
        del self.guests[number]
        guest.socket.close()
        if not guest.codes and not guest.settled:
            self.calling -= 1
        guest.ended, guest.how = time.monotonic(), how

    # ---- who goes, and what was heard ----

    def leave(self, guests, politely=False):
        for guest in guests:
            if guest.ended is None:
                (socket.socket.close if politely else reset)(guest.socket) if self.guests.pop(guest.socket.fileno(), None) else None
                guest.ended, guest.how = time.monotonic(), "left"

    def settled(self):
        """All have come and said what they had to say."""
        return not self.waiting and all(guest.settled or guest.ended for guest in self.all)

    def of(self, *kinds):
        return [guest for guest in self.all if guest.kind in kinds]

    def here(self, *kinds):
        return [guest for guest in self.of(*kinds) if guest.ended is None]

    def stop(self):
        self.kill()

    def kill(self):
        for guest in list(self.guests.values()):
            reset(guest.socket)
        self.guests.clear()
        self.epoll.close()

    def __str__(self):
        said = Counter((guest.kind, guest.how or ("silent" if guest.settled else "under way"), *guest.codes[-1:]) for guest in self.all)
        return "; ".join(f"{count} {' '.join(map(str, kind))}" for kind, count in sorted(said.items(), key=str)) or "nobody"
