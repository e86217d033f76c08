"""chart.py -- plain SVG: bars and ranges, with labelled axes, readable on a light and on a dark page."""
import math
from html import escape

# Colours change with the reader's page; all of them keep a contrast of 4.5 and more with its ground.
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.head { font-weight: 600 }
.small { font-size: 11px; fill: #57606a }
.ground { fill: #ffffff }
.grid { stroke: #d0d7de; stroke-width: 1 }
.ours { fill: #0550ae; stroke: #0550ae }
.floor { fill: #8c959f; stroke: #8c959f }
.peer { fill: #bc4c00; stroke: #bc4c00 }
text.ours, text.floor, text.peer { stroke: none; fill: #24292f }
text.ours { font-weight: 600 }
@media (prefers-color-scheme: dark) {
 text, text.ours, text.floor, text.peer { fill: #e6edf3 }
 .small { fill: #9da7b1 }
 .ground { fill: #0d1117 }
 .grid { stroke: #30363d }
 .ours { fill: #58a6ff; stroke: #58a6ff }
 .floor { fill: #6e7681; stroke: #6e7681 }
 .peer { fill: #f0883e; stroke: #f0883e }
}"""
WIDTH, NAMES, VALUES, ROW, MARGIN = 760, 150, 110, 20, 16


class Axis:
    """From a value to where it stands, linear from 0 or by powers of ten."""

    def __init__(self, values, left, right, powers):
        self.left, self.right, self.powers = left, right, powers
        top = max(values)
        if powers:
            self.low, self.high = math.floor(math.log10(min(values)) - 0.05), math.ceil(math.log10(top))
            self.high = max(self.high, self.low + 1)
            self.ticks = [10.0**n for n in range(self.low, self.high + 1)]
        else:
            step = 10 ** math.floor(math.log10(top / 3))
            step *= next(m for m in (1, 2, 5, 10) if top / (step * m) <= 5)
            self.high = step * math.ceil(top / step)
            self.ticks = [step * n for n in range(round(self.high / step) + 1)]

    def __call__(self, value):
        share = (math.log10(value) - self.low) / (self.high - self.low) if self.powers else value / self.high
        return self.left + share * (self.right - self.left)


def short(value):
    """A value as a label has it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def kind(name):
    return "ours" if name.startswith(OURS) else "floor" if name.startswith(("floor", "receive")) else "peer"


OURS = ("ours", "smtpd", "bare", "relay")


class Picture:
    def __init__(self, title, height, names):
        self.lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
                      f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
                      f'<rect class="ground" width="{WIDTH}" height="{height}"/>']
        self.text(MARGIN, 26, title, "title")
        present = [each for each in (("peer", "peers"), ("floor", "floors"), ("ours", "ours")) if each[0] in map(kind, names)]
        for i, (role, what) in enumerate(present):
            self.box(WIDTH - 80 * (i + 1), 14, 12, 12, role)
            self.text(WIDTH - 80 * (i + 1) + 18, 25, what, "small")

    def text(self, x, y, what, role="", anchor="start"):
        self.lines.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{role}" text-anchor="{anchor}">{escape(what)}</text>')

    def line(self, x1, y1, x2, y2, role, width=1):
        self.lines.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{role}" stroke-width="{width}"/>')

    def box(self, x, y, width, height, role):
        self.lines.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height}" class="{role}" stroke="none"/>')

    def axis(self, axis, top, bottom, unit):
        for tick in axis.ticks:
            self.line(axis(tick), top, axis(tick), bottom, "grid")
            self.text(axis(tick), bottom + 14, short(tick) if tick else "0", "small", "middle")
        self.text((axis.left + axis.right) / 2, bottom + 30, unit, "small", "middle")

    def write(self, path):
        path.write_text("\n".join([*self.lines, "</svg>"]) + "\n")


def bars(path, title, unit, panels, powers=False):
    """`panels` are (heading, [(name, value)]), and a unit where it is not that of all; each has its own axis, unless they go
    by powers of ten."""
    panels = [(heading, [(name, value) for name, value in rows if value], *own) for heading, rows, *own in panels]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return
    every = [value for _, rows, *_ in panels for _, value in rows]
    picture = Picture(title, 44 + sum(70 + ROW * len(rows) for _, rows, *_ in panels),
                      [name for _, rows, *_ in panels for name, _ in rows])
    y = 44
    for heading, rows, *own in panels:
        axis = Axis(every if powers else [value for _, value in rows], MARGIN + NAMES, WIDTH - VALUES, powers)
        picture.text(MARGIN, y + 14, heading, "head")
        top, y = y + 24, y + 24
        picture.axis(axis, top, top + ROW * len(rows), own[0] if own else unit)
        for name, value in rows:
            picture.text(MARGIN + NAMES - 8, y + 14, name, kind(name), "end")
            picture.box(axis.left, y + 3, axis(value) - axis.left, ROW - 6, kind(name))
            picture.text(axis(value) + 6, y + 14, short(value), kind(name))
            y += ROW
        y += 46
    picture.write(path)


def ranges(path, title, unit, rows):
    """`rows` are (name, [values, rising]): a point for each value on a line, by powers of ten."""
    rows = [(name, values) for name, values in rows if all(values)]
    if not rows:
        return
    picture = Picture(title, 44 + 46 + ROW * len(rows), [name for name, _ in rows])
    axis = Axis([value for _, values in rows for value in values], MARGIN + NAMES, WIDTH - VALUES, True)
    y = 44
    picture.axis(axis, y, y + ROW * len(rows), unit)
    for name, values in rows:
        middle = y + ROW / 2
        picture.text(MARGIN + NAMES - 8, y + 14, name, kind(name), "end")
        picture.line(axis(values[0]), middle, axis(values[-1]), middle, kind(name), 2)
        for value, size in zip(values, (4, 5, 6)):
            picture.lines.append(f'<circle cx="{axis(value):.1f}" cy="{middle:.1f}" r="{size}" class="{kind(name)}" stroke="none"/>')
        picture.text(axis(values[-1]) + 10, y + 14, " / ".join(short(value) for value in values), "small")
        y += ROW
    picture.write(path)
