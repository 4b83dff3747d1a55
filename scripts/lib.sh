# shellcheck shell=sh
# What the scripts share: TOP, the checkout; and a virtual environment in TOP/.venv, made when it is needed.
# A script sets TOP and sources this file.

VENV=$TOP/.venv

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Whether $1 is a Python that meshchat runs on.
new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Prints the Python to use: $PYTHON if set, else the machine's own, else the newest one on PATH.
find_python() {
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough "$python"; then
            command -v "$python"
            return
        fi
    done
    fail "Python 3.11 or later is needed; on Debian 12 or Ubuntu: apt-get install python3 python3-venv"
}

# Makes sure that $1 can make virtual environments; Debian packages that part apart.
need_venv_module() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "the venv module is missing; as root: apt-get install $package"
    fi
    echo "Installing $package"
    { apt-get update && apt-get install -y --no-install-recommends "$package"; } >/dev/null 2>&1 ||
        fail "apt-get could not install $package; is there a network?"
}

# make_venv DIRECTORY PYTHON WHAT: an environment with WHAT, `.` or `.[test]`, of this checkout in it.
# Does nothing if it is there and the checkout's requirements are those it was made for.
make_venv() {
    wanted="$(cat "$TOP/setup.cfg" "$TOP/pyproject.toml" | cksum) $TOP"
    stamp="$1/made-for $3"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$1/bin/python" ] && return
    echo "Making the environment ${1#"$TOP"/} (this takes a minute)"
    need_venv_module "$2"
    "$2" -m venv "$1" || fail "$2 could not make $1"
    if ! (cd "$TOP" && "$1/bin/python" -m pip install --quiet --editable "$3") >"$1/pip.log" 2>&1; then
        grep -i error "$1/pip.log" | tail -n 3 >&2
        fail "pip could not install the requirements: is there a network, or has netifaces2 no wheel for" \
            "this Python (then: apt-get install gcc python3-dev)? All it said is in $1/pip.log"
    fi
    echo "$wanted" >"$stamp"
}

# use_venv run|test: makes sure that VENV has what is needed to run meshchat, or also to test it.
use_venv() {
    what=.
    # An environment for tests can run it, too.
    if [ "$1" = test ] || [ -f "$VENV/made-for .[test]" ]; then
        what='.[test]'
    fi
    if [ -x "$VENV/bin/python" ]; then
        make_venv "$VENV" "$VENV/bin/python" "$what"
    else
        python=$(find_python) || exit 1
        make_venv "$VENV" "$python" "$what"
    fi
}
