"""The table, for people and as JSON."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.bench.figures import Figure, Peer, ratio
from tests.bench.machine import Conditions


@dataclass(frozen=True)
class Measured:
    """A row that was run, or left out: `skipped` says why, `failed` what went wrong on the way."""

    name: str
    title: str
    took_s: float = 0.0
    figures: tuple[Figure, ...] = ()
    skipped: str = ""
    failed: str = ""


def as_json(conditions: Conditions, rows: Iterable[Measured]) -> str:
    """All of it as one JSON object."""
    return json.dumps({"conditions": conditions, "rows": [_row(row) for row in rows]}, indent=2)


def _row(row: Measured) -> dict[str, object]:
    return {
        "name": row.name,
        "title": row.title,
        "took_s": round(row.took_s, 1),
        "skipped": row.skipped or None,
        "failed": row.failed or None,
        "figures": [_figure(figure) for figure in row.figures],
    }


def _figure(figure: Figure) -> dict[str, object]:
    return {
        "what": figure.what,
        "ours": figure.ours,
        "unit": figure.unit,
        "goal": figure.goal,
        "goal_is": "at least" if figure.at_least else "at most",
        "reached": figure.reached,
        "ratio": figure.ratio,
        "baselines": [
            {
                "name": peer.name,
                "value": peer.value,
                "ratio": ratio(figure.ours, peer.value),
                "note": peer.note,
            }
            for peer in figure.peers
        ],
        "note": figure.note,
    }


def as_text(conditions: Conditions, rows: Iterable[Measured]) -> Iterator[str]:
    """The lines of the table, the conditions first. A ratio is ours over the goal, or over the baseline."""
    yield from (f"{name}: {value}" for name, value in conditions.items())
    for row in rows:
        yield ""
        yield f"{row.name} - {row.title} ({row.took_s:.0f} s)"
        if row.skipped:
            yield f"  skipped: {row.skipped}"
        if row.failed:
            yield f"  failed: {row.failed}"
        for figure in row.figures:
            yield from _lines(figure)


def _lines(figure: Figure) -> Iterator[str]:
    yield f"  {figure.what}: {_value(figure.ours, figure.unit)}{_goal(figure)}"
    for peer in figure.peers:
        yield f"      beside {peer.name}: {_peer(figure, peer)}"
    if figure.note:
        yield f"      {figure.note}"


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    verdict = "REACHED" if figure.reached else "not reached"
    times = "" if figure.ratio is None else f", {figure.ratio:.2f}x"
    sign = ">=" if figure.at_least else "<="
    return f"   goal {sign} {number(figure.goal)}: {verdict}{times}"


def _peer(figure: Figure, peer: Peer) -> str:
    times = ratio(figure.ours, peer.value)
    shown = _value(peer.value, figure.unit) if peer.value is not None or not peer.note else ""
    parts = [shown, "" if times is None else f"(ours {times:.3g}x)", peer.note]
    return " ".join(filter(None, parts))


def _value(value: float | None, unit: str) -> str:
    return "nothing" if value is None else f"{number(value)} {unit}".strip()


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}"
