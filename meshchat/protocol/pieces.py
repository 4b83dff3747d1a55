"""A record that is larger than a datagram goes in pieces."""

from meshchat.wire.ids import RecordId
from meshchat.wire.packets import FRAGMENT_FIELDS, PACKET_HEADER, Carried, Fragment


def fragments(record_id: RecordId, carried: Carried, capacity: int, *, repair: bool) -> list[Fragment]:
    """The pieces of a record that does not fit into `capacity` bytes of packets."""
    room = capacity - PACKET_HEADER - FRAGMENT_FIELDS
    total = len(carried.data)
    return [
        Fragment(repair, record_id, total, at, carried.age, carried.data[at : at + room])
        for at in range(0, total, room)
    ]
