#!/usr/bin/env bash
# Regenerate requirements.lock: install the newest versions pyproject.toml allows into an empty environment, write them down.
# Torch is pinned here, because its version decides what the lessons measure. No local version (+cpu, +cu…) is written:
# pip then installs whichever build its own configuration offers.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=2.13.0
python=${PYTHON:-python3.11}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" -m venv "$place/venv"
pip=("$place/venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install -q "torch==$torch" "setuptools>=77"
"${pip[@]}" install -q -e ".[book,lab,dev]"
{
    echo "# Written by \`make lock\` with Python $("$python" -c 'import platform; print(platform.python_version())'). Do not edit: edit pyproject.toml, then run it again."
    echo "# Everything the extras book, lab and dev need. Packages that only other platforms need are not pinned."
    "${pip[@]}" freeze --all --exclude pip --exclude-editable | sed -E '/ @ /d; s/\+[A-Za-z0-9.]+$//' | LC_ALL=C sort -f
} > "$place/lock"
cp "$place/lock" requirements.lock
echo "requirements.lock: $(grep -vc '^#' requirements.lock) packages."
