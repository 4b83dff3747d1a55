#!/bin/sh
# Puts meshchat on this OpenWrt router (23.05, 24.10, 25.12, main), with or without a network.
#
#   sh install.sh                        install or upgrade, from what lies beside this file
#       --new-key                        on the first router of a mesh: makes its key, and prints it
#       --key KEY|-                      on its other routers; '-' reads the key from standard input
#       --open                           a mesh without a key: for everybody in radio range
#       [--mesh NAME]                    its name
#       [--interface IF]                 to the mesh, as in /etc/config/network; may be repeated
#       [--small]                        without meshchat-terminal: the plain terminal only
#       [--from DIR|TARBALL]             what to install from, if it is elsewhere
#       [--force-downgrade]              in place of a newer version
#   sh install.sh --remove | --purge     take it away; --purge: also history, keys and settings
#   sh install.sh --fetch RELEASE ARCH DIR [--target TARGET/SUBTARGET] [--mirror URL]
#                                        before, on a PC with a network: collect what the feeds
#                                        of that release have of Python into DIR
#       [--dry-run]                      with any of them: say what would be done, and do nothing
#
# Of a new router, one of --new-key, --key and --open has to be said, or answered on a terminal; an upgrade
# leaves it as it is. A failure is one line on standard error, and the router is left as it was. After a power
# cut, run it again. On a router, `. /etc/openwrt_release; echo $DISTRIB_ARCH $DISTRIB_TARGET` prints ARCH and TARGET.

# shellcheck disable=SC2046,SC2086 # lists of names are split on purpose
set -eu

# The router; a folder that looks like one, when this is tried out.
ROOT=${MESHCHAT_ROOT-}
JOURNAL=$ROOT/etc/meshchat.installing # while under way: the packages that were there before
BROUGHT=$ROOT/etc/meshchat.brought    # those that came along; not kept by a sysupgrade, as packages are not
WORK=$ROOT/tmp/meshchat-install       # in RAM
WANTED=$WORK/wanted                   # what was asked for; the package takes it before the daemon's first start
PATIENCE_S=90                         # for the daemon to answer: Python starts slowly on a slow router
STOPPING_S=10                         # for it to end: procd kills it after 5
RAM_KB=40960                          # what Python and the daemon take, with 10,000 messages
SPARE_KB=512                          # of flash, for what else the router writes
HERE=${HERE:-$(cd "$(dirname "$0")" && pwd)}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

usage() {
    echo "install.sh: $* (install.sh --help)" >&2
    exit 2
}

# A program of the router's own; the tests put theirs here.
router() {
    program=$ROOT$1
    shift
    "$program" "$@"
}

# --- What this router is --------------------------------------------------------------------------------

# Prints the list's name for the release $1.
series_of() {
    case $1 in
    23.05 | 23.05.* | 23.05-*) echo 23.05 ;;
    24.10 | 24.10.* | 24.10-*) echo 24.10 ;;
    25.12 | 25.12.* | 25.12-*) echo 25.12 ;;
    main | SNAPSHOT) echo main ;;
    *) fail "OpenWrt $1 is not supported: 23.05, 24.10, 25.12 or main is needed" ;;
    esac
}

# Sets series, arch, manager.
know_router() {
    [ -r "$ROOT/etc/openwrt_release" ] || fail "this is no OpenWrt router (on a PC: --fetch RELEASE ARCH DIR)"
    [ -w "$ROOT/etc" ] || fail "root has to run this"
    release=$(release_field RELEASE)
    arch=$(release_field ARCH)
    series=$(series_of "$release") || exit 1
    manager=
    for manager in apk opkg; do
        ! command -v "$manager" >/dev/null || break
        manager=
    done
    [ -n "$manager" ] || fail "neither opkg nor apk is here to install packages"
}

release_field() {
    sed -n "s/^DISTRIB_$1=['\"]\{0,1\}\([^'\"]*\).*/\1/p" "$ROOT/etc/openwrt_release"
}

# Whether all that is installed would be gone after a reboot: / is the RAM of an image that was started over
# the network, or from a stick.
runs_from_ram() {
    awk '$2 == "/" { kind = $3 } END { exit kind != "tmpfs" && kind != "ramfs" }' "$ROOT/proc/mounts" 2>/dev/null
}

free_flash_kb() {
    if [ -d "$ROOT/overlay" ]; then set -- "$ROOT/overlay"; else set -- "$ROOT/"; fi
    df -Pk "$1" | awk 'NR == 2 { print $4 }'
}

# What is unpacked is so many times as large as in its package, in percent: Python's own packages, and most others.
UNPACKED=300

