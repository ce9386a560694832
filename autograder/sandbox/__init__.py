"""Where other people's code runs.

The trust boundary, from outside to inside:

    host.py     trusted, the grader's own process: starts the sandbox, opens rooms, talks to what runs in them
    outer.py    the wall: what of the system is shown, read-only, and the bubblewrap command that shows nothing else
    wall.py     trusted: builds the same wall where bubblewrap is not installed, and becomes the server
    server.py   trusted, inside the wall: a warm process, whose copies the rooms are
    warden.py   trusted, inside the wall: opens and closes rooms, reads the kernel's counters, keeps rooms in bounds
    account.py  trusted, inside the wall: how much memory rooms take, from /proc
    network.py  trusted, inside the wall: one network interface for each rank, joined by a switch
    room.py     builds one room (namespaces, mounts, limits, no privileges) and steps into it
    seccomp.py  the system calls a room does without
    agent.py    NOT trusted: runs in the room, in the learner's own process; what it says is only data
    cluster_host.py, cluster_server.py, filtered.py, messages.py
                trusted: the same for job scripts, which run on a miniature supercomputer behind a wall of its own
    shell.py    NOT trusted: runs notebook cells there and collects their outputs

A room holds the learner's answer cells and the exercise's public code. It holds no reference solution, no expected
value, no seed, no result and no other submission, so there is nothing in it worth reading. Every rank of a distributed
exercise has a room of its own, with its own processes, memory, files, host name and network interface: ranks can reach
each other only over the network, where the kernel counts.
"""
