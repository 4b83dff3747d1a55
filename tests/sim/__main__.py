"""`python -m tests.sim`: the simulator by hand, beyond what the tests run each time."""

import json

import click

from tests.sim import scale
from tests.sim.verdicts import shared_verdicts

_SCALES = {one.name: one for one in scale.SCALES}


@click.command()
@click.option(
    "--scale", "names", multiple=True, type=click.Choice([*_SCALES, "all"]), help="Run this scenario."
)
@click.option("--json", "json_too", is_flag=True, help="Print JSON, one object a row.")
def main(names: tuple[str, ...], json_too: bool) -> None:
    """Run the simulator at full scale."""
    chosen = scale.SCALES if "all" in names else [_SCALES[name] for name in names]
    with shared_verdicts():
        for one in chosen:
            if not json_too:
                click.echo(f"{one.name}: {one.about}")
            for row in scale.run(one):
                click.echo(json.dumps({"scale": one.name, **row}) if json_too else f"  {scale.as_line(row)}")


if __name__ == "__main__":
    main()
