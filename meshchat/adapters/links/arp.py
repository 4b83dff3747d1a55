"""Who else on a link has an IPv4 address of ours, asked as RFC 5227 asks before an address is taken.

Linux drops what comes from an address that is its own, so two routers with one address never hear each other,
and neither daemon can tell. Only root may ask; where nobody can, nothing is known.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_ARP = struct.Struct("!HHBBH6s4s6s4s")
"""RFC 826 for Ethernet and IPv4: types, lengths, operation, sender's and target's addresses."""
_HEADER = (1, 0x0800, 6, 4)
_SIOCGIFHWADDR = 0x8927
_IFREQ_SIZE = 40
_HARDWARE = slice(18, 24)
"""Of netdevice(7): the request, the bytes of its `ifreq`, and where in it the hardware address comes back."""
_ANSWER_S = 1.0
"""Seconds for all answers; a mesh of ten hops takes a tenth of that."""


class _Question:
    """One that was asked: whether another machine on `interface` has `address`. Raises `OSError`."""

    def __init__(self, interface: str, address: str) -> None:
        self.interface, self.address = interface, address
        self._wanted = socket.inet_aton(address)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ARP))
        try:
            self._socket.bind((interface, _ETH_P_ARP))
            self._mine: bytes = self._socket.getsockname()[4]
            if len(self._mine) == len(_BROADCAST):  # else no Ethernet, and so no ARP: a tunnel
                # The sender's address stays empty: nobody's table of neighbours is touched.
                asked = _ARP.pack(*_HEADER, _REQUEST, self._mine, bytes(4), bytes(6), self._wanted)
                self._socket.sendto(asked, (interface, _ETH_P_ARP, 0, 0, _BROADCAST))
        except (OSError, ValueError):  # ValueError: a name that is no UTF-8
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For select(2)."""
        return self._socket.fileno()

    def close(self) -> None:
        """Asks no more."""
        self._socket.close()

    def answer(self) -> str:
        """The hardware address in what came, where it is an answer; else empty."""
        try:
            came = self._socket.recv(512)
        except OSError:
            return ""
        if len(came) < _ARP.size:
            return ""
        *header, operation, hardware, protocol, _, _ = _ARP.unpack_from(came)
        is_answer = tuple(header) == _HEADER and operation == _REPLY and protocol == self._wanted
        return str(hardware.hex(":")) if is_answer and hardware not in own_hardware() else ""


def own_hardware() -> frozenset[bytes]:
    """The hardware addresses of this machine: the kernel answers for each of its addresses on every interface
    (arp_ignore of ip-sysctl), so on a bridge that two of them are on it is heard to answer itself.
    """
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                told = fcntl.ioctl(asker, _SIOCGIFHWADDR, os.fsencode(name).ljust(_IFREQ_SIZE, b"\0"))
                found.add(told[_HARDWARE])
    return frozenset(found)


def findings(status: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is to be said of the addresses of the daemon whose `status` this is, as the items of `check`.

    It takes a second: which is why the command asks, and not the daemon.
    """
    with contextlib.ExitStack() as opened:
        open_questions = set()
        for one in status["interfaces"]:
            for address in one["addresses"]:
                with contextlib.suppress(OSError, ValueError):
                    question = _Question(one["name"], address)
                    opened.callback(question.close)
                    open_questions.add(question)
        end = time.monotonic() + _ANSWER_S
        while open_questions and (
            ready := select.select(open_questions, [], [], max(end - time.monotonic(), 0))[0]
        ):
            for question in ready:
                if hardware := question.answer():
                    open_questions.remove(question)
                    yield _told(question.interface, question.address, hardware)
            if time.monotonic() >= end:
                return


def _told(interface: str, address: str, hardware: str) -> dict[str, Any]:
    text = (
        f"Another machine on {interface} ({hardware}) has the address {address}, too: two routers with one "
        "address do not hear each other."
    )
    cure = f"give one of the two another address on {interface}   (who it is: ip neigh; arping -D {address})"
    return {"level": "bad", "what": "address", "text": text, "cure": cure}
