"""`python -m tests.sim`: the simulator by hand, beyond what the tests run each time."""

import json
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from tests.sim import scale
from tests.sim.plan import Plan, decode, make
from tests.sim.seeds import failure, shrink, today
from tests.sim.sharing import shared_work

_SCALES = {one.name: one for one in scale.SCALES}


@click.command()
@click.option("--seeds", type=click.IntRange(1), help="Run so many seeds.")
@click.option("--seed", "base", type=int, help="The first of them (default: today's date).")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes at once.")
@click.option("--replay", metavar="SEED|FILE", help="Run one seed again, or the steps in a file.")
@click.option("--whole", is_flag=True, help="Do not shrink what fails.")
@click.option("--scale", "names", multiple=True, type=click.Choice([*_SCALES, "all"]), help="Run a scenario.")
@click.option("--json", "json_too", is_flag=True, help="Print a scenario's rows as JSON.")
def main(
    seeds: int | None,
    base: int | None,
    jobs: int,
    replay: str | None,
    whole: bool,
    names: tuple[str, ...],
    json_too: bool,
) -> None:
    """Run random histories of a mesh (--seeds, --replay), or a scenario at full scale (--scale).

    A seed that fails is printed with the few steps that are enough; put them into a file for --replay.
    Exit status 1 says that something failed.
    """
    logging.disable(logging.CRITICAL)
    failed = False
    with shared_work():
        if replay is not None:
            failed = not _report(_plan(replay), whole=whole)
        elif seeds is not None:
            failed = not _search(today() if base is None else base, seeds, jobs, whole=whole)
        _run_scales(names, json_too=json_too)
    sys.exit(1 if failed else 0)


def _plan(replay: str) -> Plan:
    return make(int(replay)) if replay.isdigit() else decode(Path(replay).read_text())


def _report(plan: Plan, *, whole: bool) -> bool:
    """Runs a plan; prints what it breaks, shrunk. Whether it held."""
    broken = failure(plan)
    if broken is None:
        click.echo(f"seed {plan.seed}: holds")
        return True
    click.echo(f"seed {plan.seed}: {broken}")
    if not whole:
        plan = shrink(plan, broken)
        click.echo(f"{failure(plan)}, with these {len(plan.steps)} steps:")
    click.echo(plan.encode())
    return False


def _search(base: int, seeds: int, jobs: int, *, whole: bool) -> bool:
    click.echo(f"seeds {base} to {base + seeds - 1}")
    numbers = range(base, base + seeds)
    broken = []
    with ProcessPoolExecutor(jobs) as pool:
        for seed, held in zip(numbers, pool.map(_holds, numbers), strict=True):
            if not held:
                click.echo(f"seed {seed} fails")
                broken.append(seed)
    for seed in broken:
        _report(make(seed), whole=whole)
    click.echo(f"{len(broken)} of {seeds} seeds failed" + (f": {broken}" if broken else ""))
    return not broken


def _holds(seed: int) -> bool:
    return failure(make(seed)) is None


def _run_scales(names: tuple[str, ...], *, json_too: bool) -> None:
    for one in scale.SCALES if "all" in names else [_SCALES[name] for name in names]:
        if not json_too:
            click.echo(f"{one.name}: {one.about}")
        for row in scale.run(one):
            click.echo(json.dumps({"scale": one.name, **row}) if json_too else f"  {scale.as_line(row)}")


if __name__ == "__main__":
    main()
