"""What `option ssh_login` makes of a router: one more user and one more service; without it, neither."""

import ast

import pytest

from tests.openwrt.router import TOP, Router

SHELL = "/usr/bin/meshchat-ssh"


def test_the_server_of_the_chat_refuses_all_but_the_chat(router: Router) -> None:
    router.set("ssh_login", "1")
    calls = router.init("start")
    (command,) = [line for line in calls if "dropbear" in line]
    words = command.split()
    for flag in ("-F", "-B", "-w", "-j", "-k"):
        assert flag in words
    assert command.endswith(f" -c {SHELL}")
    assert words[words.index("-p") + 1] == "2222"
    # /etc/init.d/dropbear kills what is called dropbear and has no such file.
    assert words[words.index("-P") + 1].startswith("/var/run/dropbear.")


def test_what_came_by_ssh_has_a_small_share_of_the_router(router: Router) -> None:
    router.set("ssh_login", "1")
    router.set("ssh_sessions", "6")
    calls = router.init("start")
    told = calls[calls.index("procd_open_instance ssh") :]
    assert "procd_set_param nice 10" in told
    assert "procd_set_param limits nproc=10 10 core=0 0" in told


def test_the_user_has_no_password_no_shell_and_no_home_of_his_own(router: Router) -> None:
    router.set("ssh_login", "1")
    for _ in range(2):
        router.init("start")
    assert (router.root / "etc/passwd").read_text().splitlines()[1:] == [
        f"chat:x:8889:8889:meshchat by SSH:/usr/share/meshchat:{SHELL}"
    ]
    assert (router.root / "etc/shadow").read_text().splitlines()[1:] == ["chat::0:0:99999:7:::"]
    assert (router.root / "etc/shells").read_text().splitlines() == ["/bin/ash", SHELL]


def test_without_the_option_there_is_neither_user_nor_server(router: Router) -> None:
    router.set("ssh_login", "1")
    router.init("start")
    router.set("ssh_login", "0")
    calls = router.init("reload")
    assert not any("dropbear" in line for line in calls)
    for name in ("passwd", "shadow", "shells"):
        assert "chat" not in (router.root / "etc" / name).read_text()


def test_somebody_elses_user_of_that_name_is_left_alone(router: Router) -> None:
    mine = "chat:x:1000:1000:Chat Noir:/home/chat:/bin/ash\n"
    with (router.root / "etc/passwd").open("a") as file:
        file.write(mine)
    router.set("ssh_login", "1")
    calls = router.init("start")
    assert any("not meshchat's" in line for line in calls)
    assert not any("dropbear" in line for line in calls)
    router.init("forget")
    assert mine in (router.root / "etc/passwd").read_text()


@pytest.mark.parametrize(("before", "after"), [("2", "5"), ("5", "2")])
def test_there_are_as_many_places_as_the_option_says(router: Router, before: str, after: str) -> None:
    router.set("ssh_login", "1")
    for number in (before, after):
        router.set("ssh_sessions", number)
        router.init("start")
    places = sorted(path.name for path in (router.root / "var/run/meshchat-ssh").iterdir())
    assert places == [str(number) for number in range(1, int(after) + 1)]


PROGRAMS = {"subprocess", "pty", "webbrowser", "pdb", "code", "runpy", "multiprocessing"}
CALLS = {"system", "popen", "fork", "forkpty", "execv", "execve", "execvp", "spawnv", "posix_spawn"}
TOOLKIT = {
    *("run_system_command", "open_in_editor", "edit_and_execute"),
    *("load_open_in_editor_bindings", "enable_open_in_editor", "enable_system_prompt"),
}
"""What leads from prompt_toolkit to an editor or a shell; all of it is off unless it is named."""


def test_the_front_end_names_no_way_to_start_a_program() -> None:
    for file in sorted((TOP / "meshchat/terminal").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & PROGRAMS, file
            if isinstance(node, ast.ImportFrom):
                assert node.module not in PROGRAMS, file
                assert not {alias.name for alias in node.names} & TOOLKIT, file
            if isinstance(node, ast.Attribute):
                assert node.attr not in CALLS | TOOLKIT, file
            if isinstance(node, ast.keyword):
                assert node.arg not in TOOLKIT, file
