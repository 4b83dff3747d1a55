# shellcheck shell=sh
# shellcheck disable=SC1091,SC2030,SC2031,SC2034,SC2153,SC2317 # install.sh reads what is set here; simulated.py sets what is not
# A simulated OpenWrt router in the folder $MESHCHAT_ROOT, for scripts/install.sh, which this reads and runs with
# the arguments given. What a router has and this machine does not, are functions: Debian's busybox would prefer its own
# applets to programs on PATH. They note in $CALLS each step that changes something; at step number $CUT the
# power goes.
#
# Set by simulated.py: INSTALLER, HERE_TOO (this folder), MANAGER, CALLS, CUT, FEEDS (a folder of packages, or empty:
# no network), FREE_FLASH_KB (what df says), FLASH_KB (what there is room for), DAEMON_FAILS,
# INSTEAD (what is run in place of the installer),
# SIGNAL (what the shell gets at the step CUT, KILL for a power cut; what it survives, at each step after that, too).

ROOT=$MESHCHAT_ROOT
case $MANAGER in
opkg) DB=$ROOT/usr/lib/opkg/status ;; # here `name version` of each installed package, for both
apk) DB=$ROOT/lib/apk/db/installed ;;
esac
INFO=$ROOT/usr/lib/opkg/info
mkdir -p "$INFO"

# shellcheck source=tests/openwrt/router.sh
. "$HERE_TOO/router.sh"
note_call() { :; }
# shellcheck source=tests/openwrt/system.sh
. "$HERE_TOO/system.sh"

step() {
    echo "$*" >>"$CALLS"
    if [ "$CUT" != 0 ] && [ "$(wc -l <"$CALLS")" -ge "$CUT" ]; then
        command kill -"$SIGNAL" $$
        [ "$SIGNAL" != KILL ] || exit 137
    fi
}

# --- Packages: of both managers in the form of opkg's, for apk's own can only be made by apk -----------------

is_there() {
    grep -q "^$1 " "$DB"
}

# Prints the file that has the package $1, of those named in $offered or of the feeds.
offer() {
    for offered_file in $offered "$FEEDS"/*; do
        [ -f "$offered_file" ] || continue
        case ${offered_file##*/} in "$1"_[0-9]* | "$1"-[0-9]*) echo "$offered_file" && return ;; esac
    done
}

# What a power cut left of the notes on a package that has gone.
for noted in meshchat meshchat-terminal; do
    is_there "$noted" || command rm -f "$INFO/$noted."*
done

# Sets name, version, depends and size from the package of the file $1, and opens it.
open_package() {
    opened=$ROOT/tmp/opened
    rm -rf "$opened"
    mkdir -p "$opened"
    tar -xzf "$1" -C "$opened"
    tar -xzf "$opened/control.tar.gz" -C "$opened"
    size=0
    while read -r key value; do
        case $key in
        Package:) name=$value ;;
        Version:) version=$value ;;
        Depends:) depends=$value ;;
        Installed-Size:) size=$value ;;
        esac
    done <"$opened/control"
}

# Installs the package of the file $1, with all that it depends on first.
unpack() {
    depends=
    open_package "$1"
    if [ "$again" = no ] && grep -qx "$name $version" "$DB"; then return; fi
    wanted_by=$name
    for dependency in $depends; do
        dependency=${dependency%,}
        is_there "$dependency" && continue
        dependency_file=$(offer "$dependency")
        if [ -z "$dependency_file" ]; then
            unsatisfied
            return 1
        fi
        (unpack "$dependency_file") || return 1
    done
    [ -z "$depends" ] || open_package "$1"
    upgrade=
    ! is_there "$name" || upgrade=1
    if [ "$MANAGER" = opkg ] && [ -n "$upgrade" ] && [ -f "$INFO/$name.prerm-pkg" ]; then
        PKG_UPGRADE=1
        default_prerm "$name" "$INFO/$name.list"
    fi
    step "unpack $name"
    [ "$MANAGER" = opkg ] || has_room || return 1
    conffile=$ROOT/etc/config/meshchat
    [ "$name" != meshchat ] || [ ! -f "$conffile" ] || command cp "$conffile" "$conffile.mine"
    tar -xzvf "$opened/data.tar.gz" -C "$ROOT" | sed '/\/$/d; s/^\.//' >"$opened/list"
    [ "$name" != meshchat ] || cksum <"$conffile" >"$opened/conffile"
    [ ! -f "$conffile.mine" ] || command mv "$conffile.mine" "$conffile"
    step "unpacked $name"
    [ "$MANAGER" = apk ] || has_room || return 1
    for part in list conffile control postinst-pkg prerm-pkg postrm post-install post-upgrade pre-deinstall post-deinstall; do
        [ ! -f "$opened/$part" ] || command mv "$opened/$part" "$INFO/$name.$part"
    done
    { grep -v "^$name " "$DB" || true; echo "$name $version"; } >"$DB.new"
    command mv "$DB.new" "$DB"
    step "registered $name"
    (
        PKG_UPGRADE=$upgrade
        pkgname=$name
        case $MANAGER in
        opkg) [ ! -f "$INFO/$name.control" ] || default_postinst "$name" "$INFO/$name.list" ;;
        apk) apk_script "post-${upgrade:+upgrade}" "post-${upgrade:-install}" ;;
        esac
    ) || true # its failure is noted, and that is all
}

