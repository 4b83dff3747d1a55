"""scripts/install.sh on a simulated router: what somebody sees who carries a USB stick to it."""

import gzip
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from meshchat.identity.meshkey import MeshKey, mesh_key_text
from openwrt.build.source import Source, as_it_stands
from tests.openwrt.simulated import (
    MANAGERS,
    POWER_CUT,
    SHELLS,
    TOP,
    Router,
    fill_feed,
    make_bundle,
    stand_in,
    with_stubs,
    write_sums,
)
from tests.openwrt.wheelhouse import make_wheels

KEY = mesh_key_text(MeshKey(bytes(range(32)))).upper()
OTHER_KEY = mesh_key_text(MeshKey(bytes(32))).upper()
ARCH = "mips_24kc"


def needs(bundle: Path, series: str) -> list[str]:
    return re.findall(
        r"^needs(?:-terminal)? (\S+)$", (bundle / "releases" / f"{series}.list").read_text(), re.MULTILINE
    )


def with_version(source: Source, version: str) -> Source:
    name = "meshchat/constants.py"
    text = re.sub(rb'^VERSION = ".*"$', b'VERSION = "%s"' % version.encode(), source.files[name], flags=re.M)
    return source._replace(files={**source.files, name: text})


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Unpacked bundles of two versions, each with what the feeds have for both kinds of routers."""
    folder = tmp_path_factory.mktemp("bundles")
    source = as_it_stands(TOP)
    wheels = make_wheels(folder)
    found = {}
    for version in ("1.0.9", "1.0.10"):
        bundle = found[version] = make_bundle(with_stubs(with_version(source, version)), wheels, folder)
        for series, suffix in (("24.10", "ipk"), ("25.12", "apk")):
            fill_feed(bundle / "feed" / series / ARCH, needs(bundle, series), suffix)
    return found


@pytest.fixture
def old(bundles: dict[str, Path]) -> Path:
    return bundles["1.0.9"]


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> Path:
    return bundles["1.0.10"]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MANAGERS)
def manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def router(tmp_path: Path, shell: str, manager: str) -> Router:
    return Router(tmp_path / "router", shell, manager)


@pytest.fixture
def opkg_router(tmp_path: Path) -> Router:
    return Router(tmp_path / "router")


LAST_WRITTEN = {"etc/meshchat/personal.jsonl"}
"""By a daemon that is stopped."""


def altered(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to damage."""
    return Path(shutil.copytree(bundle, tmp_path / "altered"))


def refuses(router: Router, bundle: Path, *words: str, why: str, status: int = 1) -> None:
    """The installer says `why` in one line, and the router is as it was, whatever was tried."""
    before, ran = router.contents(), router.running
    done = router.run(bundle, *["--open"] * (not {"--open", "--key", "--new-key"} & {*words}), *words)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(why, done.stderr), done.stderr
    after = router.contents()
    if ran:
        before, after = ({name: kept[name] for name in {*kept} - LAST_WRITTEN} for kept in (before, after))
    assert after == before
    assert router.running == ran
    assert not list((router.root / "tmp").glob("meshchat-install*"))


