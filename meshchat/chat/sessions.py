"""One front end's side of the application."""

from meshchat.chat.accounts import Login
from meshchat.chat.limits import Failures, person_bucket
from meshchat.errors import NotLoggedIn


class Session:
    """Who is logged in on a front end, and what it wants to hear of."""

    def __init__(self) -> None:
        self.login: Login | None = None
        self.subscribed = False
        self.rooms: frozenset[str] | None = None
        """The rooms whose messages it is sent; None: all."""
        self.failures = Failures()
        self.bucket = person_bucket()

    def require_login(self) -> Login:
        """Who is logged in; raises `NotLoggedIn`."""
        if self.login is None:
            raise NotLoggedIn("Log in first.")
        return self.login

    def wants(self, room: str) -> bool:
        """Whether it is sent the messages of this room."""
        return self.subscribed and (self.rooms is None or room in self.rooms)
