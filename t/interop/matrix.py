"""matrix -- writes doc/INTEROP.md of what t/interop/run has recorded, or holds the page to it.

usage: t/interop/matrix             writes it, of the last run: INTEROP=all t/interop/run --tried
       t/interop/matrix --check     says what differs; versions and dates may
"""
import json
import sys
import time

sys.dont_write_bytecode = True

import record
import tried
from parts import Failed

PAGE = record.TREE / "doc/INTEROP.md"
MARK = " †"  # behind a peer that is run with INTEROP=all only

# Table -> (title of the first column, columns in between, features that share the last column, by their beginning)
TABLES = {
    "client": ("client", ("mail", "HELO", "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "STARTTLS", "TLS", "LMTP"), "AUTH"),
    "next hop": ("server", ("ESMTP", "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "STARTTLS", "TLS", "LMTP", "MX", "DANE", "queue", "refusals"), "AUTH"),
    "tool": ("program", (), ""),
}
KINDS = ("octet for octet", "below its Received", "its own header", "none: it logs in")  # of the column "mail"


def recorded(lines):
    """role -> peer -> (version, features in the order of their first sight, results)."""
    found = {role: {} for role in TABLES}
    for line in lines:
        if "peer" in line:
            version, features, results = found[line["role"]].setdefault(line["peer"], (line["version"], [], {}))
            if line["feature"] not in features:
                features.append(line["feature"])
            worst = results.get(line["feature"], "ok")
            results[line["feature"]] = line["result"] if worst == "ok" else worst
    return found


def cell(feature, features, results):
    if feature == "mail":
        return next((kind for kind in KINDS if kind in features), "")
    feature = {"ESMTP": "EHLO"}.get(feature, feature)
    return "" if feature not in features else "yes" if results[feature] == "ok" else f"**{results[feature]}**"


def row(role, peer, version, features, results):
    _, columns, last = TABLES[role]
    cells = [cell(column, features, results) for column in columns]
    of_last = [feature for feature in features if feature.startswith(last) ]
    words = [feature.removeprefix(last).strip() + ("" if results[feature] == "ok" else f" **{results[feature]}**") for feature in of_last]
    name = peer + (MARK if peer in tried.LARGE else "")
    return "| " + " | ".join([name, version or "—", *cells, ", ".join(words)]) + " |"


def table(role, found):
    first, columns, last = TABLES[role]
    head = [first, "version", *columns, last or "what it does"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + [row(role, peer, *found[role][peer]) for peer in sorted(found[role], key=str.lower)])


def page(found):
    text = (record.TREE / "t/interop/matrix.md").read_text()
    system = next((line.split("=")[1].strip('"') for line in open("/etc/os-release").read().splitlines() if line.startswith("PRETTY_NAME")), "")
    for name, value in {"DATE": time.strftime("%Y-%m-%d", time.gmtime()), "SYSTEM": system, **{role.upper(): table(role, found) for role in TABLES}}.items():
        text = text.replace(f"@{name}@", value)
    return text


def rows(text):
    """(table's first word, peer) -> its cells without the version, of a page."""
    found, first = {}, ""
    for line in text.splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")] if line.startswith("|") else []
        if cells[1:2] == ["version"]:
            first = cells[0]
        elif cells and not cells[0].startswith("---"):
            found[first, cells[0]] = cells[2:]
    return found


def differences(lines, complete):
    """What the page and the record do not agree on, a line each; `complete`: all cases were run."""
    found = recorded(lines)
    wrong = [f"{line['peer']} was not started by: {line['case']}" for line in lines if line["result"] == "NOT STARTED"]
    for role in found:  # how it went is told by the cases
        for _, _, results in found[role].values():
            results.update(dict.fromkeys(results, "ok"))
    there, seen = rows(PAGE.read_text() if PAGE.exists() else ""), rows(page(found))
    wrong += [f"{PAGE.name} has {peer}: {there.get((first, peer), 'nothing')}, but tried was {cells}" for (first, peer), cells in seen.items() if there.get((first, peer)) != cells]
    if complete:
        sentences = [line["case"] for line in lines]
        wrong += [f"{PAGE.name} has {peer}, which was not tried" for first, peer in there
                  if (first, peer) not in seen and (record.ALL or not peer.endswith(MARK))]
        wrong += [f"tried.py: no case is called {words!r}" for *_, each in tried.TRIED for words in each if not any(words in case for case in sentences)]
    return wrong


def of_last_run():
    return [json.loads(line) for line in record.FILE.read_text().splitlines()]


def check(_):
    """A case, behind all others."""
    wrong = differences(of_last_run(), complete=True)
    if wrong:
        raise Failed("\n".join([*wrong, "write it anew: INTEROP=all t/interop/run --tried && t/interop/matrix"]))


def main(arguments):
    lines = of_last_run()
    if arguments == ["--check"]:
        wrong = differences(lines, complete=False)
        print(*wrong, sep="\n")
        return 1 if wrong else 0
    bad = [line for line in lines if line["result"] != "ok"]
    for line in bad:
        print(f"matrix: {line['result']}: {line['case']}", file=sys.stderr)
    PAGE.write_text(page(recorded(lines)))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
