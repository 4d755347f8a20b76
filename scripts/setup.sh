#!/bin/sh
# Makes .venv with everything the app needs; `sh scripts/setup.sh dev` adds what the tests need.
# Works where the system's Python is externally managed, and fetches python3-venv on Debian and Ubuntu if it is missing.
set -eu
cd "$(dirname "$0")/.."

python=""
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "xaihub needs Python 3.11 or newer, and none was found. On Debian or Ubuntu: apt-get install python3.12 python3.12-venv" >&2
    exit 2
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ ! -x .venv/bin/pip ]; then
    if ! "$python" -m venv --clear .venv >/dev/null 2>&1; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        as_root apt-get update -qq
        as_root apt-get install -y -qq "python$version-venv"
        "$python" -m venv --clear .venv
    fi
fi
.venv/bin/pip install --quiet --disable-pip-version-check uv  # resolves and downloads many times faster than pip

if [ "${1:-}" = dev ]; then
    .venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements.txt -e ".[dev]"
    # the page's tests drive a real browser; without one they skip and say so
    if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && command -v apt-get >/dev/null; then
        { as_root apt-get update -qq && as_root apt-get install -y -qq chromium; } >/dev/null 2>&1 ||
            echo "No Chromium could be installed, so the browser tests will be skipped." >&2
    fi
else
    .venv/bin/uv pip install --quiet --python .venv/bin/python -r requirements.txt -e .
fi
