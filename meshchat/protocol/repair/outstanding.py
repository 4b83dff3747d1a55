"""What an order has not brought yet."""

from collections.abc import Iterable

from meshchat.protocol.repair.reconcile import short_id
from meshchat.protocol.repair.spans import Spans, after
from meshchat.wire.ids import NO_SALT, Bound, Position, RecordId, Salt, SketchKey, record_id_of, sketch_key_of
from meshchat.wire.packets import Block, BySketchKey, Wanted


class Outstanding:
    """Whole ranges, and records that are named one by one."""

    def __init__(self, blocks: Iterable[Wanted] = (), salt: Salt = NO_SALT) -> None:
        """`salt` is that of the short ids in the blocks."""
        named: list[Wanted] = []
        ranged: list[Block] = []
        for block in blocks:
            if isinstance(block, Block) and block.ids is None:
                ranged.append(block)
            else:
                named.append(block)
        self.spans = Spans((block.low, block.high) for block in ranged)
        self._named, self._salt = named, salt

    def blocks(self) -> list[Wanted]:
        """All that is still wanted, whole ranges first."""
        return [*(Block(low, high, None) for low, high in self.spans), *self._named]

    def received(self, position: Position) -> bool:
        """The record at this position came. Whether it was wanted."""
        in_spans = position in self.spans
        if in_spans:
            self.spans.remove(position, after(position))
        return self.strike(position) or in_spans

    def settled(self, low: Bound, high: Bound) -> None:
        """Nothing more is to come of a range."""
        self.spans.remove(low, high)

    def strike(self, position: Position) -> bool:
        """A record that is named is here: it is not asked for again. Whether it was named."""
        if not self._named:
            return False
        return self._strike_key(sketch_key_of(position)) or self._strike_id(record_id_of(position))

    def _strike_id(self, record_id: RecordId) -> bool:
        short = short_id(self._salt, record_id)
        for number, block in enumerate(self._named):
            if isinstance(block, Block) and block.ids and short in block.ids:
                left = tuple(one for one in block.ids if one != short)
                self._named[number : number + 1] = [Block(block.low, block.high, left)] if left else []
                return True
        return False

    def _strike_key(self, key: SketchKey) -> bool:
        for number, block in enumerate(self._named):
            if isinstance(block, BySketchKey) and key in block.keys:
                left = tuple(one for one in block.keys if one != key)
                self._named[number : number + 1] = [BySketchKey(left)] if left else []
                return True
        return False
