#!/bin/sh
# Installs missing Debian packages without starting any service. Prints nothing if all are installed.
#   scripts/install-debian.sh [PACKAGE...]     default: prometheus prometheus-alertmanager
set -eu
[ $# -gt 0 ] || set -- prometheus prometheus-alertmanager

# A program of the package on the PATH is enough, even if it was installed without the package.
there() {
    case $1 in
        prometheus-alertmanager) command -v prometheus-alertmanager || command -v alertmanager ;;
        docker.io) command -v dockerd ;;
        busybox-static) command -v busybox ;;
        nginx-light) command -v nginx ;;
        chromium-driver) command -v chromedriver ;;
        kubernetes-client) command -v kubectl ;;
        iproute2) command -v ip ;;
        systemd) command -v systemd-analyze ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1 && return 0
    command -v dpkg-query >/dev/null 2>&1 || return 1
    # A removed package can leave configuration files and an entry in the database: only "installed" counts.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in "$@"; do
    there "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
missing=${missing# }

give_up() {
    echo "missing: $missing" >&2
    echo "$1" >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 ||
    give_up "This is not Debian or Ubuntu: install them from https://prometheus.io/download/ and put them on the PATH."
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 ||
        give_up "Neither root nor sudo: ask an administrator for: apt-get install --no-install-recommends $missing"
    as_root=sudo
fi

# Debian starts a service when it installs the package. A policy-rc.d that denies prevents this. It is removed at exit,
# also after a signal; an existing policy-rc.d is not changed.
policy=/usr/sbin/policy-rc.d
ours=
log=$(mktemp)
before=$(mktemp)
leave() {
    rm -f "$log" "$before"
    [ -z "$ours" ] || $as_root rm -f "$policy"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$log"
    $as_root true || give_up "sudo failed."
    ours=yes
    $as_root install -m 755 "$log" "$policy" || give_up "$policy could not be written."
fi

installed() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort; }

echo "installing $missing (no service is started)"
installed >"$before"
# shellcheck disable=SC2086  # the list must be split into words
if ! {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
        { $as_root apt-get update &&
            $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; }
} </dev/null >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    give_up "apt-get failed; the end of its output is above."
fi

# The policy prevents the start now, but the packages also enable their services for the next boot.
if command -v systemctl >/dev/null 2>&1; then
    for package in $(installed | comm -13 "$before" -); do
        for unit in $(dpkg -L "$package" | sed -n 's#^\(/usr\)\{0,1\}/lib/systemd/system/\([^/]*\.\(service\|socket\|timer\)\)$#\2#p'); do
            $as_root systemctl disable "$unit" >/dev/null 2>&1 || true # fails for templates and for units that cannot be enabled
        done
    done
fi
