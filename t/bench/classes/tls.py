"""tls.py -- sessions over TLS: handshakes, small mails, large mails, and sessions that only wait.

TLS comes before the greeting (RFC 8314), so that a session is the handshake and the same few commands with all: STARTTLS
would add the same two round trips to each. The client speaks TLS 1.3 with TLS_AES_128_GCM_SHA256 and X25519 alone, verifies
the certificate, and offers no ticket but in the mode that says so. Tickets are as each server has them by default.
"""
import os
import re
import ssl
import subprocess

import sinks
from figures import over
from page import number, spread, table
from running import BENCH, PEERS, QUICK, Server, chosen, in_turns, rounds, seconds, warmed

TITLE = "TLS"
WITH_TLS = ["--listen", "127.0.0.1:0", "--tls-port", "127.0.0.1:PORT", "--tls-cert", "PEM", "--tls-key", "KEY"]
PROGRAMS = {
    "ours": [sinks.OUR_SINK, *WITH_TLS, "--keep"],
    "ours-stream": [sinks.OUR_SINK, *WITH_TLS],
    "base": [sinks.BASE, *WITH_TLS, "--keep"],
    "ours-no-tls": [sinks.OUR_SINK, "--listen", "127.0.0.1:PORT", "--keep"],  # what is not the price of TLS
    "go-smtp": [PEERS / "go-smtp", *WITH_TLS],
    "postfix": [],
    "aiosmtpd": [PEERS / "aiosmtpd", *WITH_TLS],
    "nodemailer": [PEERS / "nodemailer", *WITH_TLS],
    "haraka": [PEERS / "haraka", "--listen", "127.0.0.1:0", *WITH_TLS[2:]],
}
THEIRS = ["go-smtp", "postfix", "aiosmtpd", "nodemailer", "haraka"]
IDLE, SILENCE = (500, 1) if QUICK else (2000, 5)  # sessions, seconds
# The kind of certificate, and arguments to tls_load.
MODES = {
    "p256": ("p256", "--sessions 10"),
    "rsa": ("rsa", "--sessions 10"),
    "p256-resumed": ("p256", "--sessions 10 --resume"),
    "keep": ("p256", "--sessions 10 --size 4096 --messages 20"),
    "10m": ("p256", "--sessions 4 --size 10485760"),
    "idle": ("p256", f"--sessions 50 --idle {IDLE}"),
}
WHAT = {
    "p256": "sessions of EHLO and QUIT, full handshake, P-256 certificate",
    "rsa": "sessions of EHLO and QUIT, full handshake, RSA-2048 certificate",
    "p256-resumed": "the same with P-256, each resumed by the ticket of the one before",
    "keep": "sessions of 20 mails of 4 KiB, one command per round trip, P-256 certificate",
    "10m": "a mail of 10 MiB in each session, P-256 certificate",
    "idle": f"{IDLE:,} sessions that said EHLO and then nothing for {SILENCE} s",
}
LONGER = {"10m": 2}
LATER = {"aiosmtpd", "haraka"}
# A process of Postfix for each idle session would be a figure of another kind.
LEFT_OUT = {"idle": {"postfix", "ours-no-tls", "ours-stream"}, "p256-resumed": {"ours-no-tls"}}
STREAMED = {"10m"}
CPU = "cpu_us"


def files(kind):
    return BENCH / f"tls-{kind}.pem", BENCH / f"tls-{kind}.key"


def make_certificates():
    for kind, key in (("p256", "ec -pkeyopt ec_paramgen_curve:prime256v1"), ("rsa", "rsa:2048")):
        pem, private = files(kind)
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", *key.split(), "-keyout", private, "-out", pem,
                        "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                       check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Secure(Server):
    """Listens with that certificate; "ours-no-tls" without."""

    loader = "tls_load"

    def __init__(self, name, kind):
        pem, key = files(kind)
        self.ca = None if name == "ours-no-tls" else pem
        command = [{"PEM": pem, "KEY": key}.get(part, part) for part in PROGRAMS[name]]
        super().__init__(name, command, ["--ca", self.ca] if self.ca else [])

    def connect(self):
        raw = super().connect()
        if not self.ca:
            return raw
        return ssl.create_default_context(cafile=self.ca).wrap_socket(raw, server_hostname="localhost")


class Postfix(sinks.Postfix):
    loader = "tls_load"

    def __init__(self, kind):
        pem, key = files(kind)
        super().__init__(settings=["smtpd_tls_security_level = may", f"smtpd_tls_cert_file = {pem}", f"smtpd_tls_key_file = {key}"],
                         doors={"implicit": ["smtpd_tls_wrappermode=yes"]})
        self.loader_options = ["--ca", pem]
        self.address = f"127.0.0.1:{self.instance.doors['implicit']}"


def takes_part(name, mode):
    if "SERVERS" in os.environ and mode != "idle":
        return True
    return name not in LEFT_OUT.get(mode, ()) and (name != "ours-stream" or mode in STREAMED)


