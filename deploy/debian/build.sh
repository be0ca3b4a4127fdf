#!/bin/sh
# The agent as a Debian package with its virtual environment: dist/wanggan-agent_VERSION_ARCHITECTURE.deb
#   deploy/debian/build.sh [VERSION]
# Build it on the release and the architecture that it is for: it depends on that Python (bookworm: 3.11).
set -eu
cd "$(dirname "$0")/../.."

python=/usr/bin/python3
version=${1:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}
architecture=$(dpkg --print-architecture)
minor=$($python -c 'import sys; print(sys.version_info.minor)')
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2> /dev/null || date +%s)
PIP_CONSTRAINT=$PWD/constraints.txt
PIP_BUILD_CONSTRAINT=$PIP_CONSTRAINT
export SOURCE_DATE_EPOCH PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
root=$work/root
source=$work/source

# A copy of what is packaged: building leaves nothing in the project's folder.
mkdir -p "$source" "$root/opt"
tar --exclude=__pycache__ -cf - pyproject.toml README.md \
    $($python -c 'import tomllib; print(*sorted({p.split(".")[0] for p in tomllib.load(open("pyproject.toml", "rb"))["tool"]["setuptools"]["packages"]}))') \
    | tar -xf - -C "$source"

$python -m venv "$root/opt/wanggan"
"$root/opt/wanggan/bin/pip" install --quiet --no-compile "wanggan[agent] @ file://$source"
"$root/opt/wanggan/bin/pip" uninstall --quiet --yes setuptools pip
# What was built in one place runs in another.
grep -rlI "$root" "$root/opt/wanggan/bin" "$root/opt/wanggan/pyvenv.cfg" | xargs sed -i "s#$root##g"
find "$root/opt/wanggan" \( -name __pycache__ -o -name 'Activate.ps1' -o -name 'activate*' -o -name direct_url.json \) \
    -prune -exec rm -rf {} +

install -D -m 644 -t "$root/lib/systemd/system" deploy/systemd/wanggan-agent.service deploy/systemd/wanggan-agent-wifi.service
install -D -m 644 -t "$root/usr/lib/sysusers.d" deploy/sysusers/wanggan.conf
install -D -m 644 -t "$root/usr/lib/tmpfiles.d" deploy/tmpfiles/wanggan.conf
install -D -m 644 -t "$root/usr/lib/sysctl.d" deploy/sysctl/60-wanggan.conf
install -D -m 644 -t "$root/usr/share/doc/wanggan-agent" deploy/agent.example.toml deploy/debian/copyright
mkdir -p "$root/usr/bin" "$root/DEBIAN"
ln -s /opt/wanggan/bin/wanggan "$root/usr/bin/wanggan"

install -m 755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$root/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@MINOR@/$minor/" -e "s/@NEXT@/$((minor + 1))/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" deploy/debian/control.in > "$root/DEBIAN/control"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
chmod -R u=rwX,go=rX "$root"

mkdir -p dist
package=dist/wanggan-agent_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" > /dev/null
echo "$package"