def install(router: Router, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Says of a new router that its mesh is open, where nothing else is said."""
    who = {"--key", "--new-key", "--open", "--remove", "--purge"}
    fresh = not (router.root / "etc/meshchat/router.key").exists()
    done = router.run(bundle, *words, *["--open"] * (fresh and not who & {*words}))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done


def test_installs_without_a_network(router: Router, bundle: Path) -> None:
    done = install(router, bundle)
    assert "meshchat 1.0.10-r1 runs" in done.stdout
    assert router.packages["meshchat"] == router.packages["meshchat-terminal"] == "1.0.10-r1"
    assert {"python3-light", "libsodium"} <= set(router.packages)
    assert router.running == "1.0.10"
    assert "network" not in router.steps


def test_installs_from_the_feeds(router: Router, bundle: Path, tmp_path: Path) -> None:
    carried = altered(bundle, tmp_path)
    series = "24.10" if router.manager == "opkg" else "25.12"
    router.feeds = Path(shutil.move(carried / "feed" / series / ARCH, tmp_path / "feeds"))
    shutil.rmtree(carried / "feed")
    offered = ["python3-netifaces"] if router.manager == "opkg" else []  # 25.12 has dropped it
    for name in offered:
        (router.feeds / f"{name}_0.11.0-r1_{ARCH}.ipk").write_bytes(stand_in(name))
    before = router.packages
    install(router, carried)
    assert {"meshchat", "python3-light", *offered} <= set(router.packages)
    install(router, carried, "--remove")
    assert router.packages == before


def test_installs_from_a_tarball(router: Router, bundle: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    subprocess.run(
        ["tar", "-czf", stick / "meshchat-all.tar.gz", "-C", bundle.parent, bundle.name], check=True
    )
    shutil.copy(bundle / "install.sh", stick)
    install(router, stick)
    assert router.running == "1.0.10"
    assert not list((router.root / "tmp").glob("meshchat-install*"))


def test_small_leaves_the_terminal_out(router: Router, bundle: Path) -> None:
    install(router, bundle, "--small")
    assert "meshchat-terminal" not in router.packages


def test_a_second_run_changes_nothing(router: Router, bundle: Path) -> None:
    install(router, bundle)
    before = router.contents()
    assert "is installed" in install(router, bundle).stdout
    assert router.steps == []
    assert router.contents() == before


def test_an_upgrade_restarts_the_daemon_and_keeps_settings(router: Router, old: Path, bundle: Path) -> None:
    install(router, old, "--mesh", "valley")
    before = router.config() + "\toption retention '2d'\n"
    (router.root / "etc/config/meshchat").write_text(before)
    install(router, bundle)
    assert router.running == "1.0.10"
    assert router.packages["meshchat-terminal"] == "1.0.10-r1"
    assert router.config() == before
    assert router.mesh == "valley"


def test_a_downgrade_is_refused_unless_it_is_meant(router: Router, old: Path, bundle: Path) -> None:
    install(router, bundle)
    refuses(router, old, why=r"version 1\.0\.10-r1 is installed, this is 1\.0\.9-r1.*--force-downgrade")
    install(router, old, "--force-downgrade")
    assert router.running == "1.0.9"


def test_settings_are_written(router: Router, bundle: Path) -> None:
    words = ["--mesh", "valley", "--interface", "mesh", "--key", "-"]
    done = router.run(bundle, *words, given=f"{KEY.lower()}\n")
    assert done.returncode == 0, done.stderr
    assert "\toption mesh 'valley'\n\tlist interfaces 'mesh'\n" in router.config()
    assert "option interface 'mesh'" in router.config("network")
    assert "option src 'freifunk'" in router.config("firewall")
    keys = router.root / "etc/meshchat/mesh.keys"
    assert keys.read_text() == f"{KEY.lower()}\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert KEY.lower() not in done.stdout


def test_a_new_key_keeps_the_one_before_for_reading(router: Router, bundle: Path) -> None:
    install(router, bundle, "--key", KEY)
    install(router, bundle, "--key", OTHER_KEY)
    install(router, bundle, "--key", OTHER_KEY)
    assert (router.root / "etc/meshchat/mesh.keys").read_text() == f"{OTHER_KEY}\n{KEY}\n"


@pytest.mark.parametrize(
    ("words", "why", "status"),
    [
        (["--mesh", "a b"], "name", 2),
        (["--mesh", "m" * 65], "64 letters", 2),
        (["--key", "SHORT"], "56 letters", 2),
        (["--key", KEY[:-1] + "!"], "56 letters", 2),
        (["--key", ""], "needs a value", 2),
        (["--key", KEY, "--open"], "one of --new-key, --key and --open", 2),
        (["--new-key", "--open"], "one of --new-key, --key and --open", 2),
        (["--interface", "wlan9"], "no interface wlan9", 1),
        (["--from", "/nowhere"], "no /nowhere", 1),
        (["--mesh"], "needs a value", 2),
        (["--nonsense"], "nonsense", 2),
        (["--fetch", "24.10"], "RELEASE, ARCH and DIR", 2),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_touched(
    router: Router, bundle: Path, words: list[str], why: str, status: int
) -> None:
    refuses(router, bundle, *words, why=why, status=status)
    assert router.steps == []


def test_help_names_every_option_and_says_nothing_to_programmers(router: Router, bundle: Path) -> None:
    done = router.run(bundle, "--help")
    assert (done.returncode, done.stderr, router.steps) == (0, "", [])
    taken = set(re.findall(r"--[a-z-]+", (bundle / "install.sh").read_text().split("main() {")[1]))
    assert taken - {"--help"} <= set(re.findall(r"--[a-z-]+", done.stdout))
    assert "shellcheck" not in done.stdout


def test_a_dry_run_only_says_what_it_would_do(router: Router, bundle: Path) -> None:
    before = router.contents()
    done = install(router, bundle, "--dry-run")
    assert "would install meshchat" in done.stdout
    words = done.stdout.split()
    assert words.count("python3-light") == 1
    assert (router.contents(), router.steps) == (before, [])


@pytest.mark.parametrize("release", ["22.03.5", "19.07", "26.04", ""])
def test_other_releases_are_refused(opkg_router: Router, bundle: Path, release: str) -> None:
    (opkg_router.root / "etc/openwrt_release").write_text(
        f"DISTRIB_RELEASE='{release}'\nDISTRIB_ARCH='{ARCH}'\n"
    )
    refuses(opkg_router, bundle, why="is not supported: 23.05, 24.10, 25.12 or main")


def test_no_router_is_refused(opkg_router: Router, bundle: Path) -> None:
    (opkg_router.root / "etc/openwrt_release").unlink()
    refuses(opkg_router, bundle, why="no OpenWrt router")


def test_another_manager_than_the_release_has_is_refused(router: Router, bundle: Path) -> None:
    wrong = MANAGERS["apk" if router.manager == "opkg" else "opkg"]
    (router.root / "etc/openwrt_release").write_text(f"DISTRIB_RELEASE='{wrong}'\nDISTRIB_ARCH='{ARCH}'\n")
    refuses(router, bundle, why=f"but here is {router.manager}")


def test_packages_of_another_architecture_are_not_used(router: Router, bundle: Path) -> None:
    release = (router.root / "etc/openwrt_release").read_text()
    (router.root / "etc/openwrt_release").write_text(release.replace(ARCH, "aarch64_cortex-a53"))
    refuses(router, bundle, why=r"neither .* has python3-asyncio .*--fetch \S+ aarch64_cortex-a53 DIR")


def test_no_network_and_nothing_fetched_says_what_to_do(router: Router, bundle: Path, tmp_path: Path) -> None:
    carried = altered(bundle, tmp_path)
    shutil.rmtree(carried / "feed")
    command = f"install.sh --fetch {MANAGERS[router.manager]} {ARCH} DIR --target ath79/generic"
    refuses(router, carried, why=f"on a PC with a network: {command}")


def test_a_damaged_package_is_refused(router: Router, bundle: Path, tmp_path: Path) -> None:
    carried = altered(bundle, tmp_path)
    for path in [*carried.glob("meshchat_*"), *carried.glob("meshchat-1*")]:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    refuses(router, carried, why=r"meshchat\S* is damaged: its checksum is wrong")


def test_a_damaged_package_of_the_feeds_is_refused(router: Router, bundle: Path, tmp_path: Path) -> None:
    carried = altered(bundle, tmp_path)
    for path in (carried / "feed").rglob("python3-click*"):
        path.write_bytes(b"not what it was")
    refuses(router, carried, why=r"python3-click\S* is damaged: its checksum is wrong")


def test_a_damaged_list_of_what_is_needed_is_refused(router: Router, bundle: Path, tmp_path: Path) -> None:
    carried = altered(bundle, tmp_path)
    for path in (carried / "releases").glob("*.list"):
        path.write_text(path.read_text().replace("needs python3-uuid\n", ""))
    refuses(router, carried, why=r"releases/\S*list is damaged: its checksum is wrong")


def test_a_half_fetched_folder_is_refused(router: Router, bundle: Path, tmp_path: Path) -> None:
    carried = altered(bundle, tmp_path)
    for folder in (carried / "feed").glob("*/*"):
        for path in folder.glob("python3-uuid*"):
            path.unlink()
        write_sums(folder)
    refuses(router, carried, why="python3-uuid is not in .*: fetch it again")


def test_a_firmware_without_a_library_is_told_how_to_fetch_it(
    opkg_router: Router, bundle: Path, tmp_path: Path
) -> None:
    opkg_router.database.write_text("busybox 1.36.1-r2\n")
    refuses(opkg_router, bundle, why="has no libc .fetch again with --target ath79/generic")


def test_a_file_system_that_is_read_only_is_named(router: Router, bundle: Path) -> None:
    # What fails for root as well.
    (router.root / "etc/meshchat.installing.new").mkdir()
    refuses(router, bundle, why="/etc cannot be written: is this failsafe mode")
    assert router.steps == []


def test_full_flash_is_refused_beforehand(router: Router, bundle: Path) -> None:
    router.free_flash_kb = 1_000
    refuses(router, bundle, why=r"1000 KiB of flash are free, \d+ are needed; --small takes less")
    assert router.steps == []


def test_little_ram_is_refused_beforehand(router: Router, bundle: Path) -> None:
    (router.root / "proc/meminfo").write_text("MemAvailable: 20000 kB\n")
    refuses(router, bundle, why="20000 KiB of RAM are free, 40960 are needed")


def test_flash_that_compresses_needs_less(router: Router, bundle: Path) -> None:
    router.free_flash_kb = 1_200
    (router.root / "proc/mounts").write_text(
        "overlayfs:/overlay / overlay rw 0 0\n/dev/ubi0_1 /overlay ubifs rw 0 0\n"
    )
    install(router, bundle, "--small")


def used_kb(router: Router) -> int:
    return int(subprocess.run(["du", "-sk", router.root], capture_output=True, text=True).stdout.split()[0])


@pytest.mark.parametrize("room_kb", [100, 900])
def test_flash_that_fills_up_on_the_way_is_given_back(router: Router, bundle: Path, room_kb: int) -> None:
    router.flash_kb = used_kb(router) + room_kb
    refuses(router, bundle, why="No space left on device")


def test_an_upgrade_that_fills_the_flash_brings_the_old_version_back(
    router: Router, old: Path, bundle: Path, tmp_path: Path
) -> None:
    install(router, old)
    router.flash_kb = used_kb(router) - 10
    refuses(router, bundle, why="No space left on device")
    assert router.running == "1.0.9"
    router.flash_kb = 1_000_000
    install(router, bundle)
    assert router.running == "1.0.10"


def test_a_daemon_that_does_not_start_is_taken_back(router: Router, bundle: Path) -> None:
    router.daemon_fails = True
    refuses(router, bundle, why="does not answer: The UDP port 8888 is in use")


def code_folders(router: Router) -> list[Path]:
    """The folders of the package's own."""
    places = [router.root / "usr" / name for name in ("lib/meshchat", "share/meshchat")]
    return [path for place in places if place.exists() for path in (place, *place.rglob("*/"))]


def test_remove_takes_the_packages_and_what_came_with_them(router: Router, bundle: Path) -> None:
    before = router.packages
    install(router, bundle, "--key", KEY)
    folders = code_folders(router)
    done = install(router, bundle, "--remove")
    assert router.packages == before
    assert router.running == ""
    assert len(folders) > 10
    assert not code_folders(router)
    assert router.steps.count("daemon stop") == 1
    assert "stop in vain" not in router.steps
    assert (router.root / "etc/meshchat/mesh.keys").exists()
    assert "--purge" in done.stdout
    install(router, bundle, "--remove")


def test_remove_keeps_what_others_need(opkg_router: Router, bundle: Path) -> None:
    with opkg_router.database.open("a") as db:
        db.write("python3-light 3.11.14-r1\npython3-click 8.1.7-r1\n")
    install(opkg_router, bundle)
    install(opkg_router, bundle, "--remove")
    assert {"python3-light", "python3-click"} <= set(opkg_router.packages)
    assert "python3-pynacl" not in opkg_router.packages


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="files of two users")


