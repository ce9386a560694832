"""Results on disk: files first, a database made from them.

The JSON files are the truth. Workers write them, each atomically, `result.json` last: its presence means "done". One
process reads them into SQLite (no database is written by several processes, nor on a parallel file system), and a
database that is lost or damaged is made again from the files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from autograder.release import write_atomic
from autograder.verdict import Result


class StoreError(Exception):
    """The database cannot be written, for a reason outside of it: a full disk, a folder without permission."""


def write_result(folder: Path, result: Result, feedback_html: str, executed: str | None) -> None:
    """Write result.json, feedback.html and, when the notebook ran, executed.ipynb into `folder`.

    ValueError when the folder's name could lead elsewhere. OSError when it cannot be written.
    """
    for part in folder.parts[-2:]:
        if part in ("", ".", "..") or "\0" in part or "/" in part:
            raise ValueError(f"{part!r} cannot name a folder of results")
    folder.mkdir(parents=True, exist_ok=True)
    for draft in folder.glob(".*.tmp"):  # of a worker that was killed while it wrote
        draft.unlink(missing_ok=True)
    if executed is None:
        (folder / "executed.ipynb").unlink(missing_ok=True)
    else:
        write_atomic(folder / "executed.ipynb", executed.encode("utf-8", "replace"))
    write_atomic(folder / "feedback.html", feedback_html.encode("utf-8", "replace"))
    # Not pydantic's own JSON, which fails for a folder's name that is no Unicode.
    text = json.dumps(result.model_dump(by_alias=True), ensure_ascii=False, indent=1) + "\n"
    write_atomic(folder / "result.json", text.encode("utf-8", "replace"))


def read_result(path: Path) -> Result | None:
    """The result in a result.json; None when there is none or it is not whole, so that it is graded again."""
    try:
        return Result.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def ingest(results: Path, url: str | None = None) -> int:
    """Bring every RESULTS/*/*/result.json into the database; how many there are.

    `url` is an SQLAlchemy URL, whose tables then hold what the files hold and nothing else. When None, a new
    RESULTS/results.sqlite takes the place of the old one, so that a reader sees one or the other, and a file that was
    damaged does not matter. Raises StoreError when it cannot be written.
    """
    import sqlalchemy as sql

    made = results / ".results.sqlite.new"
    try:
        if url is not None:
            return _ingest(results, url)
        made.unlink(missing_ok=True)
        count = _ingest(results, f"sqlite:///{made.absolute()}")
        os.replace(made, results / "results.sqlite")
        return count
    except sql.exc.DatabaseError as error:
        if url is None:
            made.unlink(missing_ok=True)
        raise StoreError(str(error.orig)) from None


def _tables() -> tuple[Any, Any, Any]:
    import sqlalchemy as sql

    metadata = sql.MetaData()
    submissions = sql.Table(
        "submissions", metadata,
        sql.Column("learner", sql.String, primary_key=True), sql.Column("exercise", sql.String, primary_key=True),
        sql.Column("status", sql.String, nullable=False), sql.Column("score", sql.Float, nullable=False),
        sql.Column("max_score", sql.Float, nullable=False), sql.Column("message", sql.String, nullable=False),
        sql.Column("seed", sql.String, nullable=False), sql.Column("engine", sql.String, nullable=False),
        sql.Column("wall_s", sql.Float, nullable=False), sql.Column("sha256", sql.String, nullable=False),
    )  # fmt: skip
    checks = sql.Table(
        "checks", metadata,
        sql.Column("learner", sql.String, primary_key=True), sql.Column("exercise", sql.String, primary_key=True),
        sql.Column("check", sql.String, primary_key=True), sql.Column("position", sql.Integer, nullable=False),
        sql.Column("status", sql.String, nullable=False), sql.Column("points", sql.Float, nullable=False),
        sql.Column("max_points", sql.Float, nullable=False), sql.Column("diagnosis", sql.String),
    )  # fmt: skip
    return metadata, submissions, checks


def _ingest(results: Path, url: str) -> int:
    import sqlalchemy as sql

    metadata, submissions, checks = _tables()
    engine = sql.create_engine(url)
    count = 0
    try:
        metadata.create_all(engine)
        with engine.begin() as connection:  # one transaction: a reader sees the old state or the new one
            connection.execute(checks.delete())
            connection.execute(submissions.delete())
            for path in sorted(results.glob("*/*/result.json")):
                result = read_result(path)
                if result is None:
                    continue
                count += 1
                key = {"learner": _unicode(path.parent.parent.name), "exercise": _unicode(path.parent.name)}
                connection.execute(submissions.insert().values(
                    **key, status=result.status, score=result.score, max_score=result.max_score, message=result.message,
                    seed=result.seed, engine=result.engine, wall_s=result.resources.wall_s,
                    sha256=result.submission_sha256,
                ))  # fmt: skip
                rows: list[dict[str, Any]] = [
                    key | {"check": c.id, "position": i, "status": c.status, "points": c.points,
                           "max_points": c.max_points, "diagnosis": c.diagnosis}
                    for i, c in enumerate(result.checks)
                ]  # fmt: skip
                if rows:
                    connection.execute(checks.insert(), rows)
    finally:
        engine.dispose()
    return count


def _unicode(name: str) -> str:
    """The name of a folder, also when its bytes are no UTF-8; two names never become one."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def schema() -> dict[str, Any]:
    """The JSON Schema of result.json, as committed in result.schema.json."""
    return Result.model_json_schema(by_alias=True)


if __name__ == "__main__":  # python -m autograder.store: write the schema again after verdict.py has changed
    path = Path(__file__).with_name("result.schema.json")
    path.write_text(json.dumps(schema(), indent=1) + "\n")