def speeds():
    """Microseconds of this system's OpenSSL for each part of a handshake, and for 10 MiB of AES-128-GCM."""
    speed = ["openssl", "speed", "-mr", "-seconds", "1"]
    said = "".join(subprocess.run([*speed, *what], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
                   for what in (["ecdsap256", "rsa2048", "ecdhx25519"], ["-bytes", "16384", "-evp", "aes-128-gcm"]))

    def figure(pattern):
        found = re.search(pattern, said, re.MULTILINE)
        return float(found[1]) if found else None

    per_s = {"P-256 signature": figure(r"^\+F4:\d+:256:([\d.]+):"), "RSA-2048 signature": figure(r"^\+F2:\d+:2048:([\d.]+):"),
             "X25519": figure(r"^\+F5:\d+:253:([\d.]+):")}
    octets = figure(r"^\+F:\d+:AES-128-GCM:([\d.]+)$")
    result = {what: 1e6 / each for what, each in per_s.items() if each}
    if octets:
        result["10 MiB of AES-128-GCM"] = 1e6 * 10 * 2**20 / octets
    return result


def limit(mode, speed):
    """What the mode's cryptography alone costs. Of X25519 there are two: a key of our own, and what is agreed on."""
    needs = {"p256": ["P-256 signature", "X25519", "X25519"], "rsa": ["RSA-2048 signature", "X25519", "X25519"],
             "p256-resumed": ["X25519", "X25519"], "10m": ["10 MiB of AES-128-GCM"]}.get(mode)
    return sum(speed[part] for part in needs) if needs and all(part in speed for part in needs) else None


def measure(figures):
    make_certificates()
    figures.about["speeds"] = speeds()
    default = [name for name in PROGRAMS if name != "base" or "BASE" in os.environ]
    modes = chosen("MODES", MODES, MODES)
    busy = [mode for mode in modes if mode != "idle"]  # idle memory is looked at in servers that have done nothing yet
    by_kind = [["idle"] * ("idle" in modes), *([mode for mode in busy if MODES[mode][0] == kind] for kind in ("p256", "rsa"))]
    for group in by_kind if QUICK else [[mode] for mode in modes]:  # new servers for each mode, where there is time
        if group:
            measure_group(figures, group, chosen("SERVERS", PROGRAMS, default))


def measure_group(figures, modes, names):
    """Modes that need the same certificate, on servers that are started once."""
    kind = MODES[modes[0]][0]
    servers = sinks.start_all(figures, modes[0], [name for name in names if any(takes_part(name, mode) for mode in modes)],
                              lambda name: Postfix(kind) if name == "postfix" else Secure(name, kind))
    try:
        for mode in modes:
            arguments, idle = MODES[mode][1], mode == "idle"
            warm = warmed(figures, mode, [server for server in servers if takes_part(server.name, mode)],
                          MODES["p256"][1] if idle else arguments)
            turn = SILENCE if idle else seconds(0.8, 0.3) * LONGER.get(mode, 1)
            in_turns(figures, mode, warm, arguments, 1 if idle else rounds(4), turn, later=LATER)
    finally:
        for server in servers:
            server.end()


def sessions_table(f, mode, bound):
    rows = []
    for name in [name for name in PROGRAMS if name in f.servers(mode)]:
        value = lambda key: f.median(mode, name, key)
        rows.append([name, number(value(CPU)), spread(f.values(mode, name, CPU)), number(over(value(CPU), bound), 2),
                     number(over(f.median(mode, "ours", CPU), value(CPU)), 2), number(value("sessions_per_s"), 1),
                     *(number(value(f"session_{p}_us") / 1000, 2) for p in ("p50", "p99", "p999"))])
        if mode == "p256-resumed":
            rows[-1].append(number(100 * sum(f.values(mode, name, "resumed")) / sum(f.values(mode, name, "sessions"))))
    head = ["server", "CPU us/session", "lowest - highest", "CPU / limit", "CPU: ours / it", "sessions/s", "p50 ms", "p99 ms", "p99.9 ms"]
    yield from table(head + (["resumed %"] if mode == "p256-resumed" else []), rows)


def idle_table(f):
    yield from table(["server", "resident kB each", "in all, MB"],
                     [[name, number(f.median("idle", name, "rss_kb_each"), 1), number(f.median("idle", name, "rss_kb") / 1024, 1)]
                      for name in PROGRAMS if name in f.servers("idle")])


def sections(f):
    speed = f.about.get("speeds", {})
    yield from ("", "### The limit: `openssl speed`, one thread", "")
    yield from table(["what", "us"], [[what, number(each, 1)] for what, each in speed.items()])
    for mode, (_, arguments) in MODES.items():
        if not f.servers(mode):
            continue
        bound = limit(mode, speed)
        yield from ("", f"### {mode}: {WHAT[mode]}", "", f"`tls_load {arguments}`" + (f"; the cryptography alone: {bound:,.0f} us" if bound else ""), "")
        yield from idle_table(f) if mode == "idle" else sessions_table(f, mode, bound)


def goals(f):
    yield 10, "TLS, P-256 connection: CPU / go-smtp", f.ratio("p256", "ours", "go-smtp", CPU), "<=", 0.7, 0.6
    yield 10, "TLS, RSA-2048 connection: CPU / go-smtp", f.ratio("rsa", "ours", "go-smtp", CPU), "<=", 0.4, 0.35
    yield 10, "TLS, 10 MiB: CPU / nodemailer", f.ratio("10m", "ours", "nodemailer", CPU), "<=", 0.5, 0.4
    yield 10, "TLS, 10 MiB streamed: CPU / nodemailer", f.ratio("10m", "ours-stream", "nodemailer", CPU), "<=", 0.5, 0.4


def comparisons(f):
    for mode in MODES:
        if mode == "idle":
            yield from f.beside_peers(mode, "ours", THEIRS, memory=("rss_kb", "<="))
        else:
            yield from f.beside_peers(mode, "ours", THEIRS, CPU=(CPU, "<="), rate=("sessions_per_s", ">="))


def charts(f, chart, folder):
    panel = lambda mode, scale: [(name, (f.median(mode, name, CPU) or 0) / scale) for name in PROGRAMS]
    chart.bars(folder / "tls-cpu.svg", "Server CPU for a TLS session", "milliseconds per session",
               [(f"{mode}: {WHAT[mode]}", panel(mode, 1000)) for mode in MODES if mode != "idle"])
    return ["tls-cpu.svg"]
