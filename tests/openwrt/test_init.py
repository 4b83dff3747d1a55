"""What the init script tells procd, and the configuration that it makes for the daemon."""

import dataclasses
import re
from pathlib import Path

import pytest

from meshchat.adapters.host.uci import settle
from meshchat.config import FIXED, SETTINGS, SYSTEM, parse
from tests.openwrt.router import FILES, Router

SAMPLE = (FILES / "meshchat.config").read_text()


HERE_OTHERWISE = {"logs": "storage", "origin_uids": "origin_user"}
"""Settings that are called otherwise in /etc/config/meshchat."""

OPTIONS = {
    HERE_OTHERWISE.get(name, name) for name, setting in SETTINGS.items() if not setting.metadata["hidden"]
}


def logged(calls: list[str]) -> list[str]:
    return [line.split(" ", 5)[5] for line in calls if line.startswith("logger")]


def params(calls: list[str], instance: str = "daemon") -> dict[str, str]:
    """What procd was told of an instance."""
    start = calls.index(f"procd_open_instance {instance}")
    told = calls[start : calls.index("procd_close_instance", start)][1:]
    return {line.split()[1]: " ".join(line.split()[2:]) for line in told}


def triggers(calls: list[str]) -> list[str]:
    return [line.removeprefix("procd_add_") for line in calls if line.startswith("procd_add_")]


def test_procd_runs_the_daemon_as_its_own_user_and_for_ever(router: Router) -> None:
    told = params(router.init("start"))
    fixed = told.pop("env")
    assert re.fullmatch("MESHCHAT_FIXED=[0-9a-f]{32}", fixed)
    assert told == {
        "command": "/usr/bin/meshchat daemon --config /var/etc/meshchat/meshchat.toml",
        "user": "meshchat",
        "group": "meshchat",
        "pidfile": "/var/run/meshchat.pid",
        "stderr": "1",
        "respawn": "3600 5 0",
    }


def test_procd_is_told_what_has_the_daemon_look_again(router: Router) -> None:
    router.set("storage", "/mnt/sda1/meshchat")
    assert triggers(router.init("start")) == [
        "reload_trigger meshchat network system",
        "raw_trigger interface.* 2000 /etc/init.d/meshchat reload event",
        "reload_mount_trigger /mnt/sda1/meshchat",
    ]


def test_a_disabled_service_still_notices_when_it_is_enabled(router: Router) -> None:
    router.set("enabled", "0")
    calls = router.init("start")
    assert not [line for line in calls if "instance" in line]
    assert triggers(calls)


def test_the_daemon_gets_directories_that_are_its_own(router: Router) -> None:
    calls = router.init("start")
    given = {line.removeprefix(f"chown meshchat:meshchat {router.root}") for line in calls if "chown" in line}
    assert given == {"/var/lib/meshchat", "/var/run/meshchat", "/etc/meshchat"}
    assert (router.root / "etc/meshchat").stat().st_mode & 0o777 == 0o700
    assert (router.root / "var/run/meshchat").stat().st_mode & 0o777 == 0o751


def test_with_nothing_set_the_daemon_has_its_defaults_and_history_in_ram(router: Router) -> None:
    calls = router.init("start")
    config = router.daemon_config()
    assert (config.logs, config.state) == (Path("/var/lib/meshchat"), Path("/etc/meshchat"))
    assert config.socket == Path("/var/run/meshchat/meshchat.sock")
    assert config.fsync == "never"
    assert config.storage_missing is None
    assert config.syslog  # each line with its level; procd would take all of standard error for errors
    assert (config.people_group, config.origin_uids) == ("meshchat-people", ("8889",))
    ours = {"logs", "state", "socket", "people", "people_group", "origin_uids", "fsync", "syslog"}
    for setting in dataclasses.fields(config):
        if setting.name not in ours:
            assert getattr(config, setting.name) == setting.default
    assert not logged(calls)


