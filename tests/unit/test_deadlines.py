from enum import Enum

import pytest

from meshchat.protocol.deadlines import handled


class Due(Enum):
    SOON = "soon"
    LATER = "later"


def test_a_kind_of_deadline_without_a_handler_is_refused_by_name() -> None:
    assert handled(Due, {Due.SOON: 1, Due.LATER: 2}) == {Due.SOON: 1, Due.LATER: 2}
    with pytest.raises(LookupError, match=r"^Due without a handler: LATER$"):
        handled(Due, {Due.SOON: 1})
