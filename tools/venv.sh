#!/usr/bin/env bash
# Make .venv from requirements.lock: every package at its pinned version, this repository on top.
# Safe to run again; a broken or half-made environment is mended.
set -euo pipefail
cd "$(dirname "$0")/.."

python=""
for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11 or newer was found; install one (Debian 12: \`sudo apt-get install python3 python3-pip\`) or name it with \`make PYTHON=/path/to/python3.11\`." >&2
    exit 1
fi

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        # Debian without python3-venv: the outer pip can fill an environment that has none of its own.
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --disable-pip-version-check --python .venv/bin/python install -q pip
    else
        echo "$python has neither ensurepip nor pip; install one of them (Debian: \`sudo apt-get install python3-venv\`)." >&2
        exit 1
    fi
fi

quiet=(); [ -t 1 ] || quiet=(-q)
pip=(.venv/bin/python -m pip --disable-pip-version-check install ${quiet[@]+"${quiet[@]}"})
echo "Installing the pinned packages into .venv (the first time takes a few minutes) …"
if ! { "${pip[@]}" -r requirements.lock && "${pip[@]}" --no-deps --no-build-isolation -e .; }; then
    echo "pip could not install what requirements.lock names (its message is above); run the same command again once that is mended." >&2
    exit 1
fi
touch .venv/.ready
