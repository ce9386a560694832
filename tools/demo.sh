#!/usr/bin/env bash
# What `make demo` does: a sample cohort is made, graded in the sandbox and reported; the book is built.
set -euo pipefail
cd "$(dirname "$0")/.."
results=build/results

sandbox=yes
tools/system.sh || sandbox=no

.venv/bin/python tests/cohort.py --out build/cohort
if [ "$sandbox" = yes ]; then
    .venv/bin/autograder grade build/cohort/submissions --out "$results"
fi

echo "Building the book (lessons that changed are run, about a minute the first time) …"
tools/book.sh

echo
echo "Open these in a browser:"
if [ "$sandbox" = yes ]; then
    # A page worth reading: a submission that ran and missed something.
    lesson=$(grep -lE '"diagnosis": ?"' "$results"/*/*/result.json | head -n 1 || true)
    echo "  $results/report.html   the cohort: who has what, and what most people stumble over"
    [ -z "$lesson" ] || echo "  $(dirname "$lesson")/feedback.html   what one learner reads"
fi
echo "  _build/html/index.html   the book"
if [ "$sandbox" = no ]; then
    echo "The cohort in build/cohort was not graded: there is no sandbox here (the sentence above says how to get one)." >&2
    exit 1
fi
