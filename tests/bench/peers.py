"""Other graders, each in an environment of its own under build/peers, doing the same work in their own way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from tests.bench.measure import Failed

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "peers"


class NotHere(Exception):
    """A peer that could not be installed: the sentence that says so."""


class Environment:
    """A virtual environment with the newest release of `package`, made once. NotHere when pip cannot."""

    def __init__(self, package: str) -> None:
        self.package, self.folder = package, PLACE / package
        ready = self.folder / ".ready"
        if not ready.exists():
            print(f"Installing {package} into build/peers/{package} (once) …", flush=True)
            self._make()
            _share_torch(self.folder)
            ready.touch()
        self.version = self._version()

    def _make(self) -> None:
        # Our own pip fills it, so that it works where Python came without ensurepip.
        steps = (
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.folder)],
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python), "install", "-q",
             self.package, "ipykernel"],  # a kernel for the notebooks, which not every peer brings
        )  # fmt: skip
        for step in steps:
            ran = subprocess.run(step, capture_output=True, text=True)
            if ran.returncode:
                errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")] or [""]
                raise NotHere(
                    f"{self.package} could not be installed, so it is not measured (is there an internet "
                    f"connection? the last error was: {errors[-1].removeprefix('ERROR: ')})"
                )

    def _version(self) -> str:
        (found,) = metadata.distributions(name=self.package, path=[str(_site_packages(self.folder))])
        return found.version

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def variables(self) -> dict[str, str]:
        """The environment's own programs and settings; nothing of ours and nothing of the home folder's."""
        home = PLACE / "home"
        home.mkdir(exist_ok=True)
        ours = re.compile("PYTHON|JUPYTER|IPYTHON|VIRTUAL_ENV")
        kept = {key: value for key, value in os.environ.items() if not ours.match(key)}
        return kept | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.folder), "HOME": str(home),
            "JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    def ask(self, *command: str, cwd: Path | None = None) -> str:
        """What one of its programs prints. Failed when it ends with an error."""
        line = [str(self.folder / "bin" / command[0]), *command[1:]]
        ran = subprocess.run(line, cwd=cwd, env=self.variables(), capture_output=True, text=True)
        if ran.returncode:
            last = "\n".join(ran.stderr.strip().splitlines()[-12:])
            raise Failed(f"`{' '.join(command)}` ended with status {ran.returncode}:\n{last}")
        return ran.stdout


def _site_packages(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _share_torch(folder: Path) -> None:
    """Let an environment import our torch, without installing it again, and without anything else of ours.

    A folder of links holds torch and what it needs. It stands last on the path: what a peer brought itself comes first.
    """
    links = PLACE / "torch"
    links.mkdir(exist_ok=True)
    for name in _needed_by("torch"):
        for top in {Path(file).parts[0] for file in metadata.files(name) or ()} - {"..", "__pycache__"}:
            link, target = links / top, Path(str(metadata.distribution(name).locate_file(top)))
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    (_site_packages(folder) / "torch-of-the-project.pth").write_text(f"{links}\n")


def _needed_by(package: str) -> list[str]:
    """`package` and everything it requires that is installed here."""
    found = [package, "numpy"]
    for name in found:
        for line in metadata.requires(name) or ():
            needed = re.match(r"[\w.-]+", line)[0]  # type: ignore[index]
            if "extra ==" in line or needed in found:
                continue
            try:
                metadata.distribution(needed)
            except metadata.PackageNotFoundError:
                continue  # for another platform
            found.append(needed)
    return found
