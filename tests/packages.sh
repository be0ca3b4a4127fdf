#!/bin/sh
# Install the named Debian packages that are missing; without root, say how. No daemon is started or enabled: tests
# start their own servers, on free ports.
set -eu

missing=
for package; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "packages are missing; run as root: apt-get update && apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
fi
echo "installing$missing" >&2
apt-get update -qq
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing > /dev/null
if command -v systemctl > /dev/null; then
    for package in $missing; do
        systemctl disable "$package" > /dev/null 2>&1 || true
    done
fi
