"""Unicast peers with real daemons, over the default route, where nothing is multicast."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.namespaces import ip, namespaces, wait_for_carrier

pytestmark = pytest.mark.mesh
PATIENCE = 60.0


class Site:
    """A router in a namespace of its own; the interface with the default route is used for peers only."""

    def __init__(self, namespace: str, home: Path) -> None:
        self._within = ("ip", "netns", "exec", namespace, sys.executable, "-m", "meshchat")
        self._home = home / namespace
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self, *peers: str) -> None:
        """Starts the daemon."""
        options = [word for peer in peers for word in ("--peer", peer)]
        places = ("--logs", str(self._home), "--socket", str(self._home / "s"))
        self._daemon = subprocess.Popen([*self._within, "daemon", *places, *options])

    def stop(self) -> None:
        """Ends it."""
        if self._daemon is not None:
            self._daemon.terminate()
            assert self._daemon.wait(timeout=30) == 0

    def says(self, *words: str) -> str:
        """What a command prints."""
        command = [*self._within, "--socket", str(self._home / "s"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def comes_to_say(self, text: str, *words: str) -> str:
        """The same once it holds `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in (said := self.says(*words)):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        return said


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    """10.9.0.1, and a router that has 10.9.0.2 and 10.9.0.99."""
    with namespaces("peer-a", "peer-b") as names:
        ip("-n", names[0], "link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", names[1])
        for name, addresses, gateway in zip(names, (("1",), ("2", "99")), ("2", "1"), strict=True):
            for address in addresses:
                ip("-n", name, "address", "add", f"10.9.0.{address}/24", "dev", "wan")
            ip("-n", name, "link", "set", "wan", "up")
            ip("-n", name, "route", "add", "default", "via", f"10.9.0.{gateway}")
        for name in names:
            wait_for_carrier(name, "wan")
        a, b = (Site(name, tmp_path) for name in names)
        try:
            yield a, b
        finally:
            a.stop()
            b.stop()


def test_a_router_with_two_addresses_answers_a_peer_from_the_one_it_knows(sites: tuple[Site, Site]) -> None:
    a, b = sites
    b.start("10.9.0.1")
    a.start("10.9.0.99")
    a.comes_to_say('"in_step":', "peers", "--json")
    (peer,) = map(json.loads, a.says("peers", "--json").splitlines())
    assert (peer["address"], peer["interface"]) == ("10.9.0.99", "@10.9.0.99")
    assert "The peer 10.9.0.99 answers" in a.says("check")


def test_check_names_a_peer_that_answers_from_another_address(sites: tuple[Site, Site]) -> None:
    a, b = sites
    b.start("10.9.0.1")
    a.start("10.9.0.77")
    said = a.comes_to_say("10.9.0.2", "check")
    assert "The peer 10.9.0.77 has not answered; 10.9.0.2 did" in said
    assert "--peer 10.9.0.2" in said
