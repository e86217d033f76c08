"""nsd.py -- a private name server that serves zones given as text, signed where they are to be; two that serve nothing,
and one that says what it is told.

Names without a dot behind them in a zone's text are below the zone. Needs no root.
"""
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter

from parts import PATIENCE, Failed, Late, check, client, die_with_us, free_port, peer, wait_for

CONFIGURATION = """\
server:
    ip-address: 127.0.0.1@{port}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{home}"
    pidfile: ""
    database: ""
    zonelistfile: "{home}/zone.list"
    xfrdfile: "{home}/xfrd.state"
    xfrdir: "{home}"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""

APEX = """\
$ORIGIN {name}.
$TTL 300
@ SOA ns hostmaster 1 300 300 300 300
@ NS ns
ns A 127.0.0.1
"""

DAY = 86400


class Signed(str):
    """A zone's text below its apex, to be served with signatures (RFC 4035). What `spoil` makes of a line behind that is
    no longer what was signed."""
    def spoil(self, line):
        return line


TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def wire(name):
    """A domain name as octets (RFC 1035 3.1)."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


class Nsd:
    """Serves `zones`, by UDP and TCP on 127.0.0.1:port. Name -> text below the apex; None: a zone that cannot be served.
    `anchor` is a file with what the signed ones are validated by."""

    def __init__(self, box, zones):
        program, environment = peer("nsd", "usr/sbin/nsd")
        for _ in range(3):  # the port may be taken from under us
            self.port, self.log, self.home, self.apex = free_port(), box.new("nsd.log"), box.new("nsd"), next(iter(zones))
            self.home.mkdir()
            self.anchor = self.home / "anchor"
            text = CONFIGURATION.format(port=self.port, home=self.home)
            for name, records in zones.items():
                text += f'zone:\n    name: "{name}"\n    zonefile: "{name}.zone"\n'
                if records is not None:
                    (self.home / f"{name}.zone").write_text(APEX.format(name=name) + records)
                if isinstance(records, Signed):
                    self.sign(name, records.spoil)
            (self.home / "nsd.conf").write_text(text)
            self.process = subprocess.Popen([*program, "-d", "-c", self.home / "nsd.conf"], env=environment,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log.open("ab"),
                                            start_new_session=True, preexec_fn=die_with_us)
            box.keep(self)
            if wait_for("nsd starts", self.answers_or_ended) == "answers":
                return
            box.started.remove(self)
            self.kill()
        raise Late("nsd does not start")

    def sign(self, name, spoil):
        """By a new key, whose DS record goes to the anchors."""
        def ldns(tool, *arguments):
            (program,), environment = peer("ldns", f"usr/bin/{tool}")
            # It writes the key where it runs.
            return client((["/usr/bin/env", "-C", self.home, program], environment), *arguments)
        key = ldns("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name).split()[-1]
        path, yesterday = self.home / f"{name}.zone", int(time.time()) - DAY
        ldns("ldns-signzone", "-i", yesterday, "-e", yesterday + 9 * DAY, "-f", path, path, key)
        path.write_text("".join(spoil(line) for line in path.read_text().splitlines(keepends=True)))
        with self.anchor.open("a") as anchors:
            anchors.write((self.home / f"{key}.ds").read_text())

    def answers_or_ended(self):
        if self.process.poll() is not None:
            return "ended"
        try:
            return "answers" if self.ask(self.apex, "SOA")[0] == NOERROR else None
        except OSError:
            return None

    def ask(self, name, kind):
        """One question by UDP, as a resolver asks it: (response code, whether the answer was too large, its records)."""
        question = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 1) + wire(name) + struct.pack(">2H", TYPES[kind], 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", self.port))
            client.send(question + b"\0" + struct.pack(">2HLH", 41, 1232, 0, 0))  # EDNS: up to 1232 octets
            flags, _, answers = struct.unpack(">3H", client.recv(4096)[2:8])
        return flags & 15, bool(flags & 0x0200), answers

    def stop(self):
        check(self.process.poll() is None, "nsd ended by itself")
        self.kill()

    def kill(self):
        """kill -9, for it and its children; harmless when it is gone."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Silent:
    """A name server that takes every question and answers none."""

    def __init__(self, box):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        box.keep(self)

    def stop(self):
        self.kill()

    def kill(self):
        self.socket.close()


class Question:
    """What a resolver asks, and answers to it (RFC 1035 4)."""

    def __init__(self, packet):
        self.id, labels, at = packet[:2], [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1"))
            at += 1 + packet[at]
        self.name, self.section = ".".join(labels).lower(), packet[12:at + 5]
        number = struct.unpack(">H", packet[at + 1:at + 3])[0]
        self.kind = next((kind for kind in TYPES if TYPES[kind] == number), str(number))

    def answer(self, *records, code=NOERROR, flags=0, count=None, section=None):
        """`records` are of the type that was asked for, to be forgotten at once: each the octets of its data."""
        head = struct.pack(">5H", 0x8180 | flags | code, 1, len(records) if count is None else count, 0, 0)
        return self.id + head + (section or self.section) + b"".join(self.record(data) for data in records)

    def record(self, data, owner=b"\xc0\x0c", kind=None):
        return owner + struct.pack(">2HLH", TYPES[kind or self.kind], 1, 0, len(data)) + data


class Told:
    """A name server that says what it is told: `say(question)` is a list of packets, by UDP; `by_tcp(question)` the octets
    it says by TCP, where nobody is if there is none. `asked` counts the questions by UDP, by name and type."""

    def __init__(self, box, say, by_tcp=None):
        self.say, self.by_tcp, self.asked, self.tcp, self.over = say, by_tcp, Counter(), None, False
        for _ in range(20):  # a port that both have
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            self.port = self.udp.getsockname()[1]
            try:
                self.tcp = by_tcp and socket.create_server(("127.0.0.1", self.port))
                break
            except OSError:
                self.udp.close()
        else:
            raise Failed("no port for a name server")
        self.threads = [threading.Thread(target=each, daemon=True) for each in (self.datagrams, *([self.connections] if by_tcp else []))]
        for each in self.threads:
            each.start()
        box.keep(self)

    def datagrams(self):
        while True:
            packet, sender = self.udp.recvfrom(4096)
            if self.over:
                return
            question = Question(packet)
            self.asked[question.name, question.kind] += 1
            for each in self.say(question):
                self.udp.sendto(each, sender)

    def connections(self):
        while True:
            connection, _ = self.tcp.accept()
            with connection, connection.makefile("rb") as sent:
                connection.settimeout(PATIENCE)
                if self.over:
                    return
                try:
                    connection.sendall(self.by_tcp(Question(sent.read(int.from_bytes(sent.read(2), "big")))))
                except (OSError, IndexError):
                    pass  # who asked is gone

    def stop(self):
        check(all(each.is_alive() for each in self.threads), "the name server ended by itself")
        self.kill()

    def kill(self):
        self.over = True
        for kind in [socket.SOCK_DGRAM, *([socket.SOCK_STREAM] if self.tcp else [])]:  # wakes the threads
            with socket.socket(socket.AF_INET, kind) as waker:
                waker.connect(("127.0.0.1", self.port))
                waker.send(b"over")
        for each in self.threads:
            each.join(PATIENCE)
        for each in filter(None, (self.udp, self.tcp)):
            each.close()


def closed_port():
    """A port of 127.0.0.1 where no name server was a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
