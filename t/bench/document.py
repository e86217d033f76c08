"""document.py -- the page and its charts, of what the classes have measured last."""
import importlib
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import chart
import queues
import sinks
from figures import Figures
from page import met, number, table, verdict
from running import TOP

NOTES = TOP / "doc/benchmarks/notes.md"
WHAT = {**sinks.WHAT, **queues.WHAT, "postfix": "in memory and TLS: smtpd and cleanup with DISCARD for every recipient; durable: the mail stays in `incoming`"}
PEERS = {name for name in WHAT if not name.startswith(("ours", "floor", "smtpd", "bare"))}
METHOD = """\
- One machine carries the servers, the load generator and the next hop, all on loopback. So rates also measure the
  generator; the **server's CPU per message** does not. It is user and system time of all processes and threads of a
  server, from /proc, by the scheduler's own count, in microseconds.
- The servers of a class are started side by side, each on a free port and in a private directory, and loaded in turns,
  A B C A B C. A figure is the median of its turns; "lowest - highest" shows all of them. Peers that are far behind take
  part in the first two turns alone. Before each turn of a durable server, and each drain, what others have left
  in the system's memory is written (`sync`): nobody's disk is busy with another's mail. A turn in which the host of a
  virtual machine kept more than a tenth of a processor is tried again, twice at most.
- Compare figures of one run only, as ratios. CPU scatters by 5 to 15 % from turn to turn, rates by more; differences
  below that say nothing.
- The load generator (`t/bench/load.cpp`, epoll; `t/bench/tls_load.cpp` for TLS) checks every reply: its code, its form,
  and that nobody says more or less than he was asked. A mail that was answered 250 and has not come to the next hop, or
  come twice, is a failure, not a figure.
- Latency is from MAIL to the 250 that takes the message.
- Each peer is set as its users do who want speed: no look-ups, no limit on clients, no log beyond its own default. Its
  fsync stays. What keeps a message and what discards it is said with each; ours keeps it.
- What a peer refused or could not do is named below and not counted.
"""
REPEAT = """\
    make bench                 # about 25 minutes: this page and its charts
    make bench QUICK=1         # under 3 minutes: build/bench/BENCHMARKS.md

Nothing is installed or started on your system for it: peers are unpacked under build/peers (from Debian's packages and
npm), run there, and are ended by process id. Postfix, OpenSMTPD and Exim need root; without it they are left out, and the
page says so. `t/bench/run --help` tells how to measure a part of it, or a change against what was before."""


def command(*words):
    try:
        return subprocess.run(words, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    except OSError:
        return ""


def trees(measured):
    """The commits that were measured, and where there are several the classes of each."""
    classes = {}
    for _, figures in measured:
        classes.setdefault(figures.about.get("tree", "this tree"), []).append(figures.name)
    if len(classes) == 1:
        return next(iter(classes))
    return " and ".join(f"{commit} ({', '.join(names)})" for commit, names in classes.items())


def file_system():
    found = ("?", "?")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place, kind = line.split()[1:3]
        if (TOP / "build").is_relative_to(place) and len(place) >= len(found[0].rstrip("?")):
            found = (place, kind)
    return found[1]


def machine():
    facts = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0] or platform.machine()
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    system = command("sh", "-c", ". /etc/os-release && echo $PRETTY_NAME") or platform.system()
    compiler = command(os.environ.get("CXX", "g++"), "--version").partition("\n")[0]
    return (f"{facts}, {os.cpu_count()} processors, {memory:.0f} GiB; {system}, Linux {platform.release()}, {file_system()}; {compiler}")


def load_classes(names):
    """(module, figures) of what has been measured."""
    found = [(importlib.import_module(f"classes.{name}"), Figures.read(name)) for name in names]
    return [(module, figures) for module, figures in found if figures]


def disturbance(measured):
    others = [each for _, figures in measured for each in figures.others()]
    if not others:
        return
    middle = statistics.median(others)
    yield (f"Other programs kept {middle:.2f} processors busy (median of all turns; at most {max(others):.2f}): "
           + ("quiet." if middle <= 0.1 else "**not quiet**: rates of such a run mislead, ratios of CPU less."))
    if stolen := [each for _, figures in measured for each in figures.stolen()]:
        yield f"The host kept {statistics.median(stolen):.2f} processors for others (median; at most {max(stolen):.2f})."


