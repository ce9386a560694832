#!/usr/bin/env bash
# Regenerate requirements.lock: the newest versions that pyproject.toml allows and that every Python from 3.11.0 on can
# install (Debian 12 has 3.11.2). Nothing is installed; pip only says what it would install.
# Torch is pinned here, because its version decides what the lessons measure. No local version (+cpu, +cu…) is written:
# pip then installs whichever build its own configuration offers.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=2.13.0
python=${PYTHON:-python3.11}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" - > "$place/wanted" <<'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    settings = tomllib.load(file)
project = settings["project"]
wanted = settings["build-system"]["requires"] + project["dependencies"]
for extra in ("book", "lab", "dev"):
    wanted += project["optional-dependencies"][extra]
print("\n".join(wanted))
PY
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip --disable-pip-version-check install -q --dry-run --ignore-installed \
    --report "$place/report.json" --target "$place/none" --python-version 3.11.0 --only-binary=:all: \
    "torch==$torch" -r "$place/wanted"
"$python" - "$place/report.json" > "$place/lock" <<'PY'
import json
import sys
print("# Written by `make lock`. Do not edit: edit pyproject.toml, then run it again.")
print("# Everything the extras book, lab and dev need. Packages that only other platforms need are not pinned.")
with open(sys.argv[1]) as file:
    found = [item["metadata"] for item in json.load(file)["install"]]
for line in sorted((f"{m['name']}=={m['version'].partition('+')[0]}" for m in found), key=str.lower):
    print(line)
PY
cp "$place/lock" requirements.lock
echo "requirements.lock: $(grep -vc '^#' requirements.lock) packages."
