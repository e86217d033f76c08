"""running.py -- servers that are measured: started in private, loaded over loopback, ended by process id."""
import ctypes
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BENCH = TOP / "build/bench"
PEERS = BENCH / "peers"
EXAMPLES = TOP / "build/examples"
QUICK = os.environ.get("QUICK", "") not in ("", "0")

sys.path.insert(0, str(TOP / "t/interop"))
import parts  # noqa: E402


def rounds(full, quick=1):
    """How often each server takes its turn."""
    return int(os.environ.get("ROUNDS", quick if QUICK else full))


def seconds(full, quick):
    """How long one turn is."""
    return float(os.environ.get("SECONDS", quick if QUICK else full))


class Failure(Exception):
    """A server did not do what it must."""


# Whatever may go wrong with a server or a tool.
FAILED = (Failure, parts.Failed, subprocess.SubprocessError, OSError)


def chosen(variable, possible, default):
    """The names that an environment variable lists."""
    names = [name for name in os.environ.get(variable, "").split(",") if name]
    for name in names:
        if name not in possible:
            print(f"bench: {variable}: there is no {name} in this class; there are {', '.join(possible)}", file=sys.stderr)
    return [name for name in names if name in possible] if names else list(default)


def raise_descriptor_limit(wanted):
    """Every connection is a descriptor of the server too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard < wanted:
            print(f"bench: WARNING: 10,000 connections need `ulimit -n {wanted}`", file=sys.stderr)


def die_with_us():
    """In the child: no server outlives this program, nor an hour, whatever happens."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(3600)


def tool(*command, seconds=300):
    """The JSON object that a program of ours printed; nothing when it says that the server does not offer this."""
    command = [str(each) for each in command]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=seconds)
    if ran.returncode == 3:
        return None
    if ran.returncode != 0:
        said = ran.stderr.strip().splitlines()
        raise Failure(f"{pathlib.Path(command[0]).name}: {said[0] if said else f'exit status {ran.returncode}'}")
    return json.loads(ran.stdout)


class Loaded:
    """What `load` can be pointed at: has name, address, and the pids of the roots of all its processes."""

    loader, loader_options = "load", ()

    def load(self, arguments, seconds):
        """What the loader measured; nothing when the server does not offer the mode."""
        pids = [part for pid in self.pids for part in ("--pid", pid)]
        return tool(BENCH / self.loader, *arguments.split(), *self.loader_options, "--seconds", seconds, *pids, self.address)

    def trouble(self):
        """Lines of its log that should not be there."""
        return []


class Server(Loaded):
    """A running program. It prints "listening on HOST:PORT"; or "PORT" among its arguments is one we choose for it."""

    def __init__(self, name, command, loader_options=()):
        command = [str(part) for part in command]
        port = parts.free_ports(1)[0] if any("PORT" in part for part in command) else None
        command = [part.replace("PORT", str(port)) for part in command]
        self.name, self.loader_options = name, loader_options
        self.log = open(BENCH / f"{name}.log", "w")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
                                        start_new_session=True, preexec_fn=die_with_us)
        self.pids = [self.process.pid]
        try:
            self.address = f"127.0.0.1:{port}" if port else self.announced()
            self.greets()
        except Exception:
            self.end()
            raise

    def announced(self):
        if not select.select([self.process.stdout], [], [], 20)[0]:
            raise Failure(f"{self.name} did not say that it listens")
        line = self.process.stdout.readline().decode().strip()
        if not line.startswith("listening on "):
            raise Failure(f"{self.name} said {line!r} instead of where it listens")
        return line.removeprefix("listening on ")

    def connect(self):
        """A connection on which the greeting comes next."""
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=10)

    def greets(self):
        for _ in range(300):
            try:
                with self.connect() as s:
                    if s.recv(3) == b"220":
                        s.sendall(b"QUIT\r\n")
                        while s.recv(1024):
                            pass
                        return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise Failure(f"{self.name} does not greet, see build/bench/{self.name}.log")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        try:  # what it has started goes with it
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(BENCH / f"haraka.{self.process.pid}", ignore_errors=True)


def warmed(figures, load, servers, arguments, seconds=0.2):
    """Those of the servers that take this load, after a little of it: threads, caches, heaps, processes."""
    ready = []
    for server in servers:
        try:
            if server.load(arguments, seconds):
                ready.append(server)
            else:
                figures.leave_out(server.name, f"{load}: not offered")
        except FAILED as failure:
            figures.failed(server.name, load, failure)
    return ready


def stolen():
    """Seconds that the host has kept this machine's processors for others, all of them together."""
    with open("/proc/stat", encoding="ascii") as stat:
        return int(stat.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def tree():
    """What is measured: the commit; the page and its charts make it no other."""
    def git(*words):
        try:
            return subprocess.run(["git", *words], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
        except OSError:
            return ""
    commit = git("describe", "--always")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!doc")
    return (commit + "-dirty" if changed else commit) or "this tree"


def undisturbed(run, before):
    """What run() gives behind before(), with what the host took meanwhile: of a few tries the first that lost no more
    than a tenth of a processor, or the last."""
    for _ in range(1 if QUICK else 3):
        before()
        began, taken = time.monotonic(), stolen()
        found = run()
        lost = (stolen() - taken) / (time.monotonic() - began)
        if lost <= 0.1:
            break
    if found:
        found["stolen"] = lost
    return found


def in_turns(figures, load, servers, arguments, turns, seconds, beside=None, later=(), before=lambda: None):
    """A B C A B C: loads each server in its turn, behind before(). Those in `later` take part in the first two rounds
    alone. With `beside`, each run is followed at once by one with these arguments on the same server, to be compared with."""
    def one(server):
        run = server.load(arguments, seconds)
        if run and beside:
            run["beside"] = server.load(beside, seconds)
        return run

    servers = list(servers)
    for turn in range(turns):
        for server in list(servers):
            if turn >= 2 and server.name in later:
                continue
            try:
                run = undisturbed(lambda server=server: one(server), before)
            except FAILED as failure:
                figures.failed(server.name, load, failure)
                servers.remove(server)
                continue
            figures.note(load, server.name, turn + 1, run)
    for server in servers:
        if found := server.trouble():
            figures.failed(server.name, load, found[0])