@ROOT_ONLY
def test_purge_takes_all_data_and_nothing_else(router: Router, bundle: Path) -> None:
    """Also what a stopping daemon writes last, and what a later version may have written."""
    before = router.contents()
    install(router, bundle, "--key", KEY)
    stick = router.root / "mnt/stick"
    for name in ("rooms/1.log", "mesh.id", "state.json.damaged", ".later", "holiday.jpg"):
        (stick / name).parent.mkdir(parents=True, exist_ok=True)
        (stick / name).write_text("x")
    for path in (stick, *(one for one in stick.iterdir() if one.name != "holiday.jpg")):
        os.chown(path, 8888, 8888)
    with (router.root / "etc/config/meshchat").open("a") as config:
        config.write("\toption storage '/mnt/stick'\n")
    (router.root / "var/lib/meshchat/rooms").mkdir(parents=True)
    (router.root / "etc/meshchat/personal.jsonl").write_text("{}")
    done = install(router, bundle, "--purge")
    assert "all its data" in done.stdout
    assert [path.name for path in stick.iterdir()] == ["holiday.jpg"]
    stick.joinpath("holiday.jpg").unlink()
    stick.rmdir()
    stick.parent.rmdir()
    assert router.contents() == before


def test_purge_after_remove_still_finds_the_data(router: Router, bundle: Path) -> None:
    install(router, bundle, "--key", KEY)
    install(router, bundle, "--remove")
    install(router, bundle, "--purge")
    assert not (router.root / "etc/meshchat").exists()