# Prints what a file takes on flash, in percent of what it takes in a package: jffs2 and ubifs compress, too.
growth() {
    if grep -qE ' (/|/overlay) (jffs2|ubifs) ' "$ROOT/proc/mounts" 2>/dev/null; then echo 125; else echo $UNPACKED; fi
}

free_ram_kb() {
    awk '$1 == "MemAvailable:" { print $2 }' "$ROOT/proc/meminfo"
}

size_kb() {
    cat "$@" </dev/null | wc -c | awk '{ print int($1 / 1024) + 1 }'
}

# --- The two package managers ---------------------------------------------------------------------------

# Prints the names of all that is installed.
installed() {
    case $manager in
    opkg) opkg list-installed | cut -d ' ' -f 1 ;;
    apk) apk info ;;
    esac
}

is_installed() {
    installed | grep -qxF "$1"
}

# Prints the version of $1 that is installed, if it is.
version_of() {
    case $manager in
    opkg) opkg list-installed | sed -n "s/^$1 - \([^ ]*\).*/\1/p" ;;
    apk) apk info -v | sed -n "s/^$1-\([0-9].*\)/\1/p" ;;
    esac
}

# Whether version $1 comes before $2; both have numbers, and something between.
older() {
    awk -v a="$1" -v b="$2" 'BEGIN {
        n = split(a, x, /[^0-9]+/); m = split(b, y, /[^0-9]+/)
        for (i = 1; i <= n || i <= m; i++) if (x[i] + 0 != y[i] + 0) exit x[i] + 0 >= y[i] + 0
        exit 1
    }'
}

# Runs the package manager; what it said is shown only when it fails.
quietly() {
    "$@" >"$WORK/log" 2>&1 || fail "$1 failed: $(reason_of "$1")"
}

# Prints why the package manager $1 failed, as $WORK/log has it. opkg's reasons begin with ` * `, and the first led to
# the others; apk's begin with ERROR. Either goes on in the next line after a colon.
reason_of() {
    case $1 in opkg) mark=' [*] ' ;; *) mark='ERROR: ' ;; esac
    awk -v mark="^$mark" '
        said != "" { sub(mark, ""); sub(/^[ \t]*/, ""); sub(/:$/, ""); print said " " $0; exit }
        $0 ~ mark { sub(mark, ""); if (!/:$/) { print; exit } said = $0 }' "$WORK/log" | grep . || tail -n 1 "$WORK/log"
}

# Installs the files given, the packages of the feeds that are named, and what all of them need: from the folder
# if it has that, else from the feeds.
put() {
    case $manager in
    opkg) quietly opkg install $force "$@" ;;
    apk)
        if [ "$feeds" = yes ]; then
            quietly apk add --allow-untrusted "$@"
        elif [ -f "$folder/packages.adb" ]; then
            quietly apk add --allow-untrusted --no-network --repositories-file /dev/null \
                --repository "$folder/packages.adb" "$@"
        else
            quietly apk add --allow-untrusted --no-network --repositories-file /dev/null "$@"
        fi
        ;;
    esac
}

# Removes those of the packages given that are installed and that no other needs.
take() {
    case $manager in
    apk)
        # What it was told to install; the rest goes by itself.
        apk del meshchat meshchat-terminal >"$WORK/log" 2>&1 || true
        ;;
    opkg)
        # It refuses what others need: of those that are left, some are free once others have gone.
        before=
        while set -- $(installed | grep -xF -e "$(printf '%s\n' "$@")") && [ "$before" != "$*" ]; do
            before=$*
            for package in "$@"; do
                opkg remove "$package" >"$WORK/log" 2>&1 || true
            done
        done
        ;;
    esac
}

# Prints the process id of the daemon, which procd notes.
pid_of_daemon() {
    cat "$ROOT/var/run/meshchat.pid" 2>/dev/null || true
}

# Waits for the process $1 to end: it is stopped while others go on, and writes until it has.
await_end() {
    waited=0
    while [ -n "$1" ] && [ -d "$ROOT/proc/$1" ] && [ $((waited += 1)) -le $STOPPING_S ]; do
        sleep 1
    done
}

# --- What there is to install ---------------------------------------------------------------------------

# Prints the values that the release's list has for $1.
listed() {
    sed -n "s/^$1 //p" "$list"
}

# Prints the packages of the feeds that ours depend on.
needed() {
    listed needs
    [ -z "$terminal" ] || listed needs-terminal
}

# Sets list, for $series.
find_list() {
    for list in "$1/releases/$series.list" "$HERE/releases/$series.list" "$HERE/../openwrt/releases/$series.list"; do
        [ ! -f "$list" ] || return 0
    done
    fail "releases/$series.list is not in $1"
}

