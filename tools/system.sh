#!/usr/bin/env bash
# What Python cannot bring: bubblewrap, the sandbox that other people's notebooks are graded in.
#
# Exit 0: it is there and works (installed just now, when whoever runs this may install packages).
# Exit 1: it is not; one sentence has said what is missing, how to get it, and what works without it.
set -euo pipefail

without="Without it lessons, the book and a learner's own \`autograder check\` work; grading other people's work does not."

complain() { printf '%s %s\n' "$1" "$without" >&2; exit 1; }

works() { bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc true 2>/dev/null; }

as_root=()
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && as_root=(sudo -n)
}

if [ "$(uname -s)" != Linux ]; then
    complain "Grading needs Linux (on Windows: WSL 2; on a Mac: a Linux machine or virtual machine), and this is $(uname -s)."
fi

if ! command -v bwrap >/dev/null; then
    may_install || complain "bubblewrap is missing; install it with \`sudo apt-get install bubblewrap\` (Fedora: \`sudo dnf install bubblewrap\`)."
    echo "Installing the system package bubblewrap …"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends bubblewrap; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        complain "bubblewrap is missing and apt-get could not install it (its last lines are above)."
    fi
fi

works || complain "bubblewrap is installed but may not make user namespaces here; allow them with \
\`sudo sysctl -w kernel.unprivileged_userns_clone=1\` (Debian) or \`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\` \
(Ubuntu), or start the container you are in with \`--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined\`."