def test_dry_runs_of_removing_say_what_would_go(router: Router, bundle: Path) -> None:
    install(router, bundle)
    before = router.contents()
    done = install(router, bundle, "--purge", "--dry-run")
    assert "meshchat-terminal" in done.stdout
    assert "history" in done.stdout
    assert router.contents() == before


def with_python(tmp_path: Path, shell: str, manager: str, bundle: Path) -> Router:
    """A router that lacks little of what is needed, so that there are not too many steps."""
    has = [package for package in needs(bundle, "24.10") if package != "python3-pynacl"]
    return Router(tmp_path / "before", shell, manager, has=has)


def every_cut(before: Router, bundle: Path, *words: str) -> list[Router]:
    """A router for every other step at which the power can go, each run again until it is through."""
    routers: list[Router] = []
    while True:
        cut = 2 * len(routers) + 1
        router = before.copy(before.root.with_name(f"cut{cut}"))
        status = router.run(bundle, *words, cut=cut).returncode
        if status == 0:
            assert cut > 5
            return routers
        assert status == POWER_CUT, f"step {cut}: {router.steps[-1]}"
        router.lose_power()
        install(router, bundle, *words)
        routers.append(router)


def test_a_second_run_completes_what_a_power_cut_left(tmp_path: Path, manager: str, bundle: Path) -> None:
    before = with_python(tmp_path, "busybox", manager, bundle)
    whole = before.copy(tmp_path / "whole")
    install(whole, bundle, "--mesh", "valley", "--open")
    brought = (whole.root / "etc/meshchat.brought").read_text()
    assert "python3-pynacl" in brought
    for router in every_cut(before, bundle, "--mesh", "valley", "--open"):
        assert router.packages == whole.packages
        assert router.contents().keys() - LAST_WRITTEN == whole.contents().keys() - LAST_WRITTEN
        assert router.running == "1.0.10"
        assert (router.root / "etc/meshchat.brought").read_text() == brought


