"""What all simulated routers compute alike is computed once for all of them.

Whether a signature holds and what bytes mean are pure functions of the bytes, and in a mesh of a thousand
routers the same datagram is read eight times and the same record checked a thousand times. Here the first
answer stands for all; a real router has nobody to ask. This is a speed-up of the simulator and nothing else:
what is accepted and what is refused stays the same, for only what was found good is remembered (whatever is
refused is looked at each time), and what is shared are frozen values.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import ModuleType
from typing import Any

import nacl.bindings

from meshchat.errors import Malformed
from meshchat.protocol import admission, envelope, router
from meshchat.wire.datagram import decode_datagram
from meshchat.wire.packets import Packet, decode_packets
from meshchat.wire.records import decode_record

_CHECKS = 200_000
"""Records whose check is remembered: about 100 MB of them."""
_DATAGRAMS = 4096
"""A datagram is read by all who hear it at the same moment."""
_RECORDS = 16_384
"""A record is on its way through the mesh for some seconds."""


@contextmanager
def shared_work() -> Iterator[None]:
    """Within it, good signatures, datagrams and records are read once in this process; bad ones always."""
    with ExitStack() as stack:
        for module, name, function in (
            (nacl.bindings, "crypto_sign_open", lru_cache(_CHECKS)(nacl.bindings.crypto_sign_open)),
            (envelope, "decode_datagram", lru_cache(_DATAGRAMS)(decode_datagram)),
            (router, "decode_packets", _remembering(decode_packets)),
            (admission, "decode_record", lru_cache(_RECORDS)(decode_record)),
        ):
            stack.enter_context(_replaced(module, name, function))
        yield


def _remembering(
    decode: Callable[[bytes], Iterator[Packet | int]],
) -> Callable[[bytes], Iterator[Packet | int]]:
    """Remembers the packets of what is well formed to its end; of what is not, those in front stand."""

    @lru_cache(_DATAGRAMS)
    def whole(data: bytes) -> tuple[Packet | int, ...]:
        return tuple(decode(data))

    def packets(data: bytes) -> Iterator[Packet | int]:
        try:
            return iter(whole(data))
        except Malformed:
            return decode(data)

    return packets


@contextmanager
def _replaced(module: ModuleType, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """The module's function of this name is another one meanwhile."""
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)
