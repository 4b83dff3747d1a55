"""A paste is told from typing where the terminal does not bracket it."""

from hypothesis import given
from hypothesis import strategies as st

from meshchat.terminal.pasting import AT_ONCE, FULL_GO, GOES_ON, PasteWatch


class Hands:
    """Keys that come in goes, at times; the last of each ends a line."""

    def __init__(self) -> None:
        self.now = 100.0
        self.watch = PasteWatch(lambda: self.now)

    def go(self, keys: int, *, ends_line: bool = True) -> bool:
        """Whether the last of so many keys that come at once is told to belong to a paste."""
        for waiting in range(keys - 1, -1, -1):
            self.watch.key(waiting)
        return self.watch.ends_line() if ends_line else self.watch.is_surely_paste


@given(st.lists(st.tuples(st.integers(1, AT_ONCE - 1), st.floats(0, 5)), max_size=30))
def test_nobody_s_typing_is_a_paste(goes: list[tuple[int, float]]) -> None:
    hands = Hands()
    for keys, pause in goes:
        assert not hands.go(keys)
        hands.now += pause


@given(st.lists(st.integers(1, 1024), min_size=1, max_size=20))
def test_all_of_a_paste_is_one_whatever_pieces_it_comes_in(pieces: list[int]) -> None:
    hands = Hands()
    for keys in [AT_ONCE, *pieces]:
        assert hands.go(keys)
        hands.now += GOES_ON / 2
    hands.now += GOES_ON
    assert not hands.go(1)


def test_a_line_pasted_without_its_end_is_sent_by_the_enter_that_follows() -> None:
    hands = Hands()
    assert hands.go(40, ends_line=False)
    assert not hands.go(1)
    assert hands.go(FULL_GO, ends_line=False)
    assert hands.go(1)
