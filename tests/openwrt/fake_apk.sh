#!/bin/sh
# shellcheck disable=SC2094 # what is listed is written once it was read
# Stands for the `apk` of apk-tools 3 on a PC, which no Debian has: it takes an option where the real one does,
# and `--help` ends with status 1 there, too. Notes in $ASKED what it was asked, and the repositories it was given;
# what `mkpkg` writes is a list of what it was given. $APK_VERSION is its version.

case ${1-} in
--version)
    echo "apk-tools ${APK_VERSION:-3.0.6}, compiled for x86_64."
    exit
    ;;
esac
[ -z "${ASKED-}" ] || echo "$@" >>"$ASKED"

refuse() {
    echo "apk: unrecognized option '$1'" >&2
    exit 1
}

# In two looks at the words: the real one finds its applet first, too.
verb=
for word; do
    case $word in add | fetch | mkndx | mkpkg | update) verb=$word && break ;; esac
done
case ${APK_VERSION:-3}$verb in 2*mkpkg | 2*mkndx) verb= ;; esac
[ -n "$verb" ] || { echo "ERROR: '$1' is not an apk command. See 'apk --help'." >&2 && exit 1; }

output='' files='' scripts='' given=$*
while [ $# -gt 0 ]; do
    case $verb:$1 in
    *:--help)
        echo "Usage: apk $verb [<OPTIONS>...]"
        exit 1
        ;;
    *:--root | *:--arch | *:--repository) shift ;;
    *:--repositories-file)
        [ -z "${ASKED-}" ] || cat "$2" >>"$ASKED"
        shift
        ;;
    *:--allow-untrusted | *:--no-cache | *:--no-network) ;;
    add:--usermode)
        [ "$(id -u)" != 0 ] || { echo "ERROR: --usermode not allowed as root" >&2 && exit 99; }
        ;;
    add:--initdb | fetch:--recursive) ;;
    fetch:--output | mkndx:--output | mkpkg:--output)
        output=$2
        shift
        ;;
    mkpkg:--files)
        files=$2
        shift
        ;;
    mkpkg:--script)
        scripts="$scripts ${2#*:}"
        shift
        ;;
    mkpkg:--info) shift ;;
    *:--*) refuse "${1#--}" ;;
    esac
    shift
done
case $verb in
fetch) : >"$output/python3-light-3.13.9-r1.apk" ;;
mkndx) : >"$output" ;;
mkpkg)
    {
        echo "$given" | tr ' ' '\n'
        # shellcheck disable=SC2086 # their names have no spaces
        cat $scripts
        cd "$files" && find . -type f -exec stat -c "%a %Y %n" {} + && cat lib/apk/packages/*
    } >"$output"
    ;;
esac
