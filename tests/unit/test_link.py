"""What the gaps in a neighbour's numbers tell of the link from it."""

import random

import pytest

from meshchat.constants import LOSS_AT_FIRST, LOSS_FLOOR
from meshchat.state.link import Link


def hear(link: Link, numbers: list[int]) -> float:
    for number in numbers:
        link.heard(number % 255 + 1)
    return link.loss


def test_a_link_that_loses_nothing_is_trusted_after_some_frames() -> None:
    link = Link()
    assert link.loss == LOSS_AT_FIRST
    assert hear(link, list(range(200, 210))) > LOSS_FLOOR
    assert hear(link, list(range(210, 230))) < LOSS_FLOOR


@pytest.mark.parametrize("loss", [0.1, 0.3, 0.5, 0.8])
def test_the_loss_that_is_told_is_the_loss_there_is(loss: float) -> None:
    dice = random.Random(1)
    link = Link()
    told = []
    for number in range(4000):
        if dice.random() >= loss:
            link.heard(number % 255 + 1)
            told.append(link.loss)
    assert sum(told[100:]) / len(told[100:]) == pytest.approx(loss, abs=0.08)


def test_frames_that_come_late_or_twice_tell_nothing() -> None:
    link = Link()
    before = hear(link, [10, 11, 14])
    assert hear(link, [14, 12, 13, 11, 200]) == before


def test_a_restart_is_no_loss() -> None:
    link = Link()
    hear(link, list(range(100)))
    link.restarted()
    before = link.loss
    assert hear(link, [200]) == before
    assert hear(link, [201]) < before


def test_one_who_leaps_in_his_numbers_does_himself_little_harm() -> None:
    link = Link()
    hear(link, list(range(100)))
    assert hear(link, [220]) < 0.5
