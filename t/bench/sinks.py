"""sinks.py -- the servers that take mail to nowhere: ours, the floors, and every peer that Debian or npm has."""
import os
import re
from pathlib import Path

import keepers
import parts
import postfix
from running import BENCH, EXAMPLES, FAILED, PEERS, Loaded, Server

OUR_SINK = Path(os.environ.get("OURS", EXAMPLES / "sink")).resolve()
BASE = Path(os.environ.get("BASE", OUR_SINK)).resolve()
ANY_PORT, GIVEN_PORT = ["--listen", "127.0.0.1:0"], ["--listen", "127.0.0.1:PORT"]

PROGRAMS = {
    "ours": [OUR_SINK, *ANY_PORT, "--keep"],
    "ours-stream": [OUR_SINK, *ANY_PORT],
    "base": [BASE, *ANY_PORT, "--keep"],
    "floor-kept": [BENCH / "floor", *ANY_PORT, "--keep"],
    "floor": [BENCH / "floor", *ANY_PORT],
    "smtp-sink": [PEERS / "smtp-sink", *GIVEN_PORT],
    "go-smtp": [PEERS / "go-smtp", *ANY_PORT],
    "aiosmtpd": [PEERS / "aiosmtpd", *ANY_PORT],
    "nodemailer": [PEERS / "nodemailer", *ANY_PORT],
    "haraka": [PEERS / "haraka", *GIVEN_PORT],
    "net-smtp-server": [PEERS / "net-smtp-server", *ANY_PORT],
    "postfix": [],
}
WHAT = {
    "ours": "examples/sink --keep: each message is in memory, as MSG",
    "ours-stream": "examples/sink: the body goes by a sink of 64 KiB at most, and nothing is kept",
    "floor-kept": "the least server of our kind: threads reused, fixed replies, nothing parsed; it keeps each message in memory",
    "floor": "the same, which keeps nothing",
    "smtp-sink": "Postfix's own test server, one process; discards",
    "go-smtp": "a goroutine for each connection; discards",
    "aiosmtpd": "Python's asyncio; keeps each message in memory, as it always does",
    "nodemailer": "nodemailer's smtp-server on Node.js; discards",
    "haraka": "Haraka on Node.js, one process, one plugin that takes all; discards",
    "net-smtp-server": "Perl's Net::SMTP::Server, a process for each client; keeps each message in memory, as it always does",
    "postfix": "Postfix's smtpd and cleanup with DISCARD for every recipient: nothing is kept",
}
# What the only registries at hand do not have, and so is not measured.
NOT_TO_BE_HAD = {
    "POE::Component::Server::SimpleSMTP": "Debian has no package of it (`libpoe-component-server-simplesmtp-perl` or any other), and it is not of npm",
    "SubEthaSMTP": "Debian has no package of it, and it is not of npm",
}
# It knows no EHLO.
HELO_ONLY = {"net-smtp-server": ("--hello", "HELO")}

# Processes for everybody, mail of any size, to nowhere.
DISCARDING = ["default_process_limit = 400", "max_use = 100000", "max_idle = 3600s", "message_size_limit = 0", "in_flow_delay = 0"]


class Postfix(Loaded):
    """Its master is the root of its processes."""

    def __init__(self, settings=(), doors=None):
        self.name, self.box = "postfix", parts.Box()
        try:
            self.instance = postfix.Postfix(self.box, 25, permit="check_recipient_access static:DISCARD, permit_mynetworks",
                                            settings=[*DISCARDING, *settings], doors=doors)
        except Exception:
            self.end()
            raise
        self.pids, self.address = [self.instance.master.pid], f"127.0.0.1:{self.instance.port}"

    def trouble(self):
        return re.findall(r"^.*(?:warning|error|fatal|panic): .*$", self.instance.log.read_text(errors="replace"), re.MULTILINE)

    def end(self):
        self.box.clear()


def version_of(name):
    if name == "postfix":
        return keepers.version_of("postfix", "postfix").partition(" ")[2]
    file = PEERS / f"{name}.version"
    return file.read_text().strip() if file.exists() else ""


def start(name):
    return Postfix() if name == "postfix" else Server(name, PROGRAMS[name], HELO_ONLY.get(name, ()))


def start_all(figures, load, names, start=start):
    """Those of these that can be had and started."""
    servers = []
    for name in names:
        try:
            if PROGRAMS.get(name) and not os.access(PROGRAMS[name][0], os.X_OK):
                raise parts.Skipped("it cannot be had here")
            servers.append(start(name))
            if name in WHAT and not name.startswith(("ours", "floor")):
                figures.version(name, version_of(name))
        except FAILED as failure:
            figures.failed(name, load, failure)
        except parts.Skipped as reason:
            figures.leave_out(name, str(reason))
    return servers
