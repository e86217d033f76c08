"""keepers.py -- the mail servers whose queues t/bench/queue measures: private ones, that keep mail and deliver none.

Each has `version`, `pid`, the root of all its processes, and `address`. Each is set as its users do who want speed: no
limit on clients, no look-ups; its fsync stays, and its log.
"""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "t/interop"))
import exim
import opensmtpd
import postfix
import postgres
from parts import PEERS

# The cheapest way for Postfix to keep mail: nobody takes it out of `incoming`. (Held, each mail costs one rename more, and
# a line of the log; deferred, twice as much.)
TUNED = """\
default_process_limit = 400
max_use = 100000
max_idle = 3600s
in_flow_delay = 0
qmgr_clog_warn_time = 0
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_recipient_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{via}
"""
SENDING = """\
default_destination_concurrency_limit = {concurrency}
initial_destination_concurrency = {concurrency}
smtp_connection_cache_on_demand = {reuse}
smtp_connection_reuse_count_limit = 0
"""


def version_of(peer, package):
    complete = (PEERS / peer / ".complete").read_text()
    found = re.search(rf"^{re.escape(package)}_([^_]+)_", complete, re.MULTILINE)
    return f"{peer} {found[1]}" if found else peer


class Postfix(postfix.Postfix):
    """It keeps what it takes until deliver()."""

    def __init__(self, box, name="postfix"):
        super().__init__(box, 1, name)
        self.version, self.pid, self.address = version_of("postfix", "postfix"), self.master.pid, f"127.0.0.1:{self.port}"

    def settle(self, box, via, withhold):
        super().settle(box, via, withhold)
        self.configure(TUNED.format(via=via), manager=False)
        os.mkfifo(self.home / "queue/public/qmgr")  # whose absence it would log with each mail

    def deliver(self, via, **sending):
        """Starts the queue manager: everything goes to 127.0.0.1:via, as Postfix does by default or as `sending` says."""
        (self.home / "queue/public/qmgr").unlink()
        self.configure(TUNED.format(via=via) + (SENDING.format(**sending) if sending else ""), manager=True)
        self.master.send_signal(signal.SIGHUP)

    def configure(self, settings, manager):
        main, master = self.home / "main.cf", self.home / "master.cf"
        names = {line.split(" =")[0] for line in settings.splitlines()}
        main.write_text("".join(f"{line}\n" for line in main.read_text().splitlines() if line.split(" =")[0] not in names) + settings)
        services = [line for line in master.read_text().splitlines() if line.split(" ")[0] not in ("qmgr", "scache")]
        services += ["scache unix - - n - 1 scache"] + ["qmgr unix n - n 300 1 qmgr"] * manager
        master.write_text("".join(f"{line}\n" for line in services))
        for path in (main, master):  # it waits a second or two for a file just written
            os.utime(path, (0, 0))

    def trouble(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if re.search("(?:warning|error|fatal|panic): ", line)]


class OpenSMTPD(opensmtpd.OpenSMTPD):
    """Its delivery is paused."""

    def settle(self):
        super().settle()
        listen = opensmtpd.IN_THE_CLEAR.format(hostname=self.hostname, port=self.port)
        text = f"smtp max-message-size 200M\n{listen}\naction waiting relay host smtp://127.0.0.1:1\nmatch from any for any action waiting\n"
        return ["/usr/sbin/smtpd", "-d", "-P", "mta", "-f", self.write("etc/smtpd.conf", text)]

    def __init__(self, box):
        super().__init__(box)
        self.version, self.pid, self.address = version_of("opensmtpd", "opensmtpd"), self.process.pid, f"127.0.0.1:{self.port}"


EXIM_TUNED = """\
queue_only
split_spool_directory
smtp_accept_max = 0
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
smtp_connect_backlog = 1000
"""


class Exim(exim.Exim):
    """It only queues."""

    def settle(self):
        command = super().settle()
        path = self.root / "etc/exim4/exim4.conf"
        path.write_text(EXIM_TUNED + path.read_text())
        return command

    def __init__(self, box):
        super().__init__(box)
        self.version, self.pid, self.address = version_of("exim", "exim4-daemon-light"), self.process.pid, f"127.0.0.1:{self.port}"


class PostgreSQL(postgres.Postgres):
    """It has more room in memory and in its log than it is given by default."""

    def __init__(self, box):
        super().__init__(box, shared_buffers="512MB", max_wal_size="4GB")
        said = subprocess.run([self.programs / "postgres", "--version"], env=self.environment, capture_output=True, text=True).stdout
        self.version, self.pid = "postgresql " + said.split()[2], self.process.pid
