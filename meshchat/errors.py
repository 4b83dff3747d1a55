"""Who is to blame, in the type: a person, a neighbour, or the machine.

A `MeshchatError` carries the one line that the person is shown, and a short `code` that front ends may
branch on. A `Malformed` is a neighbour's violation: it is counted under its reason and never reported
to a person. Anything else that is raised is a bug.
"""


class MeshchatError(Exception):
    """Something a person can mend; the text says what to do."""

    code = "failed"


class UsageError(MeshchatError):
    """A request that makes no sense as it stands."""

    code = "usage"


class NameRefused(MeshchatError):
    """A user or room name that cannot be used."""

    code = "name"


class TextRefused(MeshchatError):
    """A message that is empty or too long."""

    code = "text"


class PasswordRefused(MeshchatError):
    """A password that cannot be used."""

    code = "password"


class NameTaken(MeshchatError):
    """This username is already taken"""

    code = "taken"


class LoginFailed(MeshchatError):
    """Username or password is invalid"""

    code = "login"


class NotLoggedIn(MeshchatError):
    """Log in first."""

    code = "not-logged-in"


class TicketVoid(MeshchatError):
    """Log in again."""

    code = "ticket"


class NoRight(MeshchatError):
    """This needs a right that the session does not have."""

    code = "no-right"


class SessionRefused(MeshchatError):
    """A session that is not open, or cannot be opened."""

    code = "no-session"


class TooFast(MeshchatError):
    """A limit on rates was reached; the same request is welcome later."""

    code = "slow-down"


class StoreError(MeshchatError):
    """The disk did not take or give what it should."""

    code = "disk"


class ConfigError(MeshchatError):
    """A setting that cannot be used; the daemon keeps the old one."""

    code = "config"


class Contradiction(ConfigError):
    """Settings, named in `settings`, each of which could be used without the others."""

    def __init__(self, text: str, settings: tuple[str, ...]) -> None:
        super().__init__(text)
        self.settings = settings


class ClockRefused(MeshchatError):
    """A time that no clock is believed to show; it would wipe this router's own history."""

    code = "clock"


class FileRefused(MeshchatError):
    """A file that somebody named, and that cannot be read or written."""

    code = "file"


class DaemonGone(MeshchatError):
    """No daemon answers."""

    code = "no-daemon"


class Malformed(Exception):
    """A datagram, packet or record that breaks PROTOCOL.md; `reason` is the counter it goes under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