# Sets bundle, the folder to install from; a tarball is unpacked into RAM.
find_bundle() {
    bundle=${from:-$HERE}
    if [ -d "$bundle" ] && [ ! -f "$bundle/SHA256SUMS" ]; then
        set -- "$bundle"/meshchat-*.tar.gz
        if [ $# != 1 ] || [ ! -f "$1" ]; then
            fail "$bundle has no SHA256SUMS of a bundle, and not one bundle in it"
        fi
        bundle=$1
    fi
    [ ! -d "$bundle" ] || return 0
    [ -f "$bundle" ] || fail "there is no $bundle"
    need_ram $(($(size_kb "$bundle") * 2))
    rm -rf "$WORK/bundle"
    mkdir -p "$WORK/bundle"
    tar -xzf "$bundle" -C "$WORK/bundle" 2>/dev/null || fail "$bundle is damaged, or no bundle"
    set -- "$WORK"/bundle/*/SHA256SUMS
    [ -f "$1" ] || fail "$bundle is no bundle"
    bundle=${1%/*}
}

# Checks the files $2... of the folder $1 against its SHA256SUMS.
verify() {
    where=$1
    shift
    good=$(cd "$where" && awk -v names=" $* " 'index(names, " " $2 " ")' SHA256SUMS | sha256sum -c - 2>/dev/null |
        sed -n 's/: OK$//p' | tr '\n' ' ')
    for checked in "$@"; do
        case " $good" in *" $checked "*) ;; *) fail "$where/$checked is damaged: its checksum is wrong" ;; esac
    done
}

# Sets own, the files of our packages; version, theirs; folder and feeds: where the rest comes from; files,
# those of the rest; extra, what the feeds have to offer beyond it; brings, the names of all. Touches nothing.
plan() {
    suffix=ipk
    [ "$manager" = opkg ] || suffix=apk
    find_bundle
    find_list "$bundle"
    case $list in "$bundle"/*) verify "$bundle" "${list#"$bundle"/}" ;; esac
    [ "$(listed manager)" = "$manager" ] || fail "OpenWrt $series has $(listed manager), but here is $manager"
    own=
    for name in meshchat ${terminal:+meshchat-terminal}; do
        set -- "$bundle/$name"[_-][0-9]*".$suffix"
        [ $# = 1 ] || fail "$bundle has more than one version of $name"
        [ -f "$1" ] || fail "$bundle has no $name for $manager (.$suffix)"
        verify "$bundle" "${1##*/}"
        own="$own ${1##*/}"
        version=$(echo "${1##*/}" | sed "s/^${name}[_-]//; s/_all\.ipk$//; s/\.apk$//")
    done
    have=$(version_of meshchat)
    if [ -n "$have" ] && older "$version" "$have" && [ -z "$downgrade" ]; then
        fail "version $have is installed, this is $version: an older one may not read its files (--force-downgrade)"
    fi
    # apk takes the very file that it is given, whatever was there before.
    force=
    [ ! -f "$JOURNAL" ] || force=--force-reinstall
    [ -z "$downgrade" ] || force="$force --force-downgrade"
    installed >"$WORK/installed"
    missing=$(needed | grep -vxF -f "$WORK/installed" | tr '\n' ' ')
    folder=$bundle/feed/$series/$arch
    feeds='' files='' extra='' brings=$missing
    if [ -f "$folder/SHA256SUMS" ]; then
        plan_folder
    elif [ -n "$missing" ]; then
        feeds=yes
        refresh_feeds
        in_feeds $missing || fail "neither $folder nor a reachable feed has ${missing%% *} and what else is" \
            "needed (on a PC with a network: install.sh --fetch $release $arch DIR --target $(release_field TARGET))"
        for package in $(listed wanted); do
            grep -qxF "$package" "$WORK/installed" || ! in_feeds "$package" || extra="$extra $package"
        done
        brings="$brings$extra"
    fi
}

# Reads what the router's feeds have, into RAM. One of several may be out of reach.
refresh_feeds() {
    "$manager" update >"$WORK/log" 2>&1 || true
}

# Whether the feeds that could be reached have the package $1.
in_feeds() {
    case $manager in
    opkg) opkg list "$1" ;;
    apk) apk search -e "$1" ;;
    esac 2>/dev/null | grep -q .
}

