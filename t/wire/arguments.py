"""Command lines: what --help tells, and what ends a program before it listens."""
import os
import re
import subprocess
import tempfile

import auth
import harness
from harness import EXAMPLES, PROGRAMS, SOURCES, WAIT, Failed, Program, case, wanted

ROW = re.compile(r"  (--[a-z-]+)( [A-Z:]+)?  +(\S.*)")


def run(program, *arguments):
    """Its exit status, and what it said on standard output and error."""
    try:
        done = subprocess.run([os.path.join(EXAMPLES, program), *arguments], input="secret\n", capture_output=True, text=True, timeout=WAIT)
    except subprocess.TimeoutExpired:
        raise Failed(f"{program} {' '.join(arguments)} did not end") from None
    return done.returncode, done.stdout, done.stderr


for program in PROGRAMS:
    if program in ("testing", "smtpd", "smtpq"):  # one has no arguments, two read them otherwise
        continue

    def helped(program=program):
        status, out, err = run(program, "--help")
        wanted((status, err), (0, ""), "status and standard error")
        wanted(run(program, "-h"), (0, out, ""), "-h")
        lines = out.splitlines()
        if not re.fullmatch(r"[A-Z].{20,}\.", lines[0]):
            raise Failed(f"no sentence of what it is for: {lines[0]!r}")
        wanted([line for line in lines if len(line) > 100], [], "lines over 100 columns")
        rows = [line for line in lines if line.startswith("  --")]
        found = [ROW.fullmatch(row) for row in rows]
        wanted([row for row, match in zip(rows, found) if not match], [], "rows that are none")
        wanted(len({match.start(3) for match in found}), 1, "columns where the texts begin")
        source = open(os.path.join(SOURCES, program + ".cpp"), encoding="utf-8").read()
        asked = set(re.findall(r'\bgiven(?:\.\w+)?\("(--[a-z-]+)"', source))
        wanted(sorted(asked - {match[1] for match in found}), [], "options it reads and does not tell of")
        for match in found:
            wanted(run(program, match[1], *["127.0.0.1:9"] * bool(match[2]), "--help")[0], 0, f"status of {match[1]} and --help")
    case(f"{program} --help names every option, with its value and what it is for", helped)


@case("smtpd --help and smtpq --help say what each is for, and tell of each option or command")
def of_the_queue():
    for program, entry, least in ("smtpd", r"  [a-z_]+ = \S.*\n      \S.*", 40), ("smtpq", r"  [a-z]+[A-Za-z, |]*  +[a-z].*", 7):
        status, out, err = run(program, "--help")
        wanted((status, err), (0, ""), f"{program}: status and standard error")
        wanted(run(program, "-h"), (0, out, ""), f"{program} -h")
        if not re.match(rf"[A-Z].{{20,}}\.\n\nusage: {program} \[--config FILE", out):
            raise Failed(f"no sentence of what it is for, or no usage: {out[:200]!r}")
        wanted([line for line in out.splitlines() if len(line) > 100], [], "lines over 100 columns")
        body = out.partition("\n\nusage: ")[2].split("\n\n")
        entries = [line for part in body for line in re.findall(rf"^{entry}$", part, re.MULTILINE)]
        rows = [line for line in out.splitlines() if re.match(r"  \S", line)]
        wanted(len(entries), len(rows), f"{program}: entries with a text")
        if len(entries) < least:
            raise Failed(f"{program} tells of {len(entries)}")


def refused(program, arguments, *reasons):
    status, out, err = run(program, *arguments)
    if (status, out) != (2, "") or not re.fullmatch(rf"{program}: .* \(see --help\)\n", err):
        raise Failed(f"{program} {' '.join(arguments)}: {status}, {out!r}, {err!r}")
    for reason in reasons:
        if reason not in err:
            raise Failed(f"{program} {' '.join(arguments)} does not say {reason!r}: {err!r}")


TLS = ("--tls-cert", "c", "--tls-key", "k")
WRONG = [
    ("--nonsense",), ("--listen",), ("more",), ("--listen", "127.0.0.1:99999"), ("--hostname=a",), ("--max-size", "1k"), ("--max-size", "-1"),
    ("--max-size", "99999999999999999999"), ("--limit", ""), ("--mode", "fork"), ("--tls-port", "127.0.0.1:x", *TLS)]
