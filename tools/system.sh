#!/usr/bin/env bash
# What Python cannot bring: bubblewrap and iproute2, of which the sandbox is made that other people's notebooks are graded in.
# Where bubblewrap cannot be had, but the kernel allows user namespaces, the grader builds the same wall by itself.
# With the word `slurm`: Slurm and munge, too, of which the miniature supercomputer is made. Where those cannot be had, a
# sentence says so, and the tests that need them say that they were skipped.
#
# Exit 0: they are there and work (installed just now, when whoever runs this may install packages).
# Exit 1: they are not; one sentence has said what is missing, how to get it, and what works without it.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps ip for some users

without="Without it lessons, the book and a learner's own \`autograder check\` work; grading other people's work does not."

complain() { printf '%s %s\n' "$1" "$without" >&2; exit 1; }

works() { bwrap --unshare-all --ro-bind / / --dev /dev --proc /proc true 2>/dev/null; }
own_wall_works() { unshare --map-root-user --mount --pid --net --fork mount -t proc proc /proc 2>/dev/null; }

as_root=()
may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && as_root=(sudo -n)
}

install() {
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    { [ -n "${updated:-}" ] || "${as_root[@]}" apt-get update; } >"$log" 2>&1 && updated=yes
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1
}

if [ "$(uname -s)" != Linux ]; then
    complain "The sandbox needs Linux (on Windows: WSL 2; on a Mac: a Linux machine or virtual machine), and this is $(uname -s)."
fi

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v ip >/dev/null || missing+=(iproute2)
if [ ${#missing[@]} -gt 0 ]; then
    get_them="\`sudo apt-get install ${missing[*]}\` (Fedora: \`sudo dnf install ${missing[*]/iproute2/iproute}\`)"
    if may_install; then
        echo "Installing ${missing[*]} with apt-get …"
        if install "${missing[@]}"; then
            missing=()
        else
            tail -n 5 "$log" >&2
            get_them="what apt-get could not install (its last lines are above)"
        fi
    fi
fi

if [ "${missing[*]}" = bubblewrap ] && own_wall_works; then
    echo "bubblewrap is not installed; grading works without it, behind a wall that the grader builds by itself, but with it \
the wall is one that more people have looked at: $get_them." >&2
elif [ ${#missing[@]} -gt 0 ]; then
    complain "The sandbox needs what is not installed here: ${missing[*]}; get it with $get_them."
else
    works || complain "bubblewrap is installed but may not make user namespaces here; allow them with \
\`sudo sysctl -w kernel.unprivileged_userns_clone=1\` (Debian) or \`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\` \
(Ubuntu), or start the container you are in with \`--privileged\`."
fi

if [ "${1:-}" = slurm ] && ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null; then
    if may_install; then
        echo "Installing slurm-wlm munge with apt-get …"
        install slurm-wlm munge || true
    fi
    command -v slurmctld >/dev/null || echo "Slurm is not installed (\`sudo apt-get install --no-install-recommends \
slurm-wlm munge\`); without it everything works but the miniature supercomputer, \`aboard cluster\`." >&2
fi