def test_a_lost_connection_leaves_the_router_as_it_was(
    tmp_path: Path, shell: str, manager: str, bundle: Path
) -> None:
    before = with_python(tmp_path, shell, manager, bundle)
    whole = before.copy(tmp_path / "whole")
    install(whole, bundle)
    for cut in range(1, len(whole.steps) - 2, 4):
        router = before.copy(tmp_path / f"cut{cut}")
        done = router.run(bundle, "--open", cut=cut, signal="HUP")
        assert done.returncode == 1
        assert router.contents() == before.contents()


def test_a_second_run_completes_an_upgrade(tmp_path: Path, manager: str, old: Path, bundle: Path) -> None:
    before = with_python(tmp_path, "dash", manager, bundle)
    install(before, old)
    for router in every_cut(before, bundle):
        assert router.packages["meshchat"] == router.packages["meshchat-terminal"] == "1.0.10-r1"
        assert router.running == "1.0.10"
        assert "python3-pynacl" in (router.root / "etc/meshchat.brought").read_text()


def test_a_second_run_completes_a_purge(tmp_path: Path, manager: str, bundle: Path) -> None:
    before = with_python(tmp_path, "dash", manager, bundle)
    install(before, bundle)
    for router in every_cut(before, bundle, "--purge"):
        assert "python3-pynacl" not in router.packages
        assert not [name for name in router.contents() if "meshchat" in name]


