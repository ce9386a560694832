#!/usr/bin/env bash
# Build the book into _build/html (or OUT/_build/html), warnings as errors. Needs no internet.
# Lessons that have not changed are not run again: their outputs are kept in _build/.jupyter_cache.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-.}

# jupyter-cache looks at a lesson's own cells only, so a change of the toolkit they import has to empty it.
code=$(find aboard notebooks requirements.lock -type f \( -name '*.py' -o -name '*.lock' \) -print0 | LC_ALL=C sort -z | xargs -0 cat | cksum)
if [ "$(cat "$out/_build/.code" 2>/dev/null)" != "$code" ]; then
    rm -rf "$out/_build/.jupyter_cache"
    mkdir -p "$out/_build"
    echo "$code" > "$out/_build/.code"
fi

# MPLBACKEND: figures are drawn the same on a desktop and on a server.
export MPLBACKEND=agg PYTHONWARNINGS=ignore
rm -rf "$out/_build/html" # pages of lessons that are gone
exec .venv/bin/jupyter-book build . --path-output "$out" --toc book/_toc.yml --all -W -n --keep-going -q
