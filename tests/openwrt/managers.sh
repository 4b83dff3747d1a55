# shellcheck shell=sh
# shellcheck disable=SC2034,SC2153 # install.sh reads what is set here; simulated.py sets what is not
# A simulated OpenWrt router in the folder $MESHCHAT_ROOT, for scripts/install.sh, which this reads and runs with
# the arguments given. What a router has and this machine does not, are functions: Debian's busybox would prefer its own
# applets to programs on PATH. They note in $CALLS each step that changes something; at step number $CUT the
# power goes.
#
# Set by simulated.py: INSTALLER, MANAGER, CALLS, CUT, FEEDS (a folder of packages, or empty: no network),
# FREE_FLASH_KB (what df says), FLASH_KB (what there is room for), DAEMON_FAILS,
# SIGNAL (what the shell gets at the step CUT, KILL for a power cut; what it survives, at each step after that, too).

ROOT=$MESHCHAT_ROOT
DB=$ROOT/usr/lib/opkg/db # `name version` of each installed package
INFO=$ROOT/usr/lib/opkg/info
mkdir -p "$INFO"
[ -f "$DB" ] || : >"$DB"

step() {
    echo "$*" >>"$CALLS"
    if [ "$CUT" != 0 ] && [ "$(wc -l <"$CALLS")" -ge "$CUT" ]; then
        kill -"$SIGNAL" $$
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
        case ${offered_file##*/} in "$1"_[0-9]* | "$1"-[0-9]*) echo "$offered_file" && return ;; esac
    done
}

# Sets name, version and depends from the package of the file $1, and opens it.
open_package() {
    opened=$ROOT/tmp/opened
    rm -rf "$opened"
    mkdir -p "$opened"
    tar -xzf "$1" -C "$opened"
    tar -xzf "$opened/control.tar.gz" -C "$opened"
    while read -r key value; do
        case $key in Package:) name=$value ;; Version:) version=$value ;; Depends:) depends=$value ;; esac
    done <"$opened/control"
}

# Installs the package of the file $1, with all that it depends on first.
unpack() {
    depends=
    open_package "$1"
    if [ "$again" = no ] && grep -qx "$name $version" "$DB"; then return; fi
    for dependency in $depends; do
        dependency=${dependency%,}
        is_there "$dependency" && continue
        dependency_file=$(offer "$dependency")
        if [ -z "$dependency_file" ]; then
            echo " * satisfy_dependencies_for: Cannot satisfy the following dependencies for $1: $dependency"
            return 1
        fi
        (unpack "$dependency_file") || return 1
    done
    [ -z "$depends" ] || open_package "$1"
    [ "$name:$MANAGER" != meshchat:opkg ] || ! is_there meshchat || daemon stop
    step "unpack $name"
    [ "$MANAGER" = opkg ] || has_room || return 1
    conffile=$ROOT/etc/config/meshchat
    [ "$name" != meshchat ] || [ ! -f "$conffile" ] || cp "$conffile" "$conffile.mine"
    tar -xzvf "$opened/data.tar.gz" -C "$ROOT" | sed '/\/$/d; s/^\.//' >"$opened/list"
    [ ! -f "$conffile.mine" ] || mv "$conffile.mine" "$conffile"
    step "unpacked $name"
    [ "$MANAGER" = apk ] || has_room || return 1
    mv "$opened/list" "$INFO/$name.list"
    { grep -v "^$name " "$DB" || true; echo "$name $version"; } >"$DB.new"
    mv "$DB.new" "$DB"
    step "registered $name"
    [ "$name" != meshchat ] || post_install
}

# apk leaves nothing of a package for which there is no room; opkg what it had unpacked.
has_room() {
    if [ "$(du -sk "$ROOT" | cut -f 1)" -gt "$FLASH_KB" ]; then
        echo "ERROR: $name: No space left on device."
        return 1
    fi
}

