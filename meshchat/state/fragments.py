"""Records in pieces: reassembly in bounded memory (the lesson of RFC 1858: pieces of one sender only)."""

from collections import OrderedDict
from dataclasses import dataclass, field

from meshchat.constants import MAX_REASSEMBLIES, REASSEMBLY_LIFETIME
from meshchat.wire.packets import Fragment


@dataclass
class _Partial:
    total: int
    until: float
    pieces: dict[int, bytes] = field(default_factory=dict)
    repair: bool = False


class Reassembly:
    """Collects the pieces of at most 32 records, apart for each sender: nobody can spoil another's.

    Pieces stay for a minute, so that a second sending fills the gaps of the first.
    """

    def __init__(self) -> None:
        self._partials: OrderedDict[tuple[bytes, bytes], _Partial] = OrderedDict()

    def __len__(self) -> int:
        return len(self._partials)

    def add(self, sender: bytes, piece: Fragment, now: float) -> bytes | None:
        """The whole record's bytes where this piece completes it, else None. `now` is seconds."""
        key = (sender, piece.id)
        partial = self._partials.get(key)
        if partial is None or partial.total != piece.total or partial.until < now:
            partial = self._partials[key] = _Partial(piece.total, 0.0)
        partial.until = now + REASSEMBLY_LIFETIME
        self._partials.move_to_end(key)
        partial.pieces[piece.offset] = piece.data
        self._trim(now)
        whole = self._join(partial)
        if whole is not None:
            self._partials.pop(key, None)
        elif sum(map(len, partial.pieces.values())) > 2 * partial.total:
            # Overlapping pieces that never fit: a liar's.
            self._partials.pop(key, None)
        return whole

    def _trim(self, now: float) -> None:
        oldest = next(iter(self._partials.values()))
        if len(self._partials) > MAX_REASSEMBLIES or oldest.until < now:
            self._partials.popitem(last=False)

    @staticmethod
    def _join(partial: _Partial) -> bytes | None:
        whole = b""
        while len(whole) < partial.total:
            piece = partial.pieces.get(len(whole))
            if piece is None:
                return None
            whole += piece
        return whole if len(whole) == partial.total else None