# --- As on real routers: see the table of what was seen there ---------------------------------------------


def test_the_daemon_answers_under_the_name_that_was_given(router: Router, bundle: Path) -> None:
    """Post-install scripts start it: its settings have to be there before."""
    done = install(router, bundle, "--mesh", "valley", "--key", KEY)
    assert "meshchat 1.0.10-r1 runs in the mesh valley" in done.stdout
    assert (router.running, router.mesh) == ("1.0.10", "valley")
    assert router.steps.count("daemon start") == 1
    assert (router.root / "etc/meshchat/mesh.keys").read_text() == f"{KEY}\n"


def test_a_name_that_its_records_do_not_allow_is_refused_with_the_daemons_reason(
    router: Router, bundle: Path
) -> None:
    install(router, bundle, "--mesh", "valley")
    refuses(router, bundle, "--mesh", "hill", why="does not answer: /etc/meshchat holds another mesh")
    assert router.mesh == "valley"


def test_settings_of_a_router_that_has_the_package_take_effect(router: Router, bundle: Path) -> None:
    install(router, bundle)
    done = router.run(bundle, "--key", OTHER_KEY, "--interface", "lan")
    assert (done.returncode, done.stderr) == (0, "")
    assert (router.root / "etc/meshchat/mesh.keys").read_text() == f"{OTHER_KEY}\n"
    assert "option interface 'lan'" in router.config("network")
    assert "list interfaces 'lan'" in router.config()
    assert "list interfaces 'mesh'" not in router.config()


def test_a_service_that_is_switched_off_stays_off_in_an_upgrade(
    router: Router, old: Path, bundle: Path
) -> None:
    install(router, old)
    config = router.config().replace("option enabled '1'", "option enabled '0'")
    (router.root / "etc/config/meshchat").write_text(config)
    done = install(router, bundle)
    assert "does not run: option enabled" in done.stdout
    assert router.running == ""