# The packages of the folder that are not installed yet.
plan_folder() {
    fetched=$(cut -c 67- "$folder/SHA256SUMS" | tr '\n' ' ')
    verify "$folder" $fetched
    for package in $missing; do
        case " $fetched" in
        *" $package"[_-]*) ;;
        *) fail "$package is not in $folder: fetch it again" ;;
        esac
    done
    # opkg refuses a package whose libraries it does not know to be there.
    absent=$(grep -vxF -f "$WORK/installed" "$folder/firmware" || true)
    [ -z "$absent" ] || fail "this firmware has no" $absent "(fetch again with --target $(release_field TARGET))"
    [ "$manager" = opkg ] || return 0
    for name in $fetched; do
        package=${name%%_*}
        [ "$name" = firmware ] || grep -qxF "$package" "$WORK/installed" || {
            files="$files $name"
            case " $brings " in *" $package "*) ;; *) brings="$brings $package" ;; esac
        }
    done
}

need_ram() {
    [ "$(free_ram_kb)" -ge "$1" ] || fail "$(free_ram_kb) KiB of RAM are free, $1 are needed"
}

# Prints the KiB, as they are in packages, that the feeds' packages take which are not here yet: what ours need, and
# all that those need in turn.
packed_kb_of_feeds() {
    case $manager in
    opkg)
        for index in "$ROOT"/var/opkg-lists/*; do
            [ ! -f "$index" ] || { echo "@ feed" && { gunzip -c "$index" 2>/dev/null || cat "$index"; } && echo; }
        done | closure | awk -v here="$(tr '\n' ' ' <"$WORK/installed")" '
            NF == 5 && !index(" " here, " " $5 " ") { sum += $4 } END { print int(sum / 1024) }'
        ;;
    apk)
        # What it would install, and how large each is when it is unpacked: `7.1 MiB`, after its name.
        apk info --size $(apk add --simulate $missing | sed -n 's/^([0-9/ ]*) Installing \([^ ]*\) .*/\1/p') |
            awk -v unpacked=$UNPACKED '
                BEGIN { kb["B"] = 1 / 1024; kb["KiB"] = 1; kb["MiB"] = 1024; kb["GiB"] = 1048576 }
                NF == 2 && $2 in kb { sum += $1 * kb[$2] }
                END { print int(sum * 100 / unpacked) }'
        ;;
    esac
}

