"""page.py -- Markdown: tables, numbers, and whether a bar is met."""


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join([*row, *[""] * (len(head) - len(row))]) + " |"


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def spread(values, digits=0):
    return f"{min(values):,.{digits}f} - {max(values):,.{digits}f}" if values else "-"


def met(value, sign, bar):
    """Whether a measured value keeps its bar; None where there is no bar or no value."""
    if bar is None or value is None:
        return None
    return value <= bar if sign == "<=" else value >= bar


def verdict(value, sign, bar):
    if bar is None:
        return "-"
    kept = met(value, sign, bar)
    return f"{sign} {bar:g}" + ("" if kept is None else " met" if kept else " **missed**")
