"""nsd.py -- a private name server that serves zones given as text, signed where they are to be, and two that serve nothing.

Names without a dot behind them in a zone's text are below the zone. Needs no root.
"""
import os
import signal
import socket
import struct
import subprocess
import time

from parts import PATIENCE, Failed, check, client, die_with_us, free_port, peer, wait_for

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


TYPES = {"A": 1, "SOA": 6, "MX": 15, "AAAA": 28, "TLSA": 52}
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


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
        raise Failed("nsd does not start")

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
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        question = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 1) + labels + struct.pack(">2H", TYPES[kind], 1)
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


def closed_port():
    """A port of 127.0.0.1 where no name server was a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