def test_ifdown_and_ifup_do_not_restart_the_daemon(router: Router, bundle: Path) -> None:
    (router.root / "devices").write_text("mesh br-mesh\n")
    install(router, bundle)
    for devices in ("", "mesh br-mesh\n"):
        (router.root / "devices").write_text(devices)
        router.calls.write_text("")
        router.shell_out(bundle, "router /etc/init.d/meshchat reload event")
        assert router.steps == []
    assert router.running == "1.0.10"


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("no such package", "unable to select packages: python3-uuid"),
        ("no room", "No space left on device"),
    ],
)
def test_the_reason_of_the_package_manager_is_shown(
    router: Router, bundle: Path, tmp_path: Path, why: str, said: str
) -> None:
    """opkg's first words are `Collected errors:`, and its last what follows from the first."""
    if why == "no room":
        router.flash_kb = used_kb(router)
    else:
        carried = altered(bundle, tmp_path)
        for path in (carried / "feed").rglob("python3-uuid*"):
            path.write_bytes(stand_in("python3-uuid", "libuuid1"))
            write_sums(path.parent)
        bundle = carried
        said = {
            "opkg": "satisfy_dependencies_for: .* dependencies for python3-uuid: libuuid1",
            "apk": r"unable to select packages: libuuid1 \(no such package\)",
        }[router.manager]
    refuses(router, bundle, why=f"{router.manager} failed: .*{said}")


def test_an_image_that_runs_from_ram_is_named_where_apk_would_refuse_it(router: Router, bundle: Path) -> None:
    (router.root / "proc/mounts").write_text("rootfs / rootfs rw 0 0\ntmpfs / tmpfs rw 0 0\n")
    if router.manager == "apk":
        refuses(router, bundle, why="runs from RAM, where apk installs nothing")
        assert router.steps == []
    else:
        install(router, bundle)


SIZES_KB = {
    "python3-dateutil": 40,
    "python3": 4,
    "python3-openssl": 300,
    "libopenssl3": 3000,
    "libsqlite3-0": 900,
}
"""Some of what python3-dateutil's package pulls in, in KiB as packed."""


def with_a_network(router: Router, bundle: Path, tmp_path: Path) -> Path:
    """A bundle with nothing fetched, for a router whose feeds have all of it."""
    carried = altered(bundle, tmp_path)
    series = "24.10" if router.manager == "opkg" else "25.12"
    router.feeds = Path(shutil.move(carried / "feed" / series / ARCH, tmp_path / "feeds"))
    shutil.rmtree(carried / "feed")
    sizes = {**dict.fromkeys(needs(bundle, series), 20), **SIZES_KB}
    after = dict(itertools.pairwise(SIZES_KB))
    index = []
    for name, size_kb in sizes.items():
        needed = after.get(name, "")
        if name in SIZES_KB:
            for before in router.feeds.glob(f"{name}[-_][0-9]*"):
                before.unlink()
            separator = "_" if router.manager == "opkg" else "-"
            data = stand_in(name, needed, installed=size_kb * 3 * 1024)
            (router.feeds / f"{name}{separator}3.0-r1.{series}").write_bytes(data)
        index.append(
            f"Package: {name}\nDepends: libc{', ' * bool(needed)}{needed}\nSize: {size_kb * 1024}\n"
            f"Filename: {name}.ipk\nSHA256sum: 00\n"
        )
    (router.feeds / "Packages.gz").write_bytes(gzip.compress("\n".join(index).encode()))
    return carried