def test_every_setting_of_the_daemon_can_be_set_and_reaches_it(router: Router) -> None:
    """Each one that has an entry in the sample; that all have one is the next test."""
    values = {
        "mesh": 'elm "street" \\ 7',
        "interfaces": ["mesh0", "bat0"],
        "peers": ["10.1.2.3", "r.example:99"],
        "group": "239.1.2.3",
        "port": "9999",
        "air_rate": "6M",
        "repair_share": "0.5",
        "storage": "/srv/meshchat",
        "fsync": "always",
        "retention": "36h",
        "wipe_time": "05:30",
        "cap_author": "1M",
        "cap_room": "2M",
        "cap_router": "3145728",
        "timezone": "<+0330>-3:30",
        "state": "/srv/state",
        "socket": "/var/run/other.sock",
        "log_level": "debug",
        "syslog": "no",
        "people": "/var/run/meshchat/all.sock",
        "people_group": "users",
        "origin_user": ["www"],
    }
    for option, value in values.items():
        router.set(option, value)
    assert not logged(router.init("start"))
    config = router.daemon_config()
    assert config.mesh == 'elm "street" \\ 7'
    assert (config.interfaces, config.peers) == (("mesh0", "bat0"), ("10.1.2.3", "r.example:99"))
    assert (config.group, config.port, config.air_rate) == ("239.1.2.3", 9999, 6_000_000)
    assert (config.repair_share, config.logs, config.fsync) == (0.5, Path("/srv/meshchat"), "always")
    assert (config.retention_s, config.wipe_time) == (36 * 3600, "05:30")
    assert (config.cap_author, config.cap_room, config.cap_router) == (2**20, 2**21, 3 * 2**20)
    assert (config.timezone, config.log_level, config.syslog) == ("<+0330>-3:30", "debug", False)
    assert (config.state, config.socket) == (Path("/srv/state"), Path("/var/run/other.sock"))
    assert (config.people, config.people_group) == (Path("/var/run/meshchat/all.sock"), "users")
    assert config.origin_uids == ("www", "8889")
    assert set(values) == OPTIONS


def test_the_sample_has_an_entry_for_each_setting_with_its_true_default() -> None:
    entries = re.findall(r"^\t#?(?:option|list) (\w+) '(.*)'$", SAMPLE, re.MULTILINE)
    own = {"enabled", "ssh_login", "ssh_port", "ssh_sessions"}
    assert {name for name, _ in entries} == OPTIONS | own
    examples = {"interfaces", "peers", "origin_user", "storage"}
    of_the_daemon = {name: [value] for name, value in entries if name in OPTIONS - examples}
    text, complaints = settle(of_the_daemon, "", "the sample")
    assert not complaints
    plain, _ = settle({"syslog": ["1"], "people_group": ["meshchat-people"]}, "", "the sample")
    assert parse(text, {}, SYSTEM, "sample") == parse(plain, {}, SYSTEM, "defaults")


def test_a_bad_value_names_itself_and_the_last_good_one_stays(router: Router) -> None:
    router.set("mesh", "elm")
    router.set("port", "9999")
    router.init("start")
    router.set("port", "70000")
    router.set("retention", "soon")
    said = logged(router.init("start"))
    config = router.daemon_config()
    assert (config.mesh, config.port, config.retention_s) == ("elm", 9999, 86_400)
    assert any("port" in line and "'70000'" in line and "stays 9999" in line for line in said)
    assert any("retention" in line and "'soon'" in line and "default" in line for line in said)
    assert len(said) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mesh", "x" * 65),
        ("interfaces", ["../etc"]),
        ("peers", ["ten.1.2.3:x"]),
        ("group", "10.1.2.3"),
        ("port", "8o88"),
        ("air_rate", "fast"),
        ("repair_share", "2"),
        ("fsync", "sometimes"),
        ("wipe_time", "25:00"),
        ("cap_room", "1K"),
        ("timezone", "Nowhere"),
        ("log_level", "loud"),
        ("syslog", "maybe"),
        ("socket", "/" + "s" * 200),
    ],
)
def test_no_bad_value_keeps_the_daemon_from_starting(tmp_path: Path, option: str, value: object) -> None:
    router = Router.new(tmp_path / "root", ("dash",))
    router.set(option, value)
    calls = router.init("start")
    assert any(option in line for line in logged(calls))
    assert params(calls)["user"] == "meshchat"
    default = SETTINGS[option].default
    assert option == "socket" or getattr(router.daemon_config(), SETTINGS[option].name) == default


def test_caps_that_contradict_each_other_stay_as_they_were(router: Router) -> None:
    router.set("cap_router", "64M")
    router.init("start")
    router.set("cap_author", "17M")
    router.set("cap_router", "65M")
    (said,) = logged(router.init("start"))
    assert "cap_author" in said
    assert router.daemon_config().cap_router == 64 * 2**20


def test_a_slip_in_an_options_name_is_named_with_the_right_one(router: Router) -> None:
    router.set("retenton", "2d")
    router.set("logs", "/mnt/sda1")
    said = logged(router.init("start"))
    assert any("'retenton'" in line and "'retention'" in line for line in said)
    assert any("storage" in line for line in said)
    assert router.daemon_config().logs == Path("/var/lib/meshchat")


