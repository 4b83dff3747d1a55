"""The corpus keeps up with the layout: else its true datagrams would test nothing any more."""

from meshchat.wire.packets import PacketType
from tests.fuzz.corpus import SEED, packets, paths, read


def test_the_corpus_has_a_true_datagram_of_every_type_of_packet() -> None:
    kept = {packet.type for path in paths() if path.stem.startswith(SEED) for packet in packets(read(path))}
    assert kept == set(PacketType), "run python -m tests.fuzz.corpus seeds"
