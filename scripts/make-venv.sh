#!/bin/sh
# Makes the virtual environment with exactly the versions of requirements.lock, and this project in it.
set -eu
venv=$1
python=${PYTHON:-python3}

fail() {
    echo "$1" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "Python 3.11 or newer is missing: apt-get install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: 3.11 or newer is needed (PYTHON=... make names another)"
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    # Debian ships venv's other half as a package of its own.
    sh scripts/install-debian.sh python3-venv
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing the locked versions into $venv ..."
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock ||
    fail "the locked versions could not be installed; see pip's words above"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
