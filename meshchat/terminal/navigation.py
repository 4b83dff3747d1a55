"""Ways about what is loaded: the room beside this one, the message that holds a text."""

from meshchat.chat.names import fold
from meshchat.client.messages import Message
from meshchat.client.model import Model
from meshchat.client.rooms import Room


def neighbour(model: Model, step: int) -> Room | None:
    """The next room that is open or has news: forwards for 1, backwards for -1."""
    ring = [room for room in model.rooms.values() if room.open or model.unread(room)]
    if model.current not in ring or len(ring) < 2:
        return None
    return ring[(ring.index(model.current) + step) % len(ring)]


def search(model: Model, text: str, from_: Message | None = None, *, newer: bool = False) -> Message | None:
    """The newest message of the current room that holds the text.

    With `from_`, the next one before that message, or after it for `newer`.
    """
    wanted = fold(text)
    if model.current is None or not wanted:
        return None
    messages = [message for message in model.current.messages() if model.visible(message)]
    if from_ in messages:
        at = messages.index(from_)
        messages = messages[at + 1 :] if newer else messages[:at]
    holding = (m for m in messages if wanted in fold(m.text) or wanted in fold(m.user))
    return next(holding, None) if newer else next(reversed(list(holding)), None)
