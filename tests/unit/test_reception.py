"""What the gaps in a neighbour's numbers tell of the link from it."""

import random

import pytest

from meshchat.constants import LOSS_AT_FIRST, LOSS_FLOOR
from meshchat.state.reception import Reception


def hear(reception: Reception, numbers: list[int]) -> float:
    for number in numbers:
        reception.heard(number % 255 + 1)
    return reception.loss


def test_a_link_that_loses_nothing_is_trusted_after_some_frames() -> None:
    reception = Reception()
    assert reception.loss == LOSS_AT_FIRST
    assert hear(reception, list(range(200, 210))) > LOSS_FLOOR
    assert hear(reception, list(range(210, 230))) < LOSS_FLOOR


@pytest.mark.parametrize("loss", [0.1, 0.3, 0.5, 0.8])
def test_the_loss_that_is_told_is_the_loss_there_is(loss: float) -> None:
    dice = random.Random(1)
    reception = Reception()
    told = []
    for number in range(4000):
        if dice.random() >= loss:
            reception.heard(number % 255 + 1)
            told.append(reception.loss)
    assert sum(told[100:]) / len(told[100:]) == pytest.approx(loss, abs=0.08)


def test_frames_that_come_late_or_twice_tell_nothing() -> None:
    reception = Reception()
    before = hear(reception, [10, 11, 14])
    assert hear(reception, [14, 12, 13, 11, 200]) == before


def test_a_restart_is_no_loss() -> None:
    reception = Reception()
    hear(reception, list(range(100)))
    reception.restarted()
    before = reception.loss
    assert hear(reception, [200]) == before
    assert hear(reception, [201]) < before


def test_one_who_leaps_in_his_numbers_does_himself_little_harm() -> None:
    reception = Reception()
    hear(reception, list(range(100)))
    assert hear(reception, [220]) < 0.5
