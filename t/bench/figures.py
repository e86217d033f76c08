"""figures.py -- what one class of the benchmark has measured: kept as it comes, asked for medians and ratios."""
import json
import statistics
import sys
import time

from running import BENCH, QUICK, tree

# Whose failures are ours to mend.
OURS = {"ours", "ours-stream", "base", "floor", "floor-kept", "floor-log", "smtpd", "bare", "bare-pg", "relay", "receive", "sqlite", "postgresql"}


class Figures:
    """Runs by load and server. They are lines of build/bench/CLASS.jsonl as soon as they are made; what else there is to
    tell is in build/bench/CLASS.json when the class is done, and from both it can be read again."""

    def __init__(self, name):
        self.name, self.runs = name, {}
        self.about = {"quick": QUICK, "versions": {}, "left_out": {}, "failures": []}

    @classmethod
    def read(cls, name):
        """What was measured last; nothing when that is not there."""
        figures = cls(name)
        try:
            figures.about = json.loads((BENCH / f"{name}.json").read_text())
            for line in (BENCH / f"{name}.jsonl").read_text().splitlines():
                run = json.loads(line)
                figures.runs.setdefault((run["load"], run["server"]), []).append(run)
        except FileNotFoundError:
            return None
        return figures

    def __enter__(self):
        self.began, self.about["tree"] = time.monotonic(), tree()
        (BENCH / f"{self.name}.json").unlink(missing_ok=True)
        self.file = open(BENCH / f"{self.name}.jsonl", "w")
        return self

    def __exit__(self, kind, *_):
        self.file.close()
        self.about["took"] = round(time.monotonic() - self.began)
        self.about["at"] = time.time()
        if kind is None:
            (BENCH / f"{self.name}.json").write_text(json.dumps(self.about, indent=1) + "\n")
        print(f"bench: {self.name}: {self.about['took']} s", file=sys.stderr)

    # ---- while it is measured ----

    def note(self, load, server, turn, run):
        run = {"load": load, "server": server, "round": turn, **run}
        self.runs.setdefault((load, server), []).append(run)
        print(json.dumps(run), file=self.file, flush=True)

    def failed(self, server, load, reason):
        """Something is wrong; of a peer it is told, of ours it makes the whole run fail."""
        text = f"{server}, {load}: " + " ".join(str(reason).split())[:300]
        print(f"bench: FAILED: {text}", file=sys.stderr)
        self.about["failures"].append(text)

    def leave_out(self, server, why):
        print(f"bench: left out: {server}: {why}", file=sys.stderr)
        said = self.about["left_out"].setdefault(server, [])
        if why not in said:
            said.append(why)

    def version(self, server, text):
        self.about["versions"][server] = text

    # ---- afterwards ----

    def our_failures(self):
        return [text for text in self.about["failures"] if text.partition(",")[0] in OURS]

    def their_failures(self):
        return [text for text in self.about["failures"] if text.partition(",")[0] not in OURS]

    def servers(self, load):
        return [server for at, server in self.runs if at == load]

    def values(self, load, server, key):
        return [run[key] for run in self.runs.get((load, server), []) if key in run]

    def median(self, load, server, key):
        values = self.values(load, server, key)
        return statistics.median(values) if values else None

    def ratio(self, load, server, other, key):
        return over(self.median(load, server, key), self.median(load, other, key))

    def beside(self, load, server, key):
        """What the load costs (or achieves) relative to the one that is measured beside it."""
        ratios = [run[key] / run["beside"][key] for run in self.runs.get((load, server), []) if run.get("beside")]
        return statistics.median(ratios) if ratios else None

    def beside_peers(self, load, ours, peers, **measures):
        """For each measure, a key and which way is better: (load, measure, way, the peer that comes closest to us or is
        furthest ahead, ours / it)."""
        for what, (key, way) in measures.items():
            ratios = {peer: self.ratio(load, ours, peer, key) for peer in peers}
            ratios = {peer: ratio for peer, ratio in ratios.items() if ratio is not None}
            if ratios:
                best = (max if way == "<=" else min)(ratios, key=ratios.get)
                yield load, what, way, best, ratios[best]

    def best(self, load, key, names, better=min):
        """The name among these whose median is the best."""
        found = {name: self.median(load, name, key) for name in names}
        found = {name: value for name, value in found.items() if value is not None}
        return better(found, key=found.get) if found else None

    def others(self):
        """Processors that programs which have no part in this kept busy, at each run."""
        return self.each("others")

    def stolen(self):
        """Processors that the host kept for others, at each run."""
        return self.each("stolen")

    def each(self, key):
        return [run[key] for runs in self.runs.values() for run in runs if key in run]


def over(ours, theirs):
    return ours / theirs if ours is not None and theirs else None
