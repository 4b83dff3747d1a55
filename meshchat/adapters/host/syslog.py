"""Lines for the system's log; imported only where they are wanted, for it brings half a megabyte with it."""

import logging
import logging.handlers
from pathlib import Path

SYSLOG = Path("/dev/log")


class SyslogHandler(logging.handlers.SysLogHandler):
    """Standard error has each line too: a syslogd that has gone is no reason for a traceback each."""

    def __init__(self) -> None:
        super().__init__(str(SYSLOG))

    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing; the next line tries to connect again."""
