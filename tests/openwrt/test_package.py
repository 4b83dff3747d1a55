"""What comes with installing and removing the package: compiled code, a restart, nothing left behind."""

import re
from pathlib import Path

import pytest

from meshchat.identity.meshkey import MeshKey, mesh_key_text, parse_mesh_key
from tests.openwrt.router import FILES, TOP, Router, installed

PACKAGE = "/usr/share/meshchat/package"


def with_services(router: Router, running: bool) -> None:
    """An init script and a network script that only note what they were asked."""
    note = 'echo "${0##*/} $*" >>"$CALLS"\n'
    answer = f'#!/bin/sh\n[ "$1" = running ] && exit {0 if running else 1}\n{note}'
    router.write("etc/init.d/meshchat", answer).chmod(0o755)
    router.write("usr/share/meshchat/network", f"#!/bin/sh\n{note}").chmod(0o755)


def compiled(router: Router) -> list[Path]:
    return sorted(router.root.rglob("*.pyc"))


def with_code(router: Router) -> None:
    router.write("usr/lib/meshchat/meshchat/cli.py", "x = 1\n")
    router.write("usr/lib/meshchat/meshchat/wire/codec.py", "y = 1\n")
    router.write("usr/lib/meshchat/wcwidth/table.py", "z = 1\n")


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("upgrade", ["1", ""])
def test_an_upgrade_restarts_a_daemon_that_still_runs(router: Router, running: bool, upgrade: str) -> None:
    """As it does with apk; a new one was started a moment before."""
    with_services(router, running)
    restart = ["meshchat restart"] * (running and bool(upgrade))
    assert router.run(PACKAGE, "installed", PKG_UPGRADE=upgrade) == ["reload_config", *restart]


def test_a_full_flash_does_without_compiled_code(router: Router) -> None:
    with_services(router, False)
    with_code(router)
    router.run(PACKAGE, "compile", FREE_KB="3000")
    assert not compiled(router)


def test_a_removal_takes_back_what_it_made_and_leaves_stopping_to_base_files(router: Router) -> None:
    with_services(router, True)
    with_code(router)
    router.run(PACKAGE, "compile")
    assert len(compiled(router)) == 3
    assert router.run(PACKAGE, "removing") == ["meshchat forget", "network remove"]
    assert not compiled(router)
    assert (router.root / "usr/lib/meshchat/meshchat/cli.py").exists()  # the package manager's to remove


def test_an_upgrade_by_opkg_keeps_the_settings_that_the_next_version_needs(router: Router) -> None:
    with_services(router, True)
    assert router.run(PACKAGE, "removing", PKG_UPGRADE="1") == []


def test_the_terminals_removal_leaves_the_daemons_code_compiled(router: Router) -> None:
    with_services(router, True)
    with_code(router)
    assert router.run(PACKAGE, "compile") == []
    router.run(PACKAGE, "uncompile", "prompt_toolkit", "wcwidth")
    assert [file.parent.parent.name for file in compiled(router)] == ["meshchat", "wire"]


@pytest.mark.parametrize("running", [True, False])
def test_a_disk_that_comes_or_goes_has_a_running_daemon_look_again(router: Router, running: bool) -> None:
    with_services(router, running)
    assert router.run("/etc/hotplug.d/mount/90-meshchat") == ["meshchat reload event"] * running


def test_forget_leaves_no_user_for_ssh(router: Router) -> None:
    router.set("ssh_login", "1")
    before = {name: (router.root / name).read_text() for name in ("etc/passwd", "etc/shadow", "etc/shells")}
    router.init("start")
    router.init("forget")
    after = {name: (router.root / name).read_text() for name in before}
    assert after == before
    assert (router.root / "etc/meshchat").exists()  # accounts and keys: only --purge takes those


WANTED = "tmp/meshchat-install/wanted"


