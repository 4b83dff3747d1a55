"""The corpus: datagrams that once broke something, and true ones of every kind of packet.

Each is a file in `tests/corpus`: a line that says what it is, then the datagram in hexadecimal. CI reads them
all, throws each at a router (`tests/sim/test_hostile.py`) and lets conversations begin with them.

    python -m tests.fuzz.corpus add NAME WHAT HEX     keeps one that a search has found
    python -m tests.fuzz.corpus seeds                 makes the true ones anew: after a change of the layout

A conversation that broke something is kept as a test in `tests/sim`, written from the steps that hypothesis
prints.
"""

import sys
import textwrap
from pathlib import Path

from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.packets import Packet, decode_packets
from tests.sim.people import Lobby, someone
from tests.sim.topology import cell
from tests.sim.world import World

CORPUS = Path(__file__).parent.parent / "corpus"
SEED = "true-"


def read(path: Path) -> bytes:
    """The datagram in a file of the corpus."""
    return bytes.fromhex(path.read_text("utf-8").partition("\n")[2])


def paths() -> list[Path]:
    """All files of the corpus, in order."""
    return sorted(CORPUS.glob("*.hex"))


def add(name: str, what: str, data: bytes) -> Path:
    """Writes a file of the corpus."""
    path = CORPUS / f"{name}.hex"
    path.write_text("\n".join([what, *textwrap.wrap(data.hex(), 100)]) + "\n", "utf-8")
    return path


def packets(data: bytes) -> list[Packet]:
    """The packets of an open datagram that decodes; of one that does not, `Malformed` is raised."""
    datagram = decode_datagram(data)
    assert isinstance(datagram, PlainDatagram)
    return [packet for packet in decode_packets(datagram.packets) if not isinstance(packet, int)]


def overhear() -> dict[str, bytes]:
    """A datagram with each type of packet that routers send, by its name in lower case, and a statement.

    From a small mesh in which somebody talks, one router starts empty, and one was out of reach for a while.
    """
    found: dict[str, bytes] = {}

    def hear(sender: int, data: bytes) -> None:
        for packet in packets(data):
            is_statement = any(item.ephemeral for item in getattr(packet, "items", ()))
            found.setdefault("statement" if is_statement else packet.type.name.lower(), data)

    world = World(1, cell(9), 9)
    world.taps.append(hear)
    world.boot(range(8))
    Lobby(world.routers[1]).enter("ann", someone(1), "1", "2", typed=True)
    for number in range(60):
        world.air.conditions.loss = 0.3 if number > 20 else 0.0
        if number == 30:
            world.air.separate([0], range(1, 9))
        world.routers[number % 8].say("1", f"said {number} " + "x" * (3000 if number == 5 else 1))
        world.run(0.2)
    world.air.heal()
    world.boot([8])
    world.run(120)
    return found


def main(words: list[str]) -> None:
    """The command line, as above."""
    match words:
        case ["add", name, what, digits]:
            print(add(name, what, bytes.fromhex(digits)))
        case ["seeds"]:
            for path in CORPUS.glob(f"{SEED}*.hex"):
                path.unlink()
            for kind, data in sorted(overhear().items()):
                print(add(SEED + kind, f"a true datagram with {kind.upper()}", data))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
