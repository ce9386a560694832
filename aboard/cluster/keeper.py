"""Process 1 of a cluster: sets it up, obeys orders, and takes everything with it when it ends.

Started by `outside`, in namespaces of its own: `python -m aboard.cluster.keeper FOLDER MEANS`. In FOLDER lie `shape.json`
(what to build) and `name`; it leaves `ready.json` or `failed` there, the logs of its daemons, and a socket for orders.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aboard.cluster import conf, links
from aboard.cluster.links import LOGIN
from aboard.cluster.means import Means, search_path
from aboard.cluster.processes import MARK, end_all
from aboard.cluster.shape import Shape
from aboard.errors import UserError

PATIENCE_S = 30  # for all nodes to answer
NOBODY_KNOWN = "learner"  # name of a user who has none, as in some containers


class Failed(Exception):
    """The cluster cannot be set up; the text says why."""


class Keeper:
    def __init__(self, folder: Path, means: Means) -> None:
        self.folder, self.means = folder, means
        self.shape = Shape.from_json((folder / "shape.json").read_text())
        self.name = (folder / "name").read_text()
        self.hosts = [LOGIN, *self.shape.node_names()]
        self.keepers: dict[str, int] = {}  # host → process that holds its namespaces
        self.rates = dict.fromkeys(self.shape.node_names(), self.shape.rate)
        self.cuts: set[str] = set()
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        os.environ |= {"PATH": search_path(), MARK: self.name}
        if means == "ports":
            run = Path(
                tempfile.mkdtemp(prefix="aboard-", dir="/tmp")
            )  # a socket's path may have 107 characters
            ports = _free_ports(len(self.hosts))
            here = socket.gethostname()
            self.place = conf.Place(run, run, _user() or str(os.getuid()), f"{here}(127.0.0.1)", ports, here)
        else:
            # Where Debian's package has it, and no job of the same user can put another in its place.
            settings = Path("/etc/slurm") if Path("/etc/slurm").is_dir() else Path("/run/slurm")
            self.place = conf.Place(Path("/run/slurm"), settings, _user() or NOBODY_KNOWN, LOGIN)
        around = folder / "around-slurmd.json"
        self.around_slurmd: list[str] = json.loads(around.read_text()) if around.exists() else []

    # --- setting up

    def set_up(self) -> None:
        if self.means != "ports":
            self._step("network")
            self._make_files_private()
            self._make_hosts()
        conf.write(self.shape, self.place, self.name)
        if self.place.settings != self.place.folder:
            _run("mount", "-o", "remount,bind,ro", str(self.place.settings))
        os.environ["SLURM_CONF"] = str(self.place.conf)
        self._step("munge, slurmctld, slurmd")
        self._start_munge()
        self._start("slurmctld", ["slurmctld", "-D"], LOGIN)
        for node in self.shape.node_names():
            self._start(f"slurmd-{node}", [*self.around_slurmd, "slurmd", "-D", "-N", node], node)
        self._step("waiting for the nodes")
        self._wait_for_nodes()

    def _make_files_private(self) -> None:
        """An empty /run, names for all hosts, and one for the user if the system has none."""
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
        self.place.folder.mkdir()
        if self.place.settings != self.place.folder:
            _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.place.settings))
        names = [f"{links.address(i)}\t{name}" for i, name in enumerate(self.hosts)]
        # torchrun asks who its clients are by addresses of this form, and complains of each that it cannot tell.
        names += [f"::ffff:{links.address(i)}\t{name}.ipv6" for i, name in enumerate(self.hosts)]
        hosts = Path("/run/hosts")
        hosts.write_text("127.0.0.1\tlocalhost\n::1\tlocalhost\n" + "\n".join(names) + "\n")
        _run("mount", "--bind", str(hosts), "/etc/hosts")
        if _user() is None:
            users, shell = (
                Path("/run/passwd"),
                f"{os.getuid()}:{os.getgid()}::{os.path.expanduser('~')}:/bin/bash",
            )
            users.write_text(Path("/etc/passwd").read_text() + f"{NOBODY_KNOWN}:x:{shell}\n")
            _run("mount", "--bind", str(users), "/etc/passwd")

    def _make_hosts(self) -> None:
        links.make_switch()
        for number, name in enumerate(self.hosts):
            # The kernel keeps a host's namespaces as long as this process is in them.
            holder = subprocess.Popen(
                ["unshare", "--net", "--uts", "sh", "-c", f"hostname {name} && echo && exec sleep infinity"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert holder.stdout is not None
            if not holder.stdout.readline():
                raise Failed(f"no namespaces for {name} could be made")
            self.keepers[name] = holder.pid
            links.plug_in(number, holder.pid, self.shape.interface, self.shape.rate)

    def _start_munge(self) -> None:
        key = self.place.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.place.folder}/munge.{end}" for option, end in files.items()]
        self._start(
            "munged", ["munged", "--foreground", "--force", f"--socket={self.place.socket}", *options], LOGIN
        )
        self._until("munged", self.place.socket.exists)

    def _start(self, name: str, command: list[str], host: str) -> None:
        keep = "sys_nice" if name in ("slurmctld", "munged") else ""
        with open(self.folder / f"{name}.log", "wb") as log:
            self.daemons[name] = subprocess.Popen(
                [*self._inside(host, keep), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, cwd="/",
            )  # fmt: skip

    def _inside(self, host: str, keep: str = "") -> list[str]:
        """What makes a command run on `host`, without the rights that this process has over its namespaces.

        keep: a right to leave it, as of "sys_nice". Whoever has one right more than jobs have, jobs cannot reach into.
        """
        if self.means == "ports":
            return []
        rights = "-all" + (f",+{keep}" if keep else "")
        drop = ["setpriv", f"--inh-caps={rights}", f"--ambient-caps={rights}"] if self.means == "user" else []
        where = f"/proc/{self.keepers[host]}/ns"
        return ["nsenter", f"--net={where}/net", f"--uts={where}/uts", *drop]

    def _wait_for_nodes(self) -> None:
        def all_idle() -> bool:
            found = subprocess.run(
                [*self._inside(LOGIN), "sinfo", "-h", "-N", "-o", "%N %T"],
                capture_output=True,
                text=True,
                check=False,
            )
            states = dict(line.split() for line in found.stdout.splitlines())
            return len(states) == self.shape.nodes and set(states.values()) == {"idle"}

        self._until("slurmctld", all_idle)

    def _until(self, whom: str, done: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise Failed(f"{name} ended with status {daemon.returncode}: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise Failed(
                    f"after {PATIENCE_S} s not every node answers; {whom} says: {self._last_words(whom)}"
                )
            time.sleep(0.05)

    def _last_words(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line or "fatal" in line] or lines
        return errors[-1] if errors else "nothing"

    def _step(self, what: str) -> None:
        (self.folder / "step").write_text(what)

    def hide_folder(self) -> None:
        """Jobs are the same user's, and have no business with the socket that takes orders: cover it, for them."""
        if self.means != "ports":
            _run("mount", "-t", "tmpfs", "-o", "ro,size=4k,mode=555", "tmpfs", str(self.folder))

    # --- orders

    def serve(self, orders: socket.socket) -> None:
        """Obey until told to stop."""
        while True:
            connection, _ = orders.accept()
            with connection:
                connection.settimeout(5)
                try:
                    order = json.loads(connection.makefile().readline())
                    answer = self._obey(order)
                except UserError as error:
                    answer = {"error": str(error)}
                except (OSError, ValueError, subprocess.CalledProcessError) as error:
                    answer = {"error": f"the cluster could not do this: {error}"}
                try:
                    connection.sendall(json.dumps(answer).encode() + b"\n")
                except OSError:
                    pass
                if answer.get("stop"):
                    return

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        what, node = order.pop("op"), order.get("node")
        if node is not None and node not in self.rates:
            raise UserError(f"There is no node {node!r}; this cluster has {', '.join(self.rates)}.")
        if what == "stop":
            return {"stop": True}
        if what == "status":
            dead = sorted(name for name, daemon in self.daemons.items() if daemon.poll() is not None)
            return {"rates": self.rates, "cut": sorted(self.cuts), "dead": dead, "bytes": self._counted()}
        if self.means == "ports":
            raise UserError(
                "Nodes have no links here, so none can be cut or slowed: this machine grants no namespaces."
            )
        assert node is not None
        number = self.hosts.index(node)
        if what == "cut":
            links.set_up(number, False)
            self.cuts.add(node)
        elif what == "slow":
            links.bits_per_second(order["rate"])
            links.set_rate(number, self.keepers[node], self.shape.interface, order["rate"])
            self.rates[node] = order["rate"]
        elif what == "heal":
            links.set_up(number, True)
            links.set_rate(number, self.keepers[node], self.shape.interface, self.shape.rate)
            self.cuts.discard(node)
            self.rates[node] = self.shape.rate
        return {}

    def _counted(self) -> dict[str, tuple[int, int]]:
        if self.means == "ports":
            return {}
        return {name: links.bytes_of(number) for number, name in enumerate(self.hosts) if name != LOGIN}


