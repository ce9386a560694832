"""The attendant of a folder that a room is given: a process of its own behind the wall, and no part of the room.

It makes the folder, counts what the kernel tells of it, ends the room in the middle of its work where that is asked, and
hands back what lies there. All this takes memory, as much as somebody in the room likes to cause; it goes when the attendant
does, and the server, which every later room is a copy of, stays as it is.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from aboard import wire
from aboard.ranks.folder import Folder, bundle, unbundle
from autograder.sandbox import kernel as k
from autograder.sandbox.account import Room
from autograder.sandbox.ending import end_at_once
from autograder.sandbox.outer import SCRATCH
from autograder.sandbox.room import close_all_but


def attend(channel: socket.socket, room: Room) -> int:
    """Fork an attendant for a folder in `room`, which serves `channel` until the grader hangs up; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            k.prctl(k.PR_SET_PDEATHSIG, signal.SIGKILL)
            close_all_but(channel.fileno(), *room.folders)
            _serve(channel, room)
        except (EOFError, OSError):
            pass  # nobody is left to work for
        finally:
            os._exit(0)
    return pid


def _serve(channel: socket.socket, room: Room) -> None:
    ended = os.pidfd_open(room.init)
    base = os.open(room.scratch, os.O_RDONLY | os.O_DIRECTORY) if room.scratch else room.folders[0]
    order = wire.receive(channel)
    try:
        files = unbundle(order["files"])
        folder = Folder(base, order["name"], files, order["after"], lambda: end_at_once(room))
    except OSError as error:
        wire.send(channel, {"problem": str(error)})
        return
    wire.send(channel, {"problem": "", "path": f"{room.scratch or SCRATCH}/{folder.name}"})
    try:
        while channel not in select.select([channel, folder.fd], [], [])[0]:
            folder.take()
        wire.receive(channel)
    finally:
        if folder.acted:  # what is left is what was there when the last process of the room had ended
            select.select([ended], [], [])
        kept = folder.take_back()
    wire.send(channel, vars(kept) | {"files": bundle(kept.files)})