def goals_table(measured):
    rows = [row for module, figures in measured for row in module.goals(figures)]
    rows.sort(key=lambda row: row[0])
    kept = {place: [met(value, sign, bars[place]) for _, _, value, sign, *bars in rows] for place in (0, 1)}
    count = lambda place: f"{kept[place].count(True)} of {sum(each is not None for each in kept[place])}"
    yield from ("", "## Goals of the house", "")
    yield f"First bars met: {count(0)}. Goals met: {count(1)}. The number is that of the goal; `-` stands for: none, or not measured in this run."
    yield ""
    yield from table(["#", "what", "measured", "first bar", "goal"],
                     [[str(goal), what, number(value, 2), verdict(value, sign, first), verdict(value, sign, final)]
                      for goal, what, value, sign, first, final in rows])


def best_peers(measured):
    """The peer of each row that is closest to us, or ahead."""
    rows, ahead = {}, []
    for module, figures in measured:
        for load, what, way, peer, ratio in module.comparisons(figures):
            behind = not met(ratio, way, 1)
            rows.setdefault((module.TITLE, load), {})[what] = f"{'**' * behind}{number(ratio, 2)} {peer}{'**' * behind}"
            ahead += [f"{module.TITLE}, {load}, {what}: {peer} ({number(ratio, 2)})"] * behind
    if not rows:
        return
    yield from ("", "## Beside the best peer", "")
    yield "Ours / the best peer of each row, and which that is. CPU and memory are better below 1, a rate above it; bold is where a peer is ahead of us."
    yield ""
    yield from table(["class", "load", "CPU", "rate", "memory"],
                     [[title, load, *(row.get(what, "") for what in ("CPU", "rate", "memory"))] for (title, load), row in rows.items()])
    yield ""
    yield "Ahead of us: " + ("; ".join(ahead) if ahead else "nobody") + "."


def class_section(module, figures, folder):
    yield from ("", f"## {module.TITLE}", "")
    summary = " ".join(module.__doc__.split("\n\n")[0].partition(" -- ")[2].split())
    yield summary[:1].upper() + summary[1:]
    for name in module.charts(figures, chart, folder):
        if (folder / name).exists():
            yield from ("", f"![{module.TITLE}](benchmarks/{name})")
    yield from module.sections(figures)
    if figures.their_failures():
        yield from ("", "What peers did not do, and so is not in the tables:", "")
        yield from (f"- {text}" for text in figures.their_failures())


def peers_section(measured):
    versions = {name: text for _, figures in measured for name, text in figures.about["versions"].items()}
    yield from ("", "## The servers", "")
    yield from table(["name", "version", "what it does here"],
                     [[name, versions.get(name, "-" if name in PEERS else "this tree"), what] for name, what in WHAT.items()])
    missing = [f"- {name}: {why}." for name, why in sinks.NOT_TO_BE_HAD.items()]
    for module, figures in measured:
        missing += [f"- {name} ({module.TITLE}): {'; '.join(reasons)}." for name, reasons in figures.about["left_out"].items()]
    yield from ("", "Not to be had, or left out:", "", *missing)


def text(measured, folder):
    quick = any(figures.about["quick"] for _, figures in measured)
    made = time.strftime("%Y-%m-%d", time.gmtime(max(figures.about["at"] for _, figures in measured)))
    took = sum(figures.about["took"] for _, figures in measured)
    yield from ("# Benchmarks", "")
    yield (f"Made by `make bench{' QUICK=1' if quick else ''}` on {made}, of {trees(measured)}, in {took / 60:.0f} minutes. "
           + ("A quick run: short turns, so read the ratios with a grain of salt. " if quick else "") + f"{machine()}.")
    yield from disturbance(measured)
    yield from ("", "## How to repeat it", "", REPEAT)
    yield from goals_table(measured)
    yield from best_peers(measured)
    if NOTES.exists():
        yield from ("", NOTES.read_text().strip())
    for module, figures in measured:
        yield from class_section(module, figures, folder)
    yield from peers_section(measured)
    yield from ("", "## Method", "", METHOD.strip())
    failures = [each for _, figures in measured for each in figures.our_failures()]
    if failures:
        yield from ("", "## FAILURES: this run does not count", "", *(f"- {each}" for each in failures))


def write(folder, names):
    """FOLDER/BENCHMARKS.md and FOLDER/benchmarks/*.svg. Returns the page's path."""
    charts = folder / "benchmarks"
    charts.mkdir(parents=True, exist_ok=True)
    for old in charts.glob("*.svg"):
        old.unlink()
    page = folder / "BENCHMARKS.md"
    measured = load_classes(names)
    page.write_text("\n".join(text(measured, charts)) + "\n" if measured else "# Benchmarks\n\nNothing has been measured yet.\n")
    return page
