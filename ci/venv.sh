#!/bin/sh
# Make a virtual environment with pip in it, also where Debian's python3-venv is not
# installed: then pip is taken from the distribution's own wheel package, unpacked
# in a private folder, so that no root is needed.
set -eu
venv=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || {
    echo "harness needs Python 3.11 or 3.12; $python is $("$python" -V 2>&1). Try: make PYTHON=python3.11" >&2
    exit 2
}
if "$python" -c 'import ensurepip' 2>/dev/null; then
    exec "$python" -m venv "$venv"
fi
"$python" -m venv --without-pip "$venv"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
apt="-o Dir::State::lists=$work/lists -o Dir::Cache::archives=$work/archives -o Debug::NoLocking=1"
# shellcheck disable=SC2086
(cd "$work" && apt-get $apt -qq update && apt-get $apt -qq download python3-pip-whl python3-setuptools-whl) || {
    echo "No pip for $python. Try, as root: apt-get install python3-venv" >&2
    exit 2
}
for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
wheel=$(echo "$work"/root/usr/share/python-wheels/pip-*.whl)
"$venv/bin/python" "$wheel/pip" install --quiet pip setuptools
