"""What an operation is: the right that it needs, the fields that it reads, and the function that does it."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from meshchat.chat.access import Right
from meshchat.chat.answers import Answer, Outcome, Work
from meshchat.chat.application import Application
from meshchat.chat.requests import fields
from meshchat.chat.sessions import Session
from meshchat.errors import MeshchatError, NoRight

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """Who asks what of whom: the application, the session, and the time in monotonic seconds."""

    app: Application
    session: Session
    now: float

    @property
    def rights(self) -> frozenset[Right]:
        """What may be done on the session now."""
        return self.app.rights(self.session)

    def work(self, compute: Callable[[], T], finish: Callable[[T, float], Answer]) -> Work[T]:
        """Work for this session, whose `finish` may raise what it refuses."""

        def run(value: T, now: float) -> Answer:
            try:
                return finish(value, now)
            except MeshchatError as error:
                return Answer.refusal(error)

        return Work(compute, run, self.session.origin)


@dataclass(frozen=True)
class Nothing:
    """A request without fields."""


@dataclass(frozen=True)
class Operation(Generic[R]):
    """`run` takes the call and the request, an instance of `request`; it raises what it refuses."""

    right: Right
    request: type[R]
    run: Callable[[Call, R], Outcome]

    @property
    def fields(self) -> Mapping[str, fields.Rule]:
        """The fields that it reads, by name."""
        return fields.rules(cast(Hashable, self.request))

    def carry_out(self, call: Call, request: Mapping[str, object]) -> Outcome:
        """The answer to a request object. Raises `NoRight`, `UsageError`, and what the operation refuses."""
        if self.right not in call.rights:
            raise NoRight(_CURES[self.right])
        return self.run(call, fields.read(request, self.request))


_CURES = {
    **dict.fromkeys(Right, "This may not be done from here."),
    Right.WATCH: "This is for who may watch the router: ask who runs it for a code.",
    Right.OPERATE: "This is for who runs the router, on the router itself.",
}