check_room() {
    if [ "$feeds" = yes ]; then
        needed=$(packed_kb_of_feeds)
    elif [ -n "$files" ]; then
        needed=$(cd "$folder" && size_kb $files)
    else
        needed=0
        [ "$manager" = opkg ] || [ -z "$missing" ] || needed=$(cd "$folder" && size_kb ./*.apk)
    fi
    needed=$(((needed + $(cd "$bundle" && size_kb $own)) * $(growth) / 100 + SPARE_KB))
    room=$(free_flash_kb)
    [ "$room" -ge "$needed" ] ||
        fail "$room KiB of flash are free, $needed are needed$([ -z "$terminal" ] || echo '; --small takes less')"
    need_ram $RAM_KB
}

# --- Settings -------------------------------------------------------------------------------------------

KEY_FORM="a mesh key is 56 letters and digits, as meshchat key new prints it"

check_settings() {
    case $mesh in *[!A-Za-z0-9._-]*) usage "the mesh's name may have letters, digits and . _ - only" ;; esac
    [ ${#mesh} -le 64 ] || usage "the mesh's name may have 64 letters at most"
    for name in $interfaces; do
        uci -q get "network.$name.proto" >/dev/null || [ -d "$ROOT/sys/class/net/$name" ] ||
            fail "there is no interface $name"
    done
    choose_key
}

# Sets key to the key given, `new`, or nothing: whether the mesh has one nobody can know but who sets it up.
choose_key() {
    state=$(uci -q get meshchat.main.state || echo /etc/meshchat)
    if [ -z "$who" ] && [ ! -e "$ROOT$state/router.key" ] && [ ! -e "$ROOT$state/mesh.keys" ]; then
        [ -t 0 ] || usage "who may join? Say --new-key (the first router: makes a key, and prints it)," \
            "--key - (the others), or --open (everybody in radio range)"
        ask_key
    fi
    case $who in
    new) key=new ;;
    open)
        [ ! -s "$ROOT$state/mesh.keys" ] ||
            fail "this router has a mesh key: to open the mesh to everybody, meshchat key drop KEY --yes"
        ;;
    key)
        [ "$key" != - ] || read -r key || true
        key=$(printf %s "$key" | tr -d ' ')
        case $key in '' | *[!A-Za-z2-7]*) usage "$KEY_FORM" ;; esac
        [ ${#key} -ge 56 ] || usage "$KEY_FORM" # the package looks closer
        ;;
    esac
}

ask_key() {
    echo "Who may join this mesh?"
    echo "  1  those who have its key, and this is its first router: a key is made, and printed"
    echo "  2  those who have its key, which was made on another router"
    echo "  3  everybody in radio range"
    while [ -z "$who" ]; do
        printf '1, 2 or 3: '
        read -r answer || fail "nothing was chosen"
        case $answer in
        1) who=new ;;
        2) who=key && printf 'The key: ' && read -r key ;;
        3) who=open ;;
        esac
    done
}

# Whether anything was to be set.
settings_given() {
    [ -n "$mesh$key$interfaces" ]
}

# Leaves in WANTED what the package sets before the daemon's first start.
leave_settings() {
    rm -rf "$WANTED"
    settings_given || return 0
    mkdir "$WANTED"
    {
        [ -z "$mesh" ] || echo "set meshchat.main.mesh='$mesh'"
        [ -z "$interfaces" ] || ! uci -q get meshchat.main.interfaces >/dev/null ||
            echo "delete meshchat.main.interfaces"
        for name in $interfaces; do
            echo "add_list meshchat.main.interfaces='$name'"
        done
    } >"$WANTED/uci"
    [ -z "$key" ] || (umask 077 && printf '%s\n' "$key" >"$WANTED/key")
}

# On a router whose package was there before, nothing has taken the settings yet.
take_settings() {
    router /usr/share/meshchat/package settings
    router /usr/share/meshchat/network add >/dev/null 2>&1
    router /sbin/reload_config
    router /etc/init.d/meshchat reload
}

# Prints the mesh that the daemon of this version answers for, if it does.
answering() {
    router /usr/bin/meshchat status --json 2>/dev/null |
        sed -n "/\"version\": *\"${version%-r*}\"/s/.*\"mesh\": *\"\([^\"]*\)\".*/\1/p"
}

# Waits for the daemon to answer, under the name that is set where one was given; fails with what it said instead.
await_daemon() {
    waited=0
    while answers=$(answering) && { [ -z "$answers" ] || [ "${mesh:-$answers}" != "$answers" ]; }; do
        [ $((waited += 1)) -le $PATIENCE_S ] || fail "the daemon does not answer: $(last_error)"
        sleep 1
    done
}

last_error() {
    logread 2>/dev/null | sed -n 's/.* daemon\.err meshchat[^:]*: //p' | tail -n 1 | grep . ||
        echo "logread -e meshchat may tell why"
}

# --- Install --------------------------------------------------------------------------------------------

install() {
    know_router
    mkdir -p "$WORK"
    trap 'rm -rf "$WORK"' EXIT
    plan
    check_settings
    if [ "$have" = "$version" ] && [ -z "$missing" ] && [ ! -f "$JOURNAL" ] && ! settings_given &&
        { [ -z "$terminal" ] || is_installed meshchat-terminal; }; then
        echo "meshchat $version is installed."
        return
    fi
    [ "$manager" = opkg ] || ! runs_from_ram ||
        fail "this image runs from RAM, where apk installs nothing: flash the router's sysupgrade image first"
    check_room
    if [ "$feeds" = yes ]; then source="the router's feeds"; else source=$folder; fi
    if [ -n "$dry" ]; then
        echo "OpenWrt $series, $arch, $manager: would install" $own
        [ -z "$brings" ] || echo "and from $source:" $brings
        return
    fi
    # For root, busybox finds that everything can be written, be it mounted read-only.
    (: >"$JOURNAL.new") 2>/dev/null || fail "/etc cannot be written: is this failsafe mode? (mount_root)"
    save_as_it_was
    journal=
    trap 'roll_back; exit 1' HUP INT TERM
    trap 'if [ $? = 0 ]; then rm -rf "$WORK"; else roll_back; fi' EXIT
    echo "Installing meshchat $version${brings:+ and what it needs, from $source}"
    if [ ! -f "$JOURNAL" ]; then
        journal=$JOURNAL # goes with a roll-back; that of a run that was cut off stays
        cp "$WORK/installed" "$JOURNAL.new"
        mv "$JOURNAL.new" "$JOURNAL"
    fi
    leave_settings
    (
        set --
        for name in $files; do set -- "$@" "$folder/$name"; done
        for name in $own; do set -- "$@" "$bundle/$name"; done
        put "$@" $extra
    )
    [ "$(version_of meshchat)" = "$version" ] || fail "$manager did not install meshchat $version"
    [ ! -d "$WANTED" ] || take_settings
    [ ! -d "$WANTED" ] || fail "$(tail -n 1 "$WANTED/said" 2>/dev/null || echo "the settings were not taken")"
    runs="runs" answers=
    router /etc/init.d/meshchat enable
    case $(uci -q get meshchat.main.enabled || echo 1) in
    0 | off | no | false | disabled) runs="is installed, and does not run: option enabled in /etc/config/meshchat" ;;
    *) await_daemon ;;
    esac
    brought | sort -u >"$BROUGHT.new"
    mv "$BROUGHT.new" "$BROUGHT"
    rm -f "$JOURNAL" "$JOURNAL.new"
    echo "meshchat $version $runs${answers:+ in the mesh $answers}. Is all well? meshchat check    To chat: meshchat"
    if [ "$key" = new ]; then
        echo "The key of this mesh, for install.sh --key - on its other routers (meshchat key show --qr: for a phone):"
        head -n 1 "$ROOT$state/mesh.keys"
    fi
}

