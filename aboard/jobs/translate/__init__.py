"""What people have from the cloud → the description of a job, with notes on what has no counterpart.

cloud_job.py   `CloudJob`: what such a text says, whatever wrote it; its way to a `Job`
kubernetes.py  PyTorchJob, TrainJob, MPIJob, Job and Pod, as YAML
sagemaker.py   an estimator or ModelTrainer in Python, a CreateTrainingJob request as JSON
vertex.py      CustomJob in Python, worker pool specs as YAML or JSON
docker.py      a `docker run` line
command.py     the command of a container → the Python file and its arguments
calls.py       Python calls as data, read and never run
instances.py   GPUs of the clouds' machines

A text is read, never run; what it computes is asked of the user.
"""

from __future__ import annotations

import json
from typing import Any

from aboard.errors import UserError
from aboard.jobs.translate import docker, kubernetes, sagemaker, vertex
from aboard.jobs.translate.calls import calls
from aboard.jobs.translate.cloud_job import CloudJob, Translation, described
from aboard.sites.site import Site

LARGEST = 1 << 20  # characters; a job of the cloud is a page long
KNOWN = (
    "a Kubernetes PyTorchJob, TrainJob, MPIJob, Job or Pod (YAML), a SageMaker or Vertex AI call (Python, or the request "
    "as JSON or YAML), or a `docker run` line"
)


def translate(text: str, site: Site | None = None) -> Translation:
    """The description that comes nearest. Raises UserError when it is nothing that is known here."""
    if len(text) > LARGEST:
        raise UserError(
            f"This is longer than any job: {len(text)} characters. Give the one file that starts it."
        )
    found = _read(text)
    if found is None:
        raise UserError(f"This is none of what can be translated: {KNOWN}.")
    return described(found, site)


def _read(text: str) -> CloudJob | None:
    if docker.is_one(text):
        return docker.read(text)
    documents = _documents(text)
    for reader in (kubernetes.read, vertex.read, sagemaker.read):
        found = reader(documents) if documents else None
        if found is not None:
            return found
    try:
        found_calls = calls(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return sagemaker.read_calls(found_calls) or vertex.read_calls(found_calls)


def _documents(text: str) -> list[dict[str, Any]]:
    """The mappings in a JSON or YAML text; none when it is neither."""
    import yaml

    try:
        values = [json.loads(text)]
    except (ValueError, RecursionError):
        if "&" in text and "*" in text and text.count("*") > 1000:
            raise UserError("This YAML repeats parts of itself too often; write it out.") from None
        try:
            values = list(yaml.safe_load_all(text))
        except (yaml.YAMLError, ValueError, RecursionError):
            return []
    return [value for value in values if isinstance(value, dict)]
