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

# Lessons on the miniature supercomputer are shown without their outputs where there is no Slurm to run them on.
config=_config.yml
if ! PATH=$PATH:/usr/sbin:/sbin command -v slurmctld >/dev/null; then
    echo "Slurm is not installed (sudo apt-get install --no-install-recommends slurm-wlm munge): lessons that need it are shown without outputs." >&2
    config=_build/_config.yml
    skipped=$(grep -l '^  needs: slurm$' notebooks/*/*/lesson.md | sed 's/.*/"&"/' | paste -sd ,)
    mkdir -p _build
    sed "s|^  timeout: .*|&\n  exclude_patterns: [$skipped]|" _config.yml >$config
fi

rm -rf _build/html # pages of lessons that are gone
# The filter takes out a kernel's remark about its own transport, which says nothing about the book.
unset MPLBACKEND # notebooks draw into the page
export PYTHONWARNINGS=ignore
status=0
"${BIN:-.venv/bin}/jupyter-book" build . --config $config --toc book/_toc.yml --all -W -n --keep-going -q \
    >_build/book.log 2> >(grep -v '^\[IPKernelApp\]' >&2) || status=$?
if [ $status -ne 0 ]; then
    echo "The book was not built: the warnings and errors above name the page." >&2
fi
exit $status