def main() -> None:
    folder, means = Path(sys.argv[1]), sys.argv[2]
    assert means in ("user", "root", "ports")
    if means != "ports":
        _become_init()
    orders = socket.socket(socket.AF_UNIX)
    # By way of a descriptor, since a socket's path may have only 107 characters.
    here = os.open(folder, os.O_PATH)
    orders.bind(f"/proc/self/fd/{here}/orders")
    orders.listen()
    keeper = Keeper(folder, means)  # type: ignore[arg-type]
    try:
        keeper.set_up()
        ready = {"keepers": keeper.keepers, "conf": str(keeper.place.conf), "run": str(keeper.place.folder)}
        (folder / "ready.tmp").write_text(json.dumps(ready))
        keeper.hide_folder()
        os.rename("ready.tmp", "ready.json", src_dir_fd=here, dst_dir_fd=here)
        keeper.serve(orders)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        words = (
            f"{error} {(error.stderr or '').strip()}"
            if isinstance(error, subprocess.CalledProcessError)
            else str(error)
        )
        (folder / "failed.tmp").write_text(words)
        (folder / "failed.tmp").rename(folder / "failed")
    finally:
        if means == "ports":
            end_all(keeper.name, str(keeper.place.folder))
            shutil.rmtree(keeper.place.folder, ignore_errors=True)


def _become_init() -> None:
    """Leave the work to a child, and bury the dead: that is what process 1 of a namespace is for."""
    worker = os.fork()
    if worker == 0:
        return
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _user() -> str | None:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    main()
