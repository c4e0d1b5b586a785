#!/bin/sh
# Creates a virtual environment with the versions of requirements.lock, and installs this project in it.
# Prints one line per step. The output of pip is in pip.log of the environment, and printed if pip fails.
set -eu
venv=$1
python=${PYTHON:-python3}

fail() {
    echo "$1" >&2
    exit 1
}

pip() {
    "$venv/bin/python" -m pip "$@" >>"$log" 2>&1 && return
    cat "$log" >&2
    fail "pip failed; its output is above and in $log"
}

command -v "$python" >/dev/null || fail "Python 3.11 or newer is missing: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: 3.11 or newer is needed (select another one with PYTHON=... make)"
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # On Debian, ensurepip is in a separate package.
    sh scripts/install-debian.sh python3-venv
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
log=$venv/pip.log
: >"$log"
echo "installing the locked versions into $venv ..."
pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
echo "installing this project into $venv ..."
pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
