"""The door a record came by: what is done about it once it is on disk depends on that."""

from enum import Enum


class Door(Enum):
    """The doors into the store. Behind each, a record goes the same way (`protocol/intake.py`)."""

    OWN = "made on this router"
    NEWS = "flooded by a neighbour"
    REPAIR = "sent by a neighbour because it was missing here"
    FILE = "merged from a file by the operator"
    RELEASED = "let out of quarantine when its time had come"

    @property
    def is_news(self) -> bool:
        """Whether it is new whatever its stamp says, and not something caught up with."""
        return self in (Door.OWN, Door.NEWS, Door.RELEASED)

    @property
    def begins_here(self) -> bool:
        """Whether no router around can have it from elsewhere: it is sent at once, and whoever is heard."""
        return self in (Door.OWN, Door.FILE)
