#!/usr/bin/env bash
# Build the book into _build/html, warnings as errors. Needs no internet. BIN: where jupyter-book stands (.venv/bin).
# Lessons that have not changed are not run again: their outputs are kept in _build/.jupyter_cache.
set -euo pipefail
cd "$(dirname "$0")/.."

# jupyter-cache looks at a lesson's own cells only, so a change of what they import has to empty it.
code=$({ find aboard notebooks -type f -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 cat; cat requirements.lock; } | cksum)
if [ "$(cat _build/.code 2>/dev/null)" != "$code" ]; then
    rm -rf _build/.jupyter_cache
    mkdir -p _build
    echo "$code" > _build/.code
fi

rm -rf _build/html # pages of lessons that are gone
# The filter takes out a kernel's remark about its own transport, which says nothing about the book.
unset MPLBACKEND # notebooks draw into the page
export PYTHONWARNINGS=ignore
status=0
"${BIN:-.venv/bin}/jupyter-book" build . --toc book/_toc.yml --all -W -n --keep-going -q \
    >_build/book.log 2> >(grep -v '^\[IPKernelApp\]' >&2) || status=$?
if [ $status -ne 0 ]; then
    echo "The book was not built: the warnings and errors above name the page." >&2
fi
exit $status