def test_what_the_installer_was_told_is_set_before_the_first_start(router: Router) -> None:
    router.write(
        f"{WANTED}/uci", "set meshchat.main.mesh='valley'\nadd_list meshchat.main.interfaces='mesh'\n"
    )
    key = mesh_key_text(MeshKey(bytes(32)))
    router.write(f"{WANTED}/key", f"{key}\n")
    router.write("etc/meshchat/mesh.keys", f"{mesh_key_text(MeshKey(bytes(31) + bytes([1])))}\n")
    calls = router.run(PACKAGE, "settings")
    uci = router.uci()
    assert (uci.get("meshchat.main.mesh"), uci.get("meshchat.main.interfaces")) == ("valley", ["mesh"])
    keys = router.root / "etc/meshchat/mesh.keys"
    assert keys.read_text().split()[0] == key
    assert len(keys.read_text().split()) == 2  # what was sealed with the one before is still read
    assert keys.stat().st_mode & 0o777 == 0o600
    assert f"chown meshchat:meshchat {router.root}/etc/meshchat {keys}" in calls
    assert not (router.root / WANTED).exists()


def test_a_new_key_is_made_on_the_router(router: Router) -> None:
    router.write(f"{WANTED}/uci", "")
    router.write(f"{WANTED}/key", "new\n")
    router.run(PACKAGE, "settings")
    assert len(parse_mesh_key((router.root / "etc/meshchat/mesh.keys").read_text())) == 32


def test_a_key_that_is_none_is_left_with_the_reason(router: Router) -> None:
    router.write(f"{WANTED}/uci", "")
    router.write(f"{WANTED}/key", "x" * 60 + "\n")
    router.run(PACKAGE, "settings")
    assert "56 letters" in (router.root / WANTED / "said").read_text()
    assert not (router.root / "etc/meshchat/mesh.keys").exists()


# --- The Makefiles and the manifest -------------------------------------------------------------------------


def test_the_manifest_lists_each_file_of_the_feed_once() -> None:
    rows = list(installed())
    assert {source for _, source, _ in rows} == set(FILES.iterdir()) - {FILES / "manifest"}
    assert len({place for _, _, place in rows}) == len(rows)
    for mode, source, place in rows:
        runs = source.read_text().startswith("#!")
        assert runs is bool(mode & 0o111), place


def test_what_a_script_calls_is_installed_where_it_looks() -> None:
    places = {place for _, _, place in installed()}
    for _, source, _ in installed():
        for name in re.findall(r"/usr/(?:share/meshchat/|bin/meshchat)[a-z-]+", source.read_text()):
            assert name in places, source


def test_a_routers_configuration_can_be_read_by_root_alone() -> None:
    modes = {place: mode for mode, _, place in installed()}
    assert modes["/etc/config/meshchat"] == 0o600


@pytest.mark.parametrize("package", ["meshchat", "meshchat-terminal"])
def test_a_package_is_the_same_for_all_routers(package: str) -> None:
    text = (TOP / "openwrt" / package / "Makefile").read_text()
    assert "PKGARCH:=all" in text
    assert "netifaces" not in text  # no hard dependency: 25.12 has none


def test_the_daemon_depends_on_what_python3_light_lacks_and_no_more() -> None:
    text = (TOP / "openwrt/meshchat/Makefile").read_text()
    depends = set(re.findall(r"\+(\S+)", text.partition("DEPENDS:=")[2].partition("endef")[0]))
    split = {"asyncio", "codecs", "ctypes", "decimal", "logging", "six", "urllib", "uuid"}
    assert depends == {f"python3-{name}" for name in split | {"light", "click", "dateutil", "pynacl"}}


def test_feed_makefiles_include_what_they_need_in_the_order_that_pypi_mk_wants() -> None:
    for package in ("meshchat-terminal", "python3-netifaces"):
        lines = (TOP / "openwrt" / package / "Makefile").read_text().splitlines()
        included = [line.rpartition("/")[2].removesuffix(")") for line in lines if line.startswith("include")]
        assert included[:3] == ["rules.mk", "pypi.mk", "package.mk"]