# Prints the packages that came with meshchat, now or in earlier runs, and are not its own.
brought() {
    [ ! -f "$BROUGHT" ] || cat "$BROUGHT"
    [ ! -f "$JOURNAL" ] || installed | grep -vxF -f "$JOURNAL" -e meshchat -e meshchat-terminal || true
}

# Keeps in RAM all that an upgrade writes over, the package manager's own notes included.
save_as_it_was() {
    rm -rf "$WORK/before"
    mkdir -p "$WORK/before"
    set -- $(cd "$ROOT/" && ls -d etc/config/meshchat etc/config/network etc/config/firewall etc/meshchat etc/passwd \
        etc/shadow etc/group usr/lib/meshchat usr/lib/opkg/status usr/lib/opkg/info/meshchat* lib/apk/db \
        lib/apk/packages/meshchat* etc/apk/world \
        $(sed 's|^/||' usr/lib/opkg/info/meshchat*.list lib/apk/packages/meshchat*.list 2>/dev/null) 2>/dev/null)
    [ ! -d "$ROOT/var/lib/meshchat" ] || : >"$WORK/before/history"
    tar -C "$ROOT/" -cf "$WORK/before/files.tar" "$@" 2>/dev/null ||
        fail "there is no room in RAM to keep the version that is installed"
}

# What failed is undone: what is new goes, what was there before comes back.
roll_back() {
    trap - EXIT
    trap '' HUP INT TERM
    pid=$(pid_of_daemon)
    router /etc/init.d/meshchat stop >/dev/null 2>&1 || true
    await_end "$pid"
    news=$(installed | grep -vxF -f "$WORK/installed" || true)
    [ -z "$news" ] || (take meshchat-terminal meshchat $news) >/dev/null 2>&1 || true
    for name in $files; do
        is_installed "${name%%_*}" || forget_files "$folder/$name"
    done
    for name in $own; do
        forget_files "$bundle/$name"
    done
    rm -rf "$ROOT/usr/lib/meshchat" "$ROOT/usr/share/meshchat"
    tar -C "$ROOT/" -xf "$WORK/before/files.tar" || true
    was_there etc/config/meshchat || rm -f "$ROOT/etc/config/meshchat"
    was_there etc/meshchat/ || rm -rf "$ROOT/etc/meshchat"
    [ -f "$WORK/before/history" ] || rm -rf "$ROOT/var/lib/meshchat"
    [ -z "$have" ] || router /etc/init.d/meshchat restart >/dev/null 2>&1 || true
    rm -rf ${journal:+"$journal"} "$JOURNAL.new" "$BROUGHT.new" "$WORK"
}

# What opkg had unpacked of the package $1 before it failed; apk cleans up after itself.
forget_files() {
    [ "$manager" = opkg ] || return 0
    tar -xzOf "$1" ./data.tar.gz | tar -tz | grep -v '/$' | while read -r path; do
        rm -f "$ROOT/${path#./}"
    done
}

was_there() {
    tar -tf "$WORK/before/files.tar" | grep -qx "$1"
}

# --- Remove ---------------------------------------------------------------------------------------------

remove() {
    know_router
    mkdir -p "$WORK"
    trap 'rm -rf "$WORK"' EXIT
    logs=$(uci -q get meshchat.main.storage || true)
    state=$(uci -q get meshchat.main.state || true)
    set -- meshchat-terminal meshchat $(brought)
    if [ -n "$dry" ]; then
        echo "would remove:" $(installed | grep -xF -e "$(printf '%s\n' "$@")")
        [ -z "$purge" ] || echo "and delete: history, keys, accounts, /etc/config/meshchat"
        return
    fi
    pid=$(pid_of_daemon)
    take "$@"
    await_end "$pid"
    ! is_installed meshchat || fail "$manager could not remove meshchat: $(tail -n 1 "$WORK/log")"
    # opkg leaves its folders to the package, which a power cut may have kept from removing them.
    find "$ROOT/usr/lib/meshchat" "$ROOT/usr/share/meshchat" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    rm -f "$BROUGHT" "$JOURNAL"
    if [ -z "$purge" ]; then
        echo "meshchat is removed; its keys, accounts and settings are still here (--purge deletes them)."
        return
    fi
    rm -rf "$ROOT/var/lib/meshchat" "$ROOT/etc/meshchat"
    for folder in "$logs" "$state"; do
        [ -z "$folder" ] || delete_ours "$ROOT$folder"
    done
    rm -f "$ROOT/etc/config/meshchat" "$ROOT/etc/config/meshchat-opkg" "$ROOT/etc/config/meshchat.apk-new"
    for name in passwd shadow group; do
        [ ! -f "$ROOT/etc/$name" ] || sed -i '/^meshchat:/d; /^meshchat-people:/d' "$ROOT/etc/$name"
    done
    echo "meshchat is removed, and all its data."
}

