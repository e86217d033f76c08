"""events.py -- what plugins and listeners cost a mail: our own pipeline alone, by t/bench/events.cpp."""
import subprocess

from running import BENCH

TITLE = "Plugins and listeners"


def measure(figures):
    ran = subprocess.run([BENCH / "events"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=900)
    if ran.returncode != 0:
        figures.failed("ours", "events", ran.stderr)
    figures.about["page"] = ran.stdout


def sections(f):
    lines = f.about.get("page", "").splitlines()
    yield from (line for line in lines if not line.startswith("# "))


def goals(f):
    return ()


def comparisons(f):
    return ()


def charts(f, chart, folder):
    return []
