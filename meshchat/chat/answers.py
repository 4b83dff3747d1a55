"""What the application hands back for a request: an answer, or CPU work to be done first."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar

from meshchat.chat.sessions import Origin
from meshchat.errors import MeshchatError, StoreError

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """The answer to one request, less its id.

    `items` are streamed first and may be long: they are made as they are drawn, which may raise
    `MeshchatError`. Then `result` closes the answer, with the values that it has by then. Nothing is sent
    before `delay_s` seconds have passed.
    """

    result: Mapping[str, object] = field(default_factory=lambda: {"ok": True})
    items: Iterable[Mapping[str, object]] = ()
    delay_s: float = 0.0

    @classmethod
    def done(cls, **result: object) -> "Answer":
        """Success, with these fields."""
        return cls({"ok": True, **result})

    @classmethod
    def stream(cls, items: Iterable[Mapping[str, object]]) -> "Answer":
        """Success, with these items."""
        return cls(items=items)

    @classmethod
    def partial(cls, items: Iterable[Mapping[str, object]], **result: object) -> "Answer":
        """Success, with these items; of what the disk did not give, `trouble` tells people in the result."""
        end: dict[str, object] = {"ok": True, **result}

        def drawn() -> Iterator[Mapping[str, object]]:
            try:
                yield from items
            except StoreError as error:
                end["trouble"] = str(error)

        return cls(end, drawn())

    @classmethod
    def refusal(cls, error: MeshchatError) -> "Answer":
        """The one line that the person is shown, and its code."""
        line = str(error) or type(error).__doc__ or ""
        return cls({"ok": False, "code": error.code, "error": line})

    def after(self, delay_s: float) -> "Answer":
        """The same answer, held back for `delay_s` seconds."""
        return replace(self, delay_s=delay_s)


@dataclass(frozen=True)
class Work(Generic[T]):
    """CPU work of up to seconds (Argon2), to be done where nobody waits, one at a time.

    `compute` touches nothing shared and may run in another thread; it may raise `MeshchatError`, which
    goes to the person by `Answer.refusal`. `finish` is called with its value and the monotonic time in
    seconds, on the thread that `handle` was called on. Work that is not finished has changed nothing.
    Places in the queue are shared out by `origin`.
    """

    compute: Callable[[], T]
    finish: Callable[[T, float], Answer]
    origin: Origin


Outcome: TypeAlias = Answer | Work[Any]