# Deletes what belongs to the daemon's user in the folder $1, where somebody may keep other things, and the folder
# with it if that was all.
delete_ours() {
    [ -d "$1" ] || return 0
    uid=$(sed -n 's/^meshchat:[^:]*:\([0-9]*\):.*/\1/p' "$ROOT/etc/passwd")
    [ -n "$uid" ] || return 0
    for entry in "$1"/* "$1"/.[!.]*; do
        # A router has no stat(1).
        # shellcheck disable=SC2012
        [ "$(ls -dn "$entry" 2>/dev/null | awk '{ print $3 }')" != "$uid" ] || rm -rf "$entry"
    done
    rmdir "$1" 2>/dev/null || true
}

# --- Fetch, on a PC -------------------------------------------------------------------------------------

# download URL FILE
download() {
    rm -f "$2"
    for tool in curl wget uclient-fetch; do
        command -v "$tool" >/dev/null || continue
        case $tool in
        curl) curl -fsSL --retry 2 -o "$2.part" "$1" 2>/dev/null ;;
        *) "$tool" -q -O "$2.part" "$1" 2>/dev/null ;;
        esac || fail "could not download $1"
        mv "$2.part" "$2"
        return
    done
    fail "curl or wget is needed to download"
}

# Prints the addresses of the indexes' folders.
indexes() {
    base=${mirror:-$(listed mirror)}
    { listed index; [ -z "$target" ] || listed index-of-target; } |
        sed "s|^|${base%/}/|; s|ARCH|$arch|; s|RELEASE|$release|; s|TARGET|$target|"
}

# From the indexes on standard input, each after a line `@ ADDRESS`: prints address, file, hash, bytes and name of
# each package that ours need, and of all that those depend on.
closure() {
    awk -v needs="$(needed | tr '\n' ' ')" -v wanted="$(listed wanted | tr '\n' ' ')" \
        -v firmware="$(listed firmware | tr '\n' ' ')" '
        /^@ / { address = $2 }
        /^Package: / { name = $2; at[name] = address; depends[name] = "" }
        /^Depends: / { sub(/^Depends: */, ""); gsub(/\([^)]*\)/, ""); depends[name] = $0 }
        /^Provides: / {
            sub(/^Provides: */, "")
            n = split($0, names, / *, */)
            for (i = 1; i <= n; i++) { sub(/[= ].*/, "", names[i]); gives[names[i]] = name }
        }
        /^Filename: / { file[name] = $2 }
        /^Size: / { size[name] = $2 }
        /^SHA256sum: / { hash[name] = $2 }
        END {
            n = split(firmware, names, " "); for (i = 1; i <= n; i++) given[names[i]] = 1
            last = split(needs, queue, " ")
            n = split(wanted, names, " ")
            for (i = 1; i <= n; i++) if (names[i] in at) queue[++last] = names[i]
            for (i = 1; i <= last; i++) {
                name = queue[i]
                if (!(name in at) && name in gives) name = gives[name]
                if (name in done) continue
                done[name] = 1
                if (!(name in at)) { print name in given ? "firmware" : "missing", name; continue }
                print at[name], file[name], hash[name], size[name] + 0, name
                n = split(depends[name], names, / *[,|] */)
                for (j = 1; j <= n; j++) { gsub(/ /, "", names[j]); if (names[j] != "") queue[++last] = names[j] }
            }
        }'
}

