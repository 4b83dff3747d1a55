"""Draws the README's picture from a real conversation; `scripts/picture` runs it."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from meshchat.client.connection import ControlClient
from tests.mesh.namespaces import why_not
from tests.mesh.net import PASSWORD, Mesh, wait
from tests.picture.svg import draw
from tests.terminal.tmux import Screen
from tests.unit.people import command

COLUMNS, ROWS = 80, 12
MOMENT = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)
"""When the conversation takes place, whenever it is drawn."""

THANKS = "¡gracias! спасибо! ευχαριστώ!"
EDGES = ((1, 2), (2, 3), (1, 3))


def main(path: Path) -> None:
    """Three people on three routers that all hear each other talk; draws what ann sees."""
    ahead = MOMENT.timestamp() - time.time()
    options = ("--clock-offset", f"{ahead:.0f}", "--clock-grade", "good")
    with Mesh(3, edges=EDGES, loss=0.1, options=options) as mesh:
        for user in ("ann", "ben", "cyd"):
            mesh.register(1, user)
        mesh.await_users("ann", "ben", "cyd")
        with sit_down(mesh, 2) as ben, sit_down(mesh, 3) as cyd:
            ben.log_in("ben", PASSWORD)
            cyd.log_in("cyd", PASSWORD)
            with sit_down(mesh, 1) as ann:
                ann.log_in("ann", PASSWORD)
                say(ann, "is the well still open?", [ben, cyd])
                say(ben, "it is, but the pump has no fuel", [cyd, ann])
                wait(lambda: has_read(mesh, "ann"), 60, "what ann has read to be kept")
                ann.say("/quit")
                ann.ends()
            say(cyd, "there are two full cans in the school, room 4", [ben])
            say(ben, "/me fetches them", [cyd])
            say(cyd, "ann, can you bring the long rope? The bucket has fallen in.", [ben])
            with sit_down(mesh, 1) as ann:
                ann.log_in("ann", PASSWORD)
                say(ann, "yes, in ten minutes", [ben, cyd])
                say(ben, THANKS, [ann])
                ben.say("/room 2")
                ben.shows_status(" 2 ")
                ben.say("soup at seven, bring a bowl")
                ben.say("and a spoon")
                cyd.say("/room 3")
                cyd.shows_status(" 3 ")
                cyd.say("ann: your sister has arrived")
                cyd.say("/room 1")
                cyd.shows_status(" 1 ")
                ann.type("tell her that I am on my w")
                ann.shows("yes, in ten minutes \u27132")
                ann.shows_status("with ben, cyd", "2 neighbours, in step", "[3: 1!]", "[2: 2]")
                path.write_text(draw(ann.styled.rstrip("\n").split("\n"), COLUMNS, ann.cursor))


def sit_down(mesh: Mesh, number: int) -> Screen:
    """A terminal on a router, with the questions of the login on it."""
    site = mesh.sites[number]
    home = mesh.directory / f"terminal-{time.monotonic_ns()}"
    run = site.within(*command("--socket", str(site.socket)))
    return Screen(home, run=run, columns=COLUMNS, rows=ROWS)


def say(person: Screen, text: str, others: list[Screen]) -> None:
    """Somebody types a line, and all see it before anything else is said."""
    person.say(text)
    for each in (person, *others):
        each.shows(text.removeprefix("/me ")[:30])


def has_read(mesh: Mesh, user: str) -> bool:
    """Whether router 1 remembers the last message of room 1 as read."""
    with ControlClient(mesh.sites[1].socket) as client:
        client.request("login", user=user, password=PASSWORD)
        mark = client.request("personal")["marks"].get("1")
    return mark is not None and bool(mark["id"] == mesh.history(1, "1")[-1]["id"])


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.exit(f"No mesh can run here: {reason}")
    main(Path(sys.argv[1]))
