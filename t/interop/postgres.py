#!/usr/bin/python3
"""postgres.py -- a private PostgreSQL: a new cluster in a folder of its own, on a free loopback port, that trusts everybody there.

usage: t/interop/postgres.py COMMAND [ARGUMENT...]     runs the command with POSTGRES_URL in its environment, then ends it all
Exit status: the command's; 77 when there is no PostgreSQL (see t/interop/peers).
"""
import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.dont_write_bytecode = True

import record
from parts import PATIENCE, PEERS, Box, Failed, Skipped, check, free_port, wait_for

USER = "nobody"  # whom it runs as where we are root, which it refuses to be
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 200, "fsync": "on",
            "synchronous_commit": "on", "full_page_writes": "on", "log_timezone": "UTC"}
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}


def programs():
    """The folder of the newest PostgreSQL of the system, or of build/peers."""
    for root in (Path("/"), PEERS / "postgresql"):
        found = [path.parent for path in root.glob("usr/lib/postgresql/*/bin/initdb")]
        if found:
            record.met("postgresql")
            return max(found, key=lambda path: float(path.parent.name)), root
    raise Skipped("there is no PostgreSQL, neither on this system nor under build/peers (see t/interop/peers)")


def killed_with_us():
    """Should this program be killed, the kernel ends the database, at once (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


class Postgres:
    """Running until stop(); what is in it outlives stop_server() and start_server(). `url` is for libpq. More `settings` are
    those of postgresql.conf."""

    def __init__(self, box, **settings):
        self.programs, root = programs()
        self.environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LD_LIBRARY_PATH": "" if root == Path("/") else
                            ":".join(sorted({str(library.parent) for library in root.rglob("*.so*")}))}
        self.user = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self.log, self.folder, self.process = box.new("postgres.log"), box.for_all_users() / box.new("database").name, None
        self.folder.mkdir(mode=0o700)
        if self.user:
            os.chown(self.folder, pwd.getpwnam(USER).pw_uid, self.user["group"])
        made = subprocess.run([self.programs / "initdb", "-D", self.folder, "-A", "trust", "-U", "mail", "-E", "UTF8", "--locale=C", "--no-sync"],
                              env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=2 * PATIENCE, cwd="/", **self.user)
        if made.returncode != 0:
            raise (Skipped if b"ermission denied" in made.stdout else Failed)(f"initdb: {made.stdout.decode(errors='replace')[-300:]}")
        self.settings = SETTINGS | settings
        box.keep(self)
        for last in (False, False, True):  # the port may be taken from under us
            self.port = free_port()
            try:
                self.start_server()
                break
            except Failed:
                if last:
                    raise
        self.url = f"postgresql://mail@127.0.0.1:{self.port}/postgres"

    def start_server(self):
        options = [word for name, value in (self.settings | {"port": self.port}).items() for word in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen([self.programs / "postgres", "-D", self.folder, *options], env=self.environment, cwd="/",
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log.open("ab"),
                                        start_new_session=True, preexec_fn=killed_with_us, **self.user)
        wait_for("PostgreSQL answers", self.answers)

    def answers(self):
        check(self.process.poll() is None, f"PostgreSQL ended with {self.process.returncode}:", self.log.read_text(errors="replace")[-300:])
        ready = subprocess.run([self.programs / "pg_isready", "-q", "-U", "mail", "-d", "postgres", "-h", "127.0.0.1", "-p", str(self.port)], env=self.environment,
                               stdin=subprocess.DEVNULL, cwd="/", timeout=PATIENCE)
        return ready.returncode == 0

    def stop_server(self, how="fast"):
        """As the words of pg_ctl say, or "kill"."""
        self.process.send_signal(SIGNALS[how])
        self.process.wait(PATIENCE)
        wait_for("all of its processes have ended", lambda: not self.group_alive())

    def group_alive(self):
        """It puts some of its processes into groups of their own; they all hold its port's address or its memory till they end."""
        try:
            os.killpg(self.process.pid, 0)
            return True
        except ProcessLookupError:
            pass
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return True
        return False

    def ask(self, statement):
        """Lines of what psql answers, fields parted by '|'."""
        done = subprocess.run([self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url], env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, cwd="/")
        check(done.returncode == 0, f"psql: {done.stdout.decode(errors='replace')}")
        return done.stdout.decode().splitlines()

    def stop(self):
        check(self.process.poll() is None, "PostgreSQL ended by itself")
        self.stop_server()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(SIGNALS["immediate"])
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def main(command):
    box = Box()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        status = subprocess.run(command, env={**os.environ, "POSTGRES_URL": Postgres(box).url}).returncode
        box.stop()
        return status
    except Skipped as reason:
        print(f"postgres.py: {reason}", file=sys.stderr)
        return 77
    finally:
        box.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or sys.exit(__doc__)))