USELESS = [
    ("--auth-file", "f"), ("--auth-loopback",), ("--require-auth",), ("--auth-loopback", *TLS), ("--require-auth", *TLS), ("--require-auth", "--auth-loopback"),
    ("--tls-cert", "c"), ("--tls-key", "k"), ("--tls-port", "127.0.0.1:0"), ("--require-tls",), ("--tls-client-ca", "f"), TLS + TLS[:2]]
LOGIN = ("--via-user", "u", "--via-pass-file", "f")
BY_MX = [
    ("--via-user", "u"), ("--via-pass-file", "f"), ("--via-auth", "PLAIN"), LOGIN, ("--via-pass-file", "f", "--via", "h:1"), ("--via-auth", "PLAIN", "--via", "h:1")]


@case("an argument that makes no sense ends a program with 2, its name and the reason")
def wrong():
    for arguments in WRONG:
        refused("sink", arguments, arguments[0])
    for arguments in ("--mx-port", "0"), ("--mx-port", "65536"), ("--via", "h:x"), ("--trusted", "127.0.0.1/99"), ("--via-tls", "perhaps"):
        refused("relay", arguments, *arguments)
    refused("inetd", ["--listen", "127.0.0.1:0"], "--listen")
    refused("submission", [], "--tls-cert: is needed")


@case("options that have no effect without another one end a program with 2 and that one's name")
def useless():
    for program in "sink", "relay", "demo":
        for arguments in USELESS:
            if program == "sink" or "--require-auth" not in arguments:
                refused(program, ("--listen", "127.0.0.1:0", *arguments), arguments[0])
    refused("sink", ["--auth-file", "f"], "--tls-cert or --auth-loopback")
    refused("sink", ["--auth-file", "f", "--require-auth"], "--tls-cert or --auth-loopback")
    for arguments in BY_MX:
        refused("relay", ("--listen", "127.0.0.1:0", *arguments), "--via", "has no effect without")


@case("DANE without a trust anchor ends a program with 2")
def dane():
    for level in "dane", "implicit,dane":
        for via in (), ("--via", "mail.test"):
            refused("relay", ("--listen", "127.0.0.1:0", "--via-tls", level, *via), "--via-tls", "--trust-anchor")
    cert, key = auth.certificate()
    refused("submission", ("--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--auth-file", auth.accounts(), "--via", "mail.test",
                           "--via-tls", "dane"), "--via-tls", "resolver")


@case("where TLS comes first, the line that says where a program listens says so")
def implicit():
    cert, key = auth.certificate()
    with Program("sink", "--tls-cert", cert, "--tls-key", key, "--tls-port", "127.0.0.1:0") as p:
        line = p.process.stdout.readline().decode()
        if not p.port or not re.fullmatch(r"listening on 127\.0\.0\.1:\d+ \(TLS\)\n", line):
            raise Failed(f"{p.port}, {line!r}")


@case("a port that is taken ends a program with 1 and the reason")
def taken():
    with Program("sink") as p:
        for program in "sink", "relay", "demo":
            folder = ["--dir", tempfile.mkdtemp(dir=harness.SCRATCH)] if program == "demo" else []
            status, out, err = run(program, "--listen", f"127.0.0.1:{p.port}", *folder)
            wanted((status, out), (1, ""), f"status and output of {program}, which said {err!r}")
            if not err.startswith(f"{program}: ") or str(p.port) not in err:
                raise Failed(err)


@case("passwd makes a line for one user, who is not called --help, and says who may read the file")
def passwd():
    status, out, err = run("passwd", "joe")
    if (status, err) != (0, "") or not out.startswith("joe:{SCRAM-SHA-256}"):
        raise Failed(f"{status}, {out!r}, {err!r}")
    said = run("passwd", "--help")[1]
    if "SCRAM-SHA-256" in said or "umask 077" not in said:
        raise Failed(said)
    refused("passwd", [], "USER")
    refused("passwd", ["joe", "ann"], "ann")
    refused("passwd", ["--user"], "--user")