@pytest.mark.parametrize("kind", ["ubifs", "ext4"])
def test_the_flash_that_is_needed_is_that_of_all_that_the_feeds_bring(
    router: Router, bundle: Path, tmp_path: Path, kind: str
) -> None:
    carried = with_a_network(router, bundle, tmp_path)
    (router.root / "proc/mounts").write_text(
        f"overlayfs:/overlay / overlay rw 0 0\n/dev/x /overlay {kind} rw 0 0\n"
    )
    packed = sum(SIZES_KB.values()) if router.manager == "opkg" else SIZES_KB["python3-dateutil"] + 4
    router.free_flash_kb = packed * (125 if kind == "ubifs" else 300) // 100
    refuses(router, carried, why=rf"{router.free_flash_kb} KiB of flash are free, \d+ are needed")
    router.free_flash_kb += 3_000
    install(router, carried)


# --- Who may join -----------------------------------------------------------------------------------------


def test_a_new_router_is_not_guessed_to_be_of_an_open_mesh(router: Router, bundle: Path) -> None:
    before = router.contents()
    for words in ([], ["--mesh", "valley"], ["--dry-run"]):
        done = router.run(bundle, *words)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        for word in ("--new-key", "--key -", "--open"):
            assert word in line
        assert (router.contents(), router.steps) == (before, [])


def test_the_first_router_makes_the_key_and_prints_it(router: Router, bundle: Path) -> None:
    done = install(router, bundle, "--new-key")
    key = (router.root / "etc/meshchat/mesh.keys").read_text()
    assert done.stdout.endswith(f"\n{key}")
    other = Router(router.root.parent / "other", router.shell, router.manager)
    assert other.run(bundle, "--key", "-", given=key).returncode == 0
    assert (other.root / "etc/meshchat/mesh.keys").read_text() == key


def test_an_upgrade_asks_nothing_and_changes_no_key(router: Router, old: Path, bundle: Path) -> None:
    for words, keys in ((["--new-key"], 1), (["--open"], 0)):
        other = Router(router.root.parent / words[0], router.shell, router.manager)
        install(other, old, *words)
        before = sorted((other.root / "etc/meshchat").glob("mesh.*"))
        texts = [path.read_text() for path in before]
        assert len(before) == 1 + keys
        assert other.run(bundle).returncode == 0
        assert sorted((other.root / "etc/meshchat").glob("mesh.*")) == before
        assert [path.read_text() for path in before] == texts


def test_what_a_sysupgrade_kept_needs_no_choice(router: Router, bundle: Path) -> None:
    install(router, bundle, "--new-key")
    kept = Router(router.root.parent / "kept", router.shell, router.manager)
    shutil.copytree(router.root / "etc/meshchat", kept.root / "etc/meshchat")
    shutil.copy(router.root / "etc/config/meshchat", kept.root / "etc/config/meshchat")
    assert kept.run(bundle).returncode == 0


def test_a_mesh_with_a_key_is_not_opened_by_the_way(router: Router, bundle: Path) -> None:
    install(router, bundle, "--new-key")
    refuses(router, bundle, "--open", why="has a mesh key: .*meshchat key drop KEY --yes")


def test_a_key_that_is_none_is_refused_and_nothing_stays(router: Router, bundle: Path) -> None:
    """The package knows keys better than the installer does: a check sum, say."""
    refuses(router, bundle, "--key", "bad" + KEY[3:], why="A mesh key is 56 letters and digits")


@pytest.mark.parametrize(
    ("typed", "keys"),
    [("1\n", 1), (f"4\n\n2\n{KEY}\n", 1), ("3\n", 0)],
)
def test_on_a_terminal_it_asks(opkg_router: Router, bundle: Path, typed: str, keys: int) -> None:
    said, status = opkg_router.at_a_terminal(bundle, typed)
    assert status == 0, said
    assert "Who may join this mesh?" in said
    assert (opkg_router.root / "etc/meshchat/mesh.keys").exists() is bool(keys)


def test_who_gives_no_answer_has_changed_nothing(opkg_router: Router, bundle: Path) -> None:
    before = opkg_router.contents()
    said, status = opkg_router.at_a_terminal(bundle, "\x04")
    assert status == 1
    assert "nothing was chosen" in said
    assert opkg_router.contents() == before