def test_bad_values_of_the_scripts_own_options_are_named_too(router: Router) -> None:
    router.set("ssh_login", "1")
    router.set("ssh_port", "2022")
    router.init("start")
    for option, value in (
        ("ssh_port", "22a"),
        ("ssh_sessions", "1000"),
        ("storage", "usb"),
        ("enabled", "y"),
    ):
        router.set(option, value)
    calls = router.init("start")
    assert [line.split()[0] for line in logged(calls)] == ["enabled", "storage", "ssh_port", "ssh_sessions"]
    assert " -p 2022 " in params(calls, "ssh")["command"]


# --- Names of interfaces ------------------------------------------------------------------------------------


def test_a_star_is_complained_of_as_it_is_and_not_taken_for_files(router: Router) -> None:
    router.set("interfaces", ["/*"])
    (complaint,) = logged(router.init("start"))
    assert "['/*']" in complaint


def test_an_interface_may_be_named_as_in_the_routers_own_configuration(router: Router) -> None:
    router.write("devices", "lan br-lan\n")
    router.set("interfaces", ["lan", "mesh"])
    router.init("start")
    assert router.daemon_config().interfaces == ("br-lan", "mesh")  # netifd does not have that one yet
    router.write("devices", "lan br-lan\nmesh bat0\n")
    router.init("reload", "event")
    assert router.daemon_config().interfaces == ("br-lan", "bat0")


# --- Where history goes -------------------------------------------------------------------------------------


def test_history_on_a_stick_is_forced_onto_it_in_batches(router: Router) -> None:
    router.write("proc/mounts", "/dev/root / squashfs ro 0 0\n/dev/sda1 /mnt/sda1 ext4 rw 0 0\n")
    router.set("storage", "/mnt/sda1/meshchat")
    assert not logged(router.init("start"))
    config = router.daemon_config()
    assert (config.logs, config.fsync) == (Path("/mnt/sda1/meshchat"), "interval")


def test_a_stick_that_is_not_there_leaves_history_in_ram_and_the_mount_point_empty(router: Router) -> None:
    (router.root / "mnt/sda1").mkdir(parents=True)
    router.set("storage", "/mnt/sda1/meshchat")
    (said,) = logged(router.init("start"))
    assert "/mnt/sda1" in said
    config = router.daemon_config()
    assert (config.logs, config.fsync) == (Path("/var/lib/meshchat"), "never")
    assert config.storage_missing == Path("/mnt/sda1/meshchat")
    assert not list((router.root / "mnt/sda1").iterdir())


@pytest.mark.parametrize(("enabled", "there"), [("1", False), ("0", True)])
def test_a_mount_point_of_fstab_counts_wherever_it_is(router: Router, enabled: str, there: bool) -> None:
    router.configure("fstab", ("data", "mount", {"target": "/srv/", "enabled": enabled}))
    router.set("storage", "/srv/meshchat")
    router.init("start")
    assert (router.daemon_config().logs == Path("/srv/meshchat")) is there


def test_a_stick_that_comes_back_is_used_from_then_on(router: Router) -> None:
    router.set("storage", "/mnt/sda1/meshchat")
    before = params(router.init("start"))
    router.write("proc/mounts", "/dev/sda1 /mnt/sda1 f2fs rw 0 0\n")
    assert restarts(before, params(router.init("reload")))
    assert router.daemon_config().logs == Path("/mnt/sda1/meshchat")


def test_a_directory_with_what_is_not_ours_is_left_alone(router: Router) -> None:
    router.write("proc/mounts", "/dev/sda1 /mnt/sda1 ext4 rw 0 0\n")
    router.write("mnt/sda1/photo.jpg", "")
    router.write("etc/meshchat/notes.txt", "")
    router.set("storage", "/mnt/sda1")
    calls = router.init("start")
    for place in ("/mnt/sda1", "/etc/meshchat"):
        assert any(f"cannot own {place}" in line for line in logged(calls))
    assert not any(line.endswith("/mnt/sda1") for line in calls if line.startswith("chown"))
    assert router.daemon_config().logs == Path("/var/lib/meshchat")


# --- Time zones ---------------------------------------------------------------------------------------------


