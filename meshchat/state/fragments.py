"""Records in pieces: reassembly in bounded memory (the lesson of RFC 1858: pieces of one sender only)."""

from collections import Counter, OrderedDict

from meshchat.wire.ids import RecordId, RouterId
from meshchat.wire.packets import Fragment

MAX_REASSEMBLIES = 32
REASSEMBLY_LIFETIME = 60.0

_Key = tuple[RouterId, RecordId]
"""The sender, and the record that it sends a piece of."""


class _Partial:
    """A record of which pieces are there. It takes as many bytes as the record, whatever was sent of it."""

    def __init__(self, total: int) -> None:
        self.until = 0.0
        self.data = bytearray(total)
        self._gaps = [(0, total)]

    def put(self, begin: int, piece: bytes) -> None:
        """Lays a piece into its place, over what may be there."""
        end = begin + len(piece)
        self.data[begin:end] = piece
        left: list[tuple[int, int]] = []
        for low, high in self._gaps:
            left.extend(gap for gap in ((low, min(high, begin)), (max(low, end), high)) if gap[0] < gap[1])
        self._gaps = left

    @property
    def whole(self) -> bool:
        return not self._gaps


class Reassembly:
    """Collects the pieces of at most 32 records, apart for each sender: nobody can spoil another's.

    Pieces stay for a minute, so that a second sending fills the gaps of the first. Where there are too many
    records, the oldest of the sender who has most of them goes: a sender's flood costs only his own.
    """

    def __init__(self) -> None:
        self._partials: OrderedDict[_Key, _Partial] = OrderedDict()
        self._counts: Counter[RouterId] = Counter()

    def __len__(self) -> int:
        return len(self._partials)

    def add(self, sender: RouterId, piece: Fragment, now: float) -> bytes | None:
        """The whole record's bytes where this piece completes it, else None. `now` is seconds."""
        key = (sender, piece.id)
        partial = self._partials.get(key)
        if partial is None or len(partial.data) != piece.total or partial.until < now:
            self._drop(key)
            partial = self._partials[key] = _Partial(piece.total)
            self._counts[sender] += 1
        partial.until = now + REASSEMBLY_LIFETIME
        self._partials.move_to_end(key)
        partial.put(piece.offset, piece.data)
        if partial.whole:
            self._drop(key)
            return bytes(partial.data)
        self._trim(now)
        return None

    def _trim(self, now: float) -> None:
        oldest = next(iter(self._partials))
        if self._partials[oldest].until < now:
            self._drop(oldest)
        if len(self._partials) > MAX_REASSEMBLIES:
            most = max(self._counts.values())
            self._drop(next(key for key in self._partials if self._counts[key[0]] == most))

    def _drop(self, key: _Key) -> None:
        if self._partials.pop(key, None) is not None:
            self._counts[key[0]] -= 1
            if not self._counts[key[0]]:
                del self._counts[key[0]]
