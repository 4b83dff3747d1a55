"""The scripts that OpenWrt's build gives every package (include/package-pack.mk), around the package's own.

base-files' default_postinst makes the user, runs uci-defaults, enables and starts; default_prerm stops and
disables. opkg runs the package's own part from a file of its own, apk has all in one script.
"""

from openwrt.build.archive import File
from openwrt.build.contents import Package

_UNLESS_BUILDING = '[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0\n'
_FUNCTIONS = "[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0\n. ${IPKG_INSTROOT}/lib/functions.sh\n"
_SHELL = "#!/bin/sh\n"


def for_opkg(package: Package) -> list[File]:
    """The control archive of `package`."""
    texts = {
        "postinst": _SHELL + _UNLESS_BUILDING + _FUNCTIONS + "default_postinst $0 $@\n",
        "prerm": _SHELL + _FUNCTIONS + "default_prerm $0 $@\n",
        "postinst-pkg": _own(package.postinst),
        "prerm-pkg": _own(package.prerm),
        "postrm": _own(package.postrm),
    }
    files = [File(name, text.encode(), 0o755) for name, text in texts.items() if text]
    if package.conffiles:
        files.append(File("conffiles", "".join(f"{path}\n" for path in package.conffiles).encode()))
    return [*files, File("control", package.control().encode())]


def for_apk(package: Package) -> dict[str, str]:
    """The scripts of `package` by the names that apk has for their occasions."""
    named = f'export root="${{IPKG_INSTROOT}}"\nexport pkgname="{package.name}"\n'
    installed = f"{named}add_group_and_user\ndefault_postinst\n{_body(package.postinst)}"
    return {
        "post-install": _SHELL + _UNLESS_BUILDING + _FUNCTIONS + installed,
        "post-upgrade": _SHELL + "export PKG_UPGRADE=1\n" + _UNLESS_BUILDING + _FUNCTIONS + installed,
        "pre-deinstall": _SHELL + _FUNCTIONS + f"{named}default_prerm\n{_body(package.prerm)}",
        "post-deinstall": _own(package.postrm),
    }


def _own(script: str) -> str:
    return _SHELL + _body(script) if script else ""


def _body(script: str) -> str:
    lines = [line for line in script.splitlines() if not line.startswith("#!")]
    return "".join(f"{line}\n" for line in lines)
