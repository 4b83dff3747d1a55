"""Two thousand people behind one connection to a real daemon, which is started anew under them."""

from collections.abc import Callable

from tests.bench.sessions import MESSAGES, SESSIONS, measure


def test_two_thousand_sessions_share_a_connection(measured: Callable[[str], None]) -> None:
    crowd = measure(SESSIONS)
    assert crowd.lines == MESSAGES, "a public message crosses the connection once"
    measured(
        f"{SESSIONS} sessions on one connection: {crowd.session_kb:.1f} KB of the daemon's memory each; "
        f"logged in by ticket in {crowd.resume_s:.1f} s, {crowd.again_s:.1f} s after a restart; "
        f"{MESSAGES} messages in {crowd.lines} lines, on all sessions after {crowd.events_s:.1f} s; "
        f"20 messages of history for each in {crowd.history_s:.1f} s"
    )
