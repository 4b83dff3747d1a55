"""A rateless sketch of a set: from two of them follows where the sets differ, at a cost of the difference.

After Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation" (SIGCOMM 2024): every record is mixed
by XOR into cell 0 and into ever fewer of the later cells, so that any first cells of the sketch are a sketch.
The XOR of two routers' cells holds just the records that one of them lacks. A cell that holds a single one
shows it; taken out of its other cells, it uncovers the next. About 1.5 cells a difference are enough.

Where a record is mixed in differs from the paper: by the bytes of one hash, in at most two cells of each
octave 2**k to 2**(k+1) - 1, which is as dense and needs no arithmetic that two programs could round apart.

A sketch convinces nobody. Who may write records can make some that hide each other; then the count gives it
away or it does not decode, and the ranges decide. So it needs no salt, and can be kept while records come
and go.
"""

import hashlib
from collections.abc import Sequence

from meshchat.constants import SKETCH_CELLS
from meshchat.wire.ids import CELL_SIZE, SKETCH_KEY_SIZE, Cell, Position, SketchKey, sketch_key_of

_PERSON = b"meshchat sketch"
_CHECK = 2
"""Bytes of a check. One that holds by chance, once in 65,536, spoils a sketch; none passes for right."""
_OCTAVES = SKETCH_CELLS.bit_length() - 1
_ABSENT_BELOW = 77
"""Of 256: in so many cases a record is in no cell of an octave."""


def _mixed(key: SketchKey) -> tuple[int, list[int]]:
    """What is mixed into cells for a record, and the cells in order, each once."""
    digest = hashlib.blake2b(key, digest_size=_CHECK + 3 * _OCTAVES, person=_PERSON).digest()
    cells = [0]
    at, size = _CHECK, 1
    while size < SKETCH_CELLS:
        if digest[at] >= _ABSENT_BELOW:
            one, other = size + digest[at + 1] % size, size + digest[at + 2] % size
            cells.append(one)
            if other != one:
                cells.append(other)
        at, size = at + 3, size * 2
    return int.from_bytes(key + digest[:_CHECK], "big"), cells


class SetSketch:
    """The first `SKETCH_CELLS` cells of a set."""

    def __init__(self, cells: Sequence[int] = (0,) * SKETCH_CELLS) -> None:
        self.cells = list(cells)

    def toggle(self, position: Position) -> None:
        """Puts the record at this position in, or takes it out."""
        value, cells = _mixed(sketch_key_of(position))
        mine = self.cells
        for number in cells:
            mine[number] ^= value

    def copy(self) -> "SetSketch":
        """Another one of the same set."""
        return SetSketch(self.cells)

    def encoded(self, first: int, last: int) -> tuple[Cell, ...]:
        """The cells from `first` up to `last` as they go on the wire."""
        return tuple(Cell(cell.to_bytes(CELL_SIZE, "big")) for cell in self.cells[first:last])

    def difference(self, cells: Sequence[Cell]) -> list[SketchKey] | None:
        """The keys in one of the two sets only, given the other's first cells; None where it stays open.

        Takes at most as many steps as there are cells, whatever is in them.
        """
        left = [mine ^ int.from_bytes(theirs, "big") for mine, theirs in zip(self.cells, cells, strict=False)]
        found: dict[SketchKey, None] = {}
        waiting = list(range(len(left)))
        while waiting and len(found) <= len(left):
            number = waiting.pop()
            key = SketchKey((left[number] >> 8 * _CHECK).to_bytes(SKETCH_KEY_SIZE, "big"))
            if not left[number] or key in found:
                continue
            value, where = _mixed(key)
            if value != left[number] or number not in where:
                continue
            found[key] = None
            for each in where:
                if each < len(left):
                    left[each] ^= value
                    waiting.append(each)
        return None if any(left) else list(found)