# Runs the first of the scripts named that the package $name has, in the surroundings that apk gives it.
apk_script() {
    for script in "$@"; do
        [ -f "$INFO/$name.$script" ] || continue
        # What base-files is told by variables, these are told by arguments.
        sed "s|^default_\([a-z]*\)\$|default_\1 $name $INFO/$name.list|; /functions.sh/d; /IPKG_NO_SCRIPT/d" \
            "$INFO/$name.$script" | sed '/^add_group_and_user$/d' | run_text
        return
    done
}

unsatisfied() {
    case $MANAGER in
    opkg)
        printf 'Collected errors:\n * satisfy_dependencies_for: Cannot satisfy the following dependencies for %s:\n' \
            "$wanted_by"
        printf ' * \t%s\n * opkg_install_cmd: Cannot install package %s.\n' "$dependency" "$wanted_by"
        ;;
    apk)
        printf 'ERROR: unable to select packages:\n  %s (no such package):\n    required by: %s\n' \
            "$dependency" "$wanted_by"
        ;;
    esac
}

# apk leaves nothing of a package for which there is no room; opkg what it had unpacked.
has_room() {
    [ "$(du -sk "$ROOT" | cut -f 1)" -gt "$FLASH_KB" ] || return 0
    case $MANAGER in
    opkg)
        echo "Collected errors:"
        echo " * wfopen: /usr/share/$name: No space left on device."
        echo " * opkg_install_cmd: Cannot install package $name."
        ;;
    apk) echo "ERROR: $name-$version: No space left on device" ;;
    esac
    return 1
}

