"""Lines for the system's log; imported only where they are wanted, for it brings half a megabyte with it."""

import logging
import logging.handlers
from pathlib import Path

SYSLOG = Path("/dev/log")


class SyslogHandler(logging.handlers.SysLogHandler):
    """Each line with its level, as `logread` shows it: all that a daemon says on standard error procd takes
    for errors.
    """

    ident = "meshchat: "
    append_nul = False

    def __init__(self, fallback: logging.Handler) -> None:
        """`fallback` gets what syslogd does not take."""
        super().__init__(str(SYSLOG), self.LOG_DAEMON)
        self.setFormatter(logging.Formatter())  # the message alone: syslogd knows the level
        self._fallback = fallback

    def handleError(self, record: logging.LogRecord) -> None:
        """A syslogd that has gone is no reason for a traceback; the next line tries to connect again."""
        self._fallback.handle(record)
