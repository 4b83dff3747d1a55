"""Who can be taken to have a record: who was heard with it, or was in reach of enough that sent it.

Broadcast relays are decided by coverage (Peng and Lu, "On the reduction of broadcast redundancy in mobile
ad hoc networks", 2000), weighed by the loss that each neighbour's link is seen to have: a neighbour that
was in reach of three transmissions over links that lose a fifth has missed all with a chance of 0.8%. Where
links lose so much that no number of copies gives such certainty, a counter bounds them.
"""

from collections.abc import Collection, Iterable, Iterator

from meshchat.constants import LOSS_FLOOR, MISS
from meshchat.state.neighbour import Neighbour
from meshchat.wire.ids import RouterId


def may_have_missed(
    around: Iterable[Neighbour],
    senders: Collection[Neighbour],
    having: Collection[RouterId],
    *,
    sent: bool,
    chance: float,
) -> Iterator[tuple[Neighbour, int]]:
    """Those around who may have missed a record with more than this chance, with the transmissions in reach.

    `senders` were heard sending it, `having` are the ids of all who were heard with it; `sent`: so did this
    router itself.
    """
    for neighbour in around:
        if neighbour.router in having:
            continue
        loss = max(neighbour.reception.loss, LOSS_FLOOR)
        copies, missed = (1, loss) if sent else (0, 1.0)
        for sender in senders:
            if neighbour.router in sender.said.reach:
                copies += 1
                missed *= 1 - (1 - loss) * (1 - sender.said.reach.error)
        if missed > chance:
            yield neighbour, copies


def is_doubtful(senders: Iterable[Neighbour]) -> bool:
    """Whether neighbours have to doubt that this router, which heard these senders, has the record."""
    doubt = 1.0
    for sender in senders:
        doubt *= max(sender.reception.loss, LOSS_FLOOR)
    return doubt > MISS
