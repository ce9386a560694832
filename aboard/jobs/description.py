"""A job in words that belong to no machine."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aboard.errors import UserError


class Job(BaseModel):
    """What is to run, and on how much.

    script: a Python file, run by every rank with `args`. hours: of wall-clock time. gpus_per_node: all of a node's when
    absent. container: path of an image, or environment: path of a virtual environment; neither: what is on the path.
    data: folders it reads, beside its own. requeue: told some minutes before its time is over, it saves and goes back
    into the queue; signal_minutes: how many. env: variables for the ranks.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "train"
    script: str
    args: list[str] = []
    nodes: int = Field(1, ge=1)
    hours: float = Field(gt=0)
    gpus_per_node: int | None = Field(None, ge=1)
    container: str | None = None
    environment: str | None = None
    data: list[str] = []
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    requeue: bool = False
    signal_minutes: float = Field(3, gt=0)
    env: dict[str, str] = {}

    @field_validator("name", "account", "partition", "qos")
    @classmethod
    def _one_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.@:+-]+", value):
            raise ValueError(f"{value!r} has to be one word, of letters, digits and . _ - @")
        return value

    @field_validator("script", "container", "environment")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and (not value.strip() or "\n" in value):
            raise ValueError("it has to be a path")
        return value

    @field_validator("env")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ValueError(f"{name!r} is no name of a variable")
        return value

    def to_toml(self) -> str:
        """The description as a file that `read` takes; what was not said is left out."""
        known = self.model_dump(include={"nodes"}) | self.model_dump(exclude_defaults=True)
        known = {key: known[key] for key in type(self).model_fields if key in known}
        lines = ["[job]"]
        for key, value in known.items():
            if key != "env":
                lines.append(f"{key} = {_text(value)}")
        if self.env:
            lines += [
                "",
                "[job.env]",
                *(f"{k} = {_text(v)}" for k, v in self.env.items()),
            ]
        return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    """A value as TOML writes it: as JSON does, but for the one character that JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read(path: Path | None, **said: Any) -> Job:
    """The job in the file `path`, with what was said on the command line in place of what the file says.

    Raises UserError naming the key that is wrong.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{path} cannot be read as TOML: {error}.") from error
        values = table.get("job", {})
        others = sorted(set(table) - {"job"})
        if not isinstance(values, dict) or not values or others:
            found = f"; it has {', '.join(others)}" if others else ""
            raise UserError(f"{path} describes no job: all of it stands in one table, [job]{found}.")
    values |= {key: value for key, value in said.items() if value not in (None, [], {})}
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        where = f"{path}: " if path else ""
        if first["type"] == "missing":
            raise UserError(f"{where}the job says no {key}; add {key} = … or --{key}.") from error
        if first["type"] == "extra_forbidden":
            known = ", ".join(Job.model_fields)
            raise UserError(f"{where}a job has no {key}; it can say {known}.") from error
        words = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}{key} of the job: {words}.") from error