# opkg leaves the folders where they are; apk removes those of the package that are empty.
erase() { # NAME
    is_there "$1" || return 0
    name=$1
    pkgname=$1
    case $MANAGER in
    opkg) [ ! -f "$INFO/$1.control" ] || default_prerm "$1" "$INFO/$1.list" ;;
    apk) apk_script pre-deinstall ;;
    esac
    step "erase $1"
    while read -r path; do
        [ "$path" != /etc/config/meshchat ] || [ "$(cksum <"$ROOT$path")" = "$(cat "$INFO/$1.conffile")" ] || continue
        rm -f "$ROOT$path"
    done <"$INFO/$1.list"
    if [ "$MANAGER" = apk ]; then
        sed 's|/[^/]*$||' "$INFO/$1.list" | sort -ru | while read -r path; do
            while [ -n "$path" ] && rmdir "$ROOT$path" 2>/dev/null; do path=${path%/*}; done
        done
    fi
    { grep -v "^$1 " "$DB" || true; } >"$DB.new"
    command mv "$DB.new" "$DB"
    case $MANAGER in
    opkg) [ ! -f "$INFO/$1.postrm" ] || run_text <"$INFO/$1.postrm" ;;
    apk) apk_script post-deinstall ;;
    esac
    rm -f "$INFO/$1."*
}

# Prints who needs the installed package $1; each package's list has its dependencies in a file of its name.
needed_by() {
    while read -r needing _; do
        case $needing:$1 in
        meshchat:python3-* | meshchat-terminal:meshchat | python3-click:python3-light | python3-pynacl:libsodium)
            echo "$needing"
            ;;
        esac
    done <"$DB"
}

opkg() {
    verb=$1 offered='' again=no
    shift
    case $verb in
    list-installed) sed 's/ / - /' "$DB" ;;
    update)
        [ -n "$FEEDS" ] || return 1
        mkdir -p "$ROOT/var/opkg-lists"
        [ ! -f "$FEEDS/Packages.gz" ] || command cp "$FEEDS/Packages.gz" "$ROOT/var/opkg-lists/packages"
        ;;
    list) offer "$1" ;;
    install)
        for word in "$@"; do
            case $word in --force-reinstall | --force-downgrade) again=yes ;; *) offered="$offered $word" ;; esac
        done
        for word in $offered; do
            [ -f "$word" ] || word=$(offer "$word")
            (unpack "$word") || return 1
        done
        ;;
    remove)
        [ -z "$(needed_by "$1")" ] || { echo "No packages removed." && return 1; }
        erase "$1"
        ;;
    *) echo "opkg $verb: not simulated" >&2 && return 1 ;;
    esac
}

apk() {
    offered='' again=yes verb='' folder_of_index='' simulate='' option=''
    while [ $# -gt 0 ]; do
        case $1 in
        --repositories-file) shift ;;
        --repository)
            folder_of_index=${2%/*}
            shift
            ;;
        --allow-untrusted | --no-network) ;;
        --simulate | --size) option=$1 ;;
        -v | -e) option=$1 ;;
        -*) echo "apk: unrecognized option '${1#--}'" >&2 && return 1 ;;
        *) if [ -z "$verb" ]; then verb=$1; else offered="$offered $1"; fi ;;
        esac
        shift
    done
    case $verb$option in
    info) cut -d ' ' -f 1 "$DB" ;;
    info-v) sed 's/ /-/' "$DB" ;;
    info--size)
        for word in $offered; do
            (
                open_package "$(offer "$word")"
                printf '%s-%s installed size:\n%s KiB\n\n' "$name" "$version" $((size / 1024))
            )
        done
        ;;
    update) [ -n "$FEEDS" ] ;;
    search | search-e)
        wanted=${offered# } offered=''
        offer "$wanted"
        ;;
    add--simulate)
        number=0
        for word in $offered; do
            echo "($((number += 1))/9) Installing $word (3.13.9-r1)"
            open_package "$(offer "$word")"
            for dependency in $depends; do
                is_there "${dependency%,}" || echo "(9/9) Installing ${dependency%,} (3.13.9-r1)"
            done
        done | sort -u -k 3,3
        ;;
    add)
        if grep -q '^[^ ]* / tmpfs ' "$ROOT/proc/mounts"; then
            echo "ERROR: You tried to add a non-repository package to system, but it would be lost on next reboot."
            return 1
        fi
        FEEDS=${folder_of_index:-$FEEDS}
        for word in $offered; do
            [ -f "$word" ] || word=$(offer "$word")
            (unpack "$word") || return 1
        done
        ;;
    del)
        for word in $offered; do erase "$word"; done
        # apk takes along what was installed for others only.
        sed -n 's/^\(python3[a-z0-9-]*\|libsodium\) .*/\1/p' "$DB" >"$ROOT/tmp/orphans"
        while read -r word; do
            grep -qx "$word" "$ROOT/etc/apk/world" || erase "$word"
        done <"$ROOT/tmp/orphans"
        ;;
    *) echo "apk $verb: not simulated" >&2 && return 1 ;;
    esac
}

# --- The installer ------------------------------------------------------------------------------------------

# Only --fetch asks others for anything, and that is for a PC.
for downloading in curl wget; do
    eval "$downloading() { step network; return 1; }"
done

MESHCHAT_TRY=yes
HERE=${INSTALLER%/*}
# shellcheck source=scripts/install.sh
. "$INSTALLER"

router() {
    case $1 in
    /etc/init.d/meshchat)
        shift
        rc "$@"
        ;;
    /usr/share/meshchat/seal-with) command "$ROOT$1" "$2" ;;
    /usr/share/meshchat/*)
        script=$ROOT$1
        shift
        run_text "$@" <"$script"
        ;;
    /usr/bin/meshchat) meshchat_status ;;
    /sbin/reload_config) reload_config ;;
    *) echo "$1: not simulated" >&2 && return 1 ;;
    esac
}

case $MANAGER in
opkg) unset -f apk ;;
apk) unset -f opkg ;;
esac
for changing in mv rm cp; do
    eval "$changing() { case \"\$*\" in *\"\$ROOT/etc\"*) step $changing \"\${*##*/}\" ;; esac; command $changing \"\$@\"; }"
done
if [ -n "${INSTEAD-}" ]; then eval "$INSTEAD"; else main "$@"; fi
sleep 1