def test_the_daemon_takes_the_routers_zone_unless_it_has_one_of_its_own(router: Router) -> None:
    router.configure("system", ("cfg01", "system", {"timezone": "<+0330>-3:30"}))
    router.init("start")
    assert router.daemon_config().timezone == "<+0330>-3:30"
    router.set("timezone", "CET-1CEST,M3.5.0,M10.5.0/3")
    router.init("start")
    assert router.daemon_config().timezone == "CET-1CEST,M3.5.0,M10.5.0/3"


# --- Reload -------------------------------------------------------------------------------------------------

CATCHES, DOES_NOT = "SigCgt:\t0000000000004a03\n", "SigCgt:\t0000000000004a02\n"


def hangs_up(calls: list[str]) -> bool:
    return "kill -HUP 77" in calls


def test_a_reload_tells_the_daemon_and_does_not_restart_it(router: Router) -> None:
    before = params(router.init("start"))
    router.write("var/run/meshchat.pid", "77\n")
    router.write("proc/77/status", CATCHES)
    router.set("retention", "2d")
    calls = router.init("reload")
    assert hangs_up(calls)
    assert not restarts(before, params(calls))


COMPARED = {"command", "env", "netdev", "file", "nice", "user", "group", "pidfile", "respawn", "limits"}
"""What procd looks at to tell whether an instance is another one, to be started anew; not `data`."""


def restarts(before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether procd, which ran an instance as it was told before, starts it anew."""
    return any(before.get(name) != after.get(name) for name in COMPARED)


OTHER_VALUES = {
    **{"mesh": "elm", "interfaces": ["bat0"], "peers": ["10.1.2.3"], "group": "239.1.2.3", "port": "9999"},
    **{"air_rate": "6M", "repair_share": "0.5", "storage": "/srv/meshchat", "fsync": "always"},
    **{"retention": "36h", "wipe_time": "05:30", "cap_author": "1M", "cap_room": "8M", "cap_router": "64M"},
    **{"timezone": "UTC0", "state": "/srv/state", "socket": "/var/run/other.sock", "log_level": "debug"},
    **{
        "syslog": "0",
        "people": "/var/run/meshchat/all.sock",
        "people_group": "users",
        "origin_user": ["www"],
    },
}


def test_there_is_another_value_for_every_setting() -> None:
    assert {*OTHER_VALUES} == OPTIONS


@pytest.mark.parametrize("option", OTHER_VALUES)
def test_a_reload_brings_each_setting_into_force_and_restarts_only_where_that_is_needed(
    router: Router, option: str
) -> None:
    before = params(router.init("start"))
    router.write("var/run/meshchat.pid", "77\n")
    router.write("proc/77/status", CATCHES)
    router.set(option, OTHER_VALUES[option])
    calls = router.init("reload")
    live = option not in FIXED | {*HERE_OTHERWISE.values()}
    assert restarts(before, params(calls)) is not live
    assert hangs_up(calls) is live


def test_ifdown_and_ifup_are_told_to_the_daemon_and_do_not_restart_it(router: Router) -> None:
    router.set("interfaces", ["mesh"])
    router.write("devices", "mesh br-mesh\n")
    before = params(router.init("start"))
    router.write("var/run/meshchat.pid", "77\n")
    router.write("proc/77/status", CATCHES)
    for devices in ("", "mesh br-mesh\n"):
        router.write("devices", devices)
        calls = router.init("reload", "event")
        assert not restarts(before, params(calls))
        assert hangs_up(calls)


def test_a_daemon_that_is_not_ready_for_the_signal_is_spared_it(router: Router) -> None:
    router.init("start")
    router.write("var/run/meshchat.pid", "77\n")
    router.write("proc/77/status", DOES_NOT)
    router.set("retention", "2d")
    assert not hangs_up(router.init("reload"))


def test_an_event_of_the_network_that_changes_nothing_is_no_news_to_the_daemon(router: Router) -> None:
    router.init("start")
    router.write("var/run/meshchat.pid", "77\n")
    router.write("proc/77/status", CATCHES)
    assert not hangs_up(router.init("reload", "event"))
    assert hangs_up(router.init("reload"))  # a person asked: the mesh keys may have changed


@pytest.mark.parametrize("option", sorted(set(SETTINGS) - FIXED))
def test_what_changes_at_once_lies_below_the_line_that_the_script_looks_for(option: str) -> None:
    value = {"interfaces": "bat0", "peers": "10.0.0.1", "retention": "2d", "wipe_time": "05:00"}
    given = {option: [value.get(option, {"timezone": "UTC0", "log_level": "debug"}.get(option, ""))]}
    text, complaints = settle(given, "", "x")
    assert not complaints
    assert f"{option} = " in text.partition("# Taken at once")[2]