# What the package's own scripts do, in short; they have tests of their own.
post_install() {
    grep -q '^meshchat:' "$ROOT/etc/passwd" || echo 'meshchat:x:8888:8888::/var/run/meshchat:/bin/false' >>"$ROOT/etc/passwd"
    rm -f "$ROOT/etc/uci-defaults/90-meshchat"
    router /usr/share/meshchat/network add
    daemon enable
    daemon start
}

erase() { # NAME
    is_there "$1" || return 0
    if [ "$1" = meshchat ]; then
        daemon stop
        daemon disable
    fi
    step "erase $1"
    while read -r path; do
        rm -f "$ROOT$path"
    done <"$INFO/$1.list"
    rm -f "$INFO/$1.list"
    grep -v "^$1 " "$DB" >"$DB.new" || true
    mv "$DB.new" "$DB"
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
    update) [ -n "$FEEDS" ] ;;
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
    offered='' again=yes verb='' folder_of_index=''
    while [ $# -gt 0 ]; do
        case $1 in
        --repositories-file) shift ;;
        --repository)
            folder_of_index=${2%/*}
            shift
            ;;
        --allow-untrusted | --no-network) ;;
        -*) again=$1 ;;
        *) if [ -z "$verb" ]; then verb=$1; else offered="$offered $1"; fi ;;
        esac
        shift
    done
    case $verb in
    info) if [ "$again" = -v ]; then sed 's/ /-/' "$DB"; else cut -d ' ' -f 1 "$DB"; fi ;;
    update) [ -n "$FEEDS" ] ;;
    search)
        wanted=${offered# } offered=''
        offer "$wanted"
        ;;
    add)
        FEEDS=${folder_of_index:-$FEEDS}
        for word in $offered; do
            (unpack "$word") || return 1
        done
        ;;
    del)
        for word in $offered; do erase "$word"; done
        # apk takes along what was installed for others only.
        sed -n 's/^\(python3-[a-z0-9]*\|libsodium\) .*/\1/p' "$DB" >"$ROOT/tmp/orphans"
        while read -r word; do
            grep -qx "$word" "$ROOT/etc/apk/world" || erase "$word"
        done <"$ROOT/tmp/orphans"
        ;;
    *) echo "apk $verb: not simulated" >&2 && return 1 ;;
    esac
}

# --- The rest of a router -----------------------------------------------------------------------------------

uci() {
    [ "$1" != -q ] || shift
    settings=$ROOT/etc/uci
    case $1 in
    get) cat "$settings/$2" 2>/dev/null ;;
    set)
        step "uci $*"
        printf '%s\n' "${2#*=}" >"$settings/${2%%=*}"
        ;;
    add_list)
        step "uci $*"
        printf '%s\n' "${2#*=}" >>"$settings/${2%%=*}"
        ;;
    delete) rm "$settings/$2" 2>/dev/null ;;
    commit) step "uci $*" ;;
    esac
}

daemon() {
    running=$ROOT/tmp/running
    code=$ROOT/usr/lib/meshchat/meshchat/constants.py
    case $1 in
    running) [ -f "$running" ] ;;
    stop)
        step "daemon stop"
        rm -f "$running"
        ;;
    start)
        # procd leaves an unchanged instance alone.
        [ -f "$running" ] || daemon restart
        ;;
    restart)
        step "daemon restart"
        [ "$DAEMON_FAILS" = yes ] || sed -n 's/^VERSION = "\(.*\)"/\1/p' "$code" >"$running"
        ;;
    *) step "daemon $1" ;;
    esac
}

df() {
    printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 1 1 %s 1%% /\n' "$FREE_FLASH_KB"
}

chown() { :; }

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
    /etc/init.d/meshchat) daemon "$2" ;;
    *) step "$*" ;;
    esac
}

case $MANAGER in
opkg) unset -f apk ;;
apk) unset -f opkg ;;
esac
for changing in mv rm mkdir cp; do
    eval "$changing() { case \"\$*\" in *\"\$ROOT/etc\"*) step $changing \"\${*##*/}\" ;; esac; command $changing \"\$@\"; }"
done
main "$@"
