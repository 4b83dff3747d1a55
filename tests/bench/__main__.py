"""`scripts/bench`: measures the rows asked for and prints the table."""

import subprocess
import sys
import time
from collections.abc import Iterable

import click

from meshchat.errors import MeshchatError
from tests.bench import machine, report
from tests.bench.figures import Effort, Figure
from tests.bench.rows import ROWS, Row
from tests.mesh.air import AirError
from tests.mesh.namespaces import NamespaceError, why_not

TROUBLE = (AssertionError, MeshchatError, AirError, NamespaceError, OSError, subprocess.SubprocessError)
"""What ends one row and leaves the others to be measured; anything else is a bug of the bench."""


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Only this row; may be given again.")
@click.option("--list", "listing", is_flag=True, help="Name the rows and leave.")
@click.option("--quick", is_flag=True, help="Smaller sizes: a look, not figures to quote.")
@click.option("--long", "long_too", is_flag=True, help="Also what takes tens of minutes.")
@click.option("--json", "json_too", is_flag=True, help="Print JSON.")
@click.argument("names", nargs=-1)
def main(
    only: tuple[str, ...], listing: bool, quick: bool, long_too: bool, json_too: bool, names: tuple[str, ...]
) -> None:
    """Measure what the project has to reach, beside peers and limits, and print the table.

    `--only NAME...` picks rows. A full run takes about a quarter of an hour. Rows with real
    daemons need root.
    """
    if listing:
        for row in ROWS:
            click.echo(f"{row.name:12} {row.title}")
        return
    chosen = _chosen((*only, *names))
    effort = Effort(quick, long_too)
    conditions = machine.conditions(effort)
    measured = (_measure(row, effort) for row in chosen)
    if json_too:
        click.echo(report.as_json(conditions, measured))
    else:
        for line in report.as_text(conditions, measured):
            click.echo(line)


def _chosen(names: Iterable[str]) -> list[Row]:
    wanted = set(names)
    unknown = wanted - {row.name for row in ROWS}
    if unknown:
        raise click.UsageError(f"There is no row {', '.join(sorted(unknown))}; --list names them.")
    return [row for row in ROWS if not wanted or row.name in wanted]


def _measure(row: Row, effort: Effort) -> report.Measured:
    reason = _why_skipped(row, effort)
    if reason:
        return report.Measured(row.name, row.title, skipped=reason)
    click.echo(f"Measuring {row.name} ...", err=True)
    started = time.monotonic()
    figures: list[Figure] = []
    failed = ""
    try:
        figures.extend(row.run(effort))
    except TROUBLE as trouble:
        lines = str(trouble).strip().splitlines() or [""]
        failed = f"{type(trouble).__name__}: {lines[0]}"
    took = time.monotonic() - started
    click.echo(f"  {row.name}: {failed or 'done'} after {took:.0f} s", err=True)
    return report.Measured(row.name, row.title, took, tuple(figures), failed=failed)


def _why_skipped(row: Row, effort: Effort) -> str:
    if row.long_only and not effort.long:
        return "takes long: give --long"
    if row.real_daemons and (reason := why_not()):
        return f"no namespaces on this machine: {reason}"
    return ""


if __name__ == "__main__":
    sys.exit(main(prog_name="scripts/bench"))