fetch() {
    release=$1 arch=$2
    series=$(series_of "$release") || exit 1
    case $arch in *[!A-Za-z0-9_.-]* | '') usage "$arch is no architecture" ;; esac
    find_list "$3"
    # opkg can do with what the firmware has of the target's feed; apk looks for all of it in the folder.
    [ -n "$target" ] || [ "$(listed manager)" = opkg ] ||
        usage "for OpenWrt $series, --target is needed, such as ath79/generic: what DISTRIB_TARGET says there"
    folder=$3/feed/$series/$arch
    [ -z "$dry" ] || { indexes && return; }
    mkdir -p "$folder"
    rm -f "$folder/SHA256SUMS" # until all is there
    WORK=$folder/.work
    rm -rf "$WORK"
    mkdir "$WORK"
    trap 'rm -rf "$WORK"' EXIT
    case $(listed manager) in opkg) fetch_opkg ;; apk) fetch_apk ;; esac
    (cd "$folder" && sha256sum -- * >.work/sums)
    mv "$WORK/sums" "$folder/SHA256SUMS"
    echo "$folder: $(($(wc -l <"$folder/SHA256SUMS"))) files, $(size_kb "$folder"/*) KiB"
    absent=$(grep -vxE 'libc|libgcc1' "$folder/firmware" || true)
    [ -z "$absent" ] || echo "Routers without" $absent "need --target as well, such as ath79/generic"
}

fetch_opkg() {
    indexes >"$WORK/indexes"
    while read -r address; do
        download "$address/Packages.gz" "$WORK/Packages.gz"
        { echo "@ $address" && gunzip -c "$WORK/Packages.gz" && echo; } >>"$WORK/Packages" ||
            fail "$address/Packages.gz is damaged"
    done <"$WORK/indexes"
    closure <"$WORK/Packages" >"$WORK/wanted"
    sed -n 's/^firmware //p' "$WORK/wanted" >"$folder/firmware"
    absent=$(sed -n 's/^missing //p' "$WORK/wanted" | tr '\n' ' ')
    [ -z "$absent" ] || fail "not in the feeds of $release for $arch: $absent"
    for old in "$folder"/*.ipk; do
        grep -qF " ${old##*/} " "$WORK/wanted" || rm -f "$old"
    done
    grep -v '^firmware ' "$WORK/wanted" | while read -r address name sum _; do
        file=$folder/${name##*/}
        has_sum "$file" "$sum" || download "$address/$name" "$file"
        has_sum "$file" "$sum" || fail "$address/$name is damaged: its checksum is wrong"
    done
}

has_sum() {
    [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$2" ]
}

# Only apk reads apk's indexes; it writes a new one, of what it fetched.
fetch_apk() {
    command -v apk >/dev/null || fail "OpenWrt $series is for apk: its apk-tools 3 is needed on this PC, too"
    indexes | sed 's|$|/packages.adb|' >"$WORK/repositories"
    rm -f "$folder"/*.apk "$folder/packages.adb"
    : >"$folder/firmware" # apk fetches all of it
    mkdir "$WORK/root" # of another architecture than this PC's: `fetch` reads no database there, and needs none
    quietly apk --root "$WORK/root" --arch "$arch" --allow-untrusted --no-cache \
        --repositories-file "$WORK/repositories" fetch --recursive --output "$folder" $(needed)
    quietly apk mkndx --allow-untrusted --output "$folder/packages.adb" "$folder"/*.apk
}

# --- Command line ---------------------------------------------------------------------------------------

main() {
    action=install purge='' dry='' from='' mesh='' who='' key='' interfaces='' terminal=yes downgrade=''
    mirror='' target='' fetch_release='' fetch_arch='' fetch_folder=''
    while [ $# -gt 0 ]; do
        case $1 in
        --mesh | --key | --interface | --from | --mirror | --target)
            [ -n "${2-}" ] || usage "$1 needs a value"
            ;;
        esac
        case $1 in
        -h | --help)
            sed -n '2,$ { /^#/!q; s/^# \{0,1\}//p; }' "$HERE/install.sh"
            return
            ;;
        --mesh) mesh=$2 && shift ;;
        --key | --new-key | --open)
            [ -z "$who" ] || usage "one of --new-key, --key and --open only"
            case $1 in
            --key) who=key key=$2 && shift ;;
            --new-key) who=new ;;
            --open) who=open ;;
            esac
            ;;
        --interface) interfaces="$interfaces $2" && shift ;;
        --from) from=$2 && shift ;;
        --mirror) mirror=$2 && shift ;;
        --target) target=$2 && shift ;;
        --small) terminal='' ;;
        --force-downgrade) downgrade=yes ;;
        --dry-run) dry=yes ;;
        --remove) action=remove ;;
        --purge) action=remove purge=yes ;;
        --fetch)
            [ $# -ge 4 ] || usage "--fetch needs RELEASE, ARCH and DIR"
            action=fetch fetch_release=$2 fetch_arch=$3 fetch_folder=$4
            shift 3
            ;;
        *) usage "what is $1?" ;;
        esac
        shift
    done
    case $action in
    install) install ;;
    remove) remove ;;
    fetch) fetch "$fetch_release" "$fetch_arch" "$fetch_folder" ;;
    esac
}

[ -n "${MESHCHAT_TRY-}" ] || main "$@"
