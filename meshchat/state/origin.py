"""From whom a datagram came, as far as the link it came by can vouch for it."""

from collections.abc import Hashable
from typing import TypeAlias

Origin: TypeAlias = Hashable
"""Made by the adapter of a link, which alone knows what is in it; the engine compares it and hands it back.

What one sender may cost this router (answers, forgeries, tellings, streams, places among the neighbours) is
counted by origin, over all links. So two values are equal exactly where the same sender is behind them, and
they differ only in what he cannot choose at will: of UDP that is the IPv4 address, whatever the port.

Behind a link on which many routers stand (a hub, a broker) each router is an origin where the far end vouches
for who sent what, by the subject or stream that only this router may use; where it does not, all of them are
one origin, the link itself, and share the budget of one. They never take what another link's senders have.
"""
