"""record.py -- what was tried with whom, in which role, and how it went: one JSON object a line in interop.jsonl, for t/interop/matrix.

A case says so itself by tried(); what older cases try is in the table of tried.py, by their sentences. A peer counts as tried
only where its program was really started, which parts.py notes by met().
"""
import json
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

TREE = Path(__file__).resolve().parents[2]
EXAMPLES = TREE / os.environ.get("EXAMPLES", "build/examples")
PLAIN = EXAMPLES == TREE / "build/examples"  # neither sanitized nor by another compiler
ALL = os.environ.get("INTEROP") == "all"
FILE = EXAMPLES.parent / "interop.jsonl"  # of a run of some cases: interop.some.jsonl

started, said = set(), []  # of the case that runs: programs, and (peer, role, feature)


def met(program):
    """A program of that name, or of that folder of build/peers, is about to be run."""
    started.add(program)


def tried(peer, role, *features):
    """The case tries these with that peer; they pass if the case does."""
    said.extend((peer, role, feature) for feature in features)


def begin():
    started.clear()
    said.clear()


def end(sentence, outcome):
    """Writes what the case tried; `outcome` is "ok", "SKIPPED" or "FAILED"."""
    import tried as table  # it knows peers by their files, which nobody needs before
    for peer, role, features in table.of(sentence):
        tried(peer, role, *features.split(", "))
    lines = [{"case": sentence, "result": outcome}]
    for peer, role, feature in dict.fromkeys(said):
        known = outcome != "ok" or not table.program(peer) or table.program(peer) in started
        lines.append({"peer": peer, "version": table.version(peer), "role": role, "feature": feature,
                      "result": outcome if known else "NOT STARTED", "case": sentence})
    with open(FILE, "ab") as file:  # in one write, for cases run side by side
        os.write(file.fileno(), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def unpacked(root, package):
    """The version of a package below build/peers/ROOT."""
    try:
        names = (TREE / "build/peers" / root / ".complete").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{re.escape(package)}_(\S+)_\w+\.deb$", names, re.MULTILINE)
    return unquote(found[1]).partition(":")[2] or unquote(found[1]) if found else ""


def installed(package):
    """The version of a package of the system."""
    try:
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    version = done.stdout.decode()
    return version.partition(":")[2] or version
