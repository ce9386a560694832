"""The life of one rank, in a process of its own: join, wait for "go", run the function, report, stay until dismissed.

The process at the other end of the socket (see `crew`) tells it what to do. A second thread keeps reading that socket,
so that the rank can say where it is even while its program waits for a message that never comes.

This file runs in the learner's own process. Nothing it says is taken on trust: values are compared elsewhere, and
bytes and memory are read from the kernel.
"""

from __future__ import annotations

import inspect
import os
import queue
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from aboard import wire
from aboard.ranks.device import BACKENDS, CPU, GPU, explain, synchronize, take
from aboard.ranks.meter import Meter
from aboard.ranks.place import describe_line, whose_file

Lookup = Callable[[str, bool], Callable[..., Any]]


def live_as_rank(sock: socket.socket, lookup: Lookup) -> NoReturn:
    """Serve one call on `sock`, then leave the process. Call it in a freshly forked child.

    `lookup(name, drive)` gives the function to run, or raises LookupError with a sentence.
    """
    status = 0
    try:
        # The OpenMP pool of the parent did not survive the fork; with one thread nothing tries to use it.
        torch.set_num_threads(1)
        # PyTorch renames its collectives; both names work, and the learner's output is not the place to say so.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
        _serve(sock, lookup)
    except (EOFError, OSError):
        status = 0  # the other end has gone: nobody is left to tell
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _serve(sock: socket.socket, lookup: Lookup) -> None:
    call = wire.receive(sock)
    device = call["device"]
    take(device, call["rank"])
    meter = Meter()
    meter.install()
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    lock = threading.Lock()
    threading.Thread(target=_listen, args=(sock, lock, meter, orders), daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        wire.send(sock, message, lock)

    try:
        function = lookup(call["function"], call["drive"])
        if call["world_size"]:
            _join(call, say, orders)
        say({"op": "ready"})
        _await(orders, "go")
        args, kwargs = (call[key] if device == CPU else _to(device, call[key]) for key in ("args", "kwargs"))
        meter.start()
        value = function(*args, **kwargs)
        if inspect.isgenerator(value):
            value = _converse(value, meter, say, orders)
        synchronize()
        say({"op": "done"})
        _await(orders, "give")
        try:
            say({"op": "outcome", "value": value, "collectives": meter.as_data()})
        except wire.WireError as error:
            say({"op": "unsendable", "message": str(error), "collectives": meter.as_data()})
    except EOFError:
        raise
    except BaseException as error:  # whatever the program raised, SystemExit and KeyboardInterrupt too
        # Not an IndexError or KeyError of the program, which are LookupErrors as well.
        if type(error) is LookupError:
            say({"op": "missing", "message": str(error.args[0] if error.args else error)})
        else:
            say(describe_error(error) | {"collectives": meter.as_data()})
    _await(orders, "bye")


def _converse(
    steps: Generator[Any, Any, Any],
    meter: Meter,
    say: Callable[[dict[str, Any]], None],
    orders: queue.SimpleQueue[Any],
) -> Any:
    """Run `steps`: hand over each value it yields and give it what comes back; what it returns in the end."""
    try:
        said = next(steps)
        while True:
            say({"op": "said", "value": said, "called": len(meter.collectives)})
            said = steps.send(_await(orders, "next").pop("value"))
    except StopIteration as end:
        return end.value


def _to(device: str, value: Any) -> Any:
    """`value` with every tensor in it on `device`."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_to(device, item) for item in value)
    return {key: _to(device, item) for key, item in value.items()} if isinstance(value, dict) else value


def _listen(sock: socket.socket, lock: Any, meter: Meter, orders: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            order = wire.receive(sock)
            if order["op"] == "where":
                wire.send(sock, {"op": "at"} | meter.position(), lock)
            else:
                orders.put(order)
    except (EOFError, OSError, wire.WireError):
        os._exit(0)  # nobody is left to work for


def _await(orders: queue.SimpleQueue[Any], op: str) -> dict[str, Any]:
    while True:
        order = orders.get()
        if order["op"] == op:
            return order


def _join(
    call: dict[str, Any], say: Callable[[dict[str, Any]], None], orders: queue.SimpleQueue[Any]
) -> None:
    """Form the group.

    The address is a file that all ranks share, or an IP address where rank 0 opens the store on a port the kernel
    picks and the crew tells the others.
    """
    rank, world_size, timeout = call["rank"], call["world_size"], timedelta(seconds=call["timeout_s"])
    if call["interface"]:
        os.environ["GLOO_SOCKET_IFNAME"] = call["interface"]
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": "0"}
    if call["device"] == GPU:
        os.environ["LOCAL_RANK"] = str(rank)  # by which PyTorch's meshes find a rank's GPU
    address: str = call["address"]
    if address.startswith("/"):
        store: dist.Store = dist.FileStore(address, world_size)
    elif rank == 0:
        store = dist.TCPStore(address, 0, world_size, True, timeout, wait_for_workers=False)
        say({"op": "store", "port": store.port})
    else:
        port = _await(orders, "join")["port"]
        store = dist.TCPStore(address, port, world_size, False, timeout, wait_for_workers=False)
    backend = BACKENDS[call["device"]]
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)


def describe_error(error: BaseException) -> dict[str, Any]:
    """What a learner needs to know of an exception: its type, its text, the line of *her* program it came from."""
    lines = {"learner": "", "drive": "", "": ""}
    for frame, lineno in traceback.walk_tb(error.__traceback__):
        whose = whose_file(frame.f_code.co_filename)
        if whose:
            lines[whose] = describe_line(frame.f_code, lineno, frame.f_globals)
    line = lines["learner"] or lines["drive"]
    try:
        text = str(error)
    except BaseException:
        text = "(the exception cannot be printed)"
    return {"op": "raised", "type": type(error).__name__[:80], "message": explain(text)[:2000], "line": line}
