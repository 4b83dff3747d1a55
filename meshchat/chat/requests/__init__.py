"""The requests that front ends make, by theme, and the table of all of them.

An operation is one function, beside the frozen dataclass of its fields and the row in its module's `TABLE`
that names the right it needs.
"""

from collections.abc import Mapping
from typing import Any

from meshchat.chat.requests import accounts, personal, rooms, router
from meshchat.chat.requests.operation import Operation

OPERATIONS: Mapping[str, Operation[Any]] = {
    **accounts.TABLE,
    **personal.TABLE,
    **rooms.TABLE,
    **router.TABLE,
}
"""Every request, by what it is called on the control socket."""
