"""A custom training job on Vertex AI: worker pool specs as YAML, JSON or in Python, or the SDK's training classes."""

from __future__ import annotations

import re
from typing import Any

from aboard.jobs.translate import instances
from aboard.jobs.translate.calls import Call, Computed, plain
from aboard.jobs.translate.cloud_job import CloudJob

_JOBS = (
    "CustomJob",
    "CustomTrainingJob",
    "CustomContainerTrainingJob",
    "CustomPythonPackageTrainingJob",
    "from_local_script",
)


def read(documents: list[dict[str, Any]]) -> CloudJob | None:
    """Worker pools in a `gcloud ai custom-jobs create --config` file, or in the request of the API."""
    top = _camel(documents[0])
    spec = _table(top, "jobSpec") or top
    pools = spec.get("workerPoolSpecs")
    if not isinstance(pools, list):
        return None
    cloud = CloudJob("a Vertex AI CustomJob", name=_text(top.get("displayName")))
    _pools(cloud, pools)
    _scheduling(cloud, spec.get("scheduling"))
    _of_google(cloud, spec)
    return cloud


def read_calls(calls: list[Call]) -> CloudJob | None:
    """The first training job in a program, with what its `run` says."""
    call = next((call for call in calls if call.name in _JOBS), None)
    if call is None:
        return None
    run = next(
        (other for other in calls if other.name in ("run", "submit") and other.line >= call.line), None
    )
    said = _camel({**call.by_name, **(run.by_name if run else {})})
    cloud = CloudJob(f"a Vertex AI {call.name}, line {call.line}", name=_text(said.get("displayName")))
    if isinstance(said.get("workerPoolSpecs"), list):
        _pools(cloud, said["workerPoolSpecs"])
    else:
        count = said.get("replicaCount", 1)
        if isinstance(count, int):
            cloud.machines = max(1, count)
        else:
            cloud.note(
                f"How many machines is computed ({plain(count)}): 1 is written here; put your number.",
                "nodes",
            )
        _machine(cloud, said)
        cloud.image = _text(said.get("containerUri"))
        script, module = _text(said.get("scriptPath")), _text(said.get("pythonModuleName"))
        cloud.command = [str(plain(word)) for word in _list(said.get("command"))]
        if not cloud.command and script:
            cloud.command = ["python", script]
        elif not cloud.command and module:
            cloud.command = ["python", "-m", module]
        cloud.command += [str(plain(word)) for word in _list(said.get("args"))]
        _environment(cloud, said.get("environmentVariables"))
        if said.get("requirements"):
            cloud.note(
                "Packages were installed at the start: compute nodes mostly reach nothing outside; install them once, into an environment."
            )
    seconds = said.get("timeout")
    if isinstance(seconds, int):
        cloud.hours = seconds / 3600
    cloud.requeue = cloud.requeue or said.get("restartJobOnWorkerRestart") is True
    _of_google(cloud, said)
    return cloud


def _pools(cloud: CloudJob, pools: list[Any]) -> None:
    """Pool 0 is the chief; what other pools have is more of the same, or a reduction server."""
    tables = [_camel(pool) for pool in pools if isinstance(pool, dict)]
    working = []
    for pool in tables:
        if "reductionserver" in (_text(_table(pool, "containerSpec").get("imageUri")) or "").replace(
            "-", ""
        ).replace("_", ""):
            cloud.note(
                "The pool of reduction servers is left out: the ranks' own all-reduce runs over the fast network.",
                "nodes",
            )
        elif pool:
            working.append(pool)
    if not working:
        return
    cloud.machines = sum(_whole(pool.get("replicaCount"), 1) for pool in working) or 1
    first = working[0]
    if any(_table(pool, "machineSpec") != _table(first, "machineSpec") for pool in working):
        cloud.note(
            "Pools have different machines: nodes of a job are alike here, and the first pool's are counted.",
            "nodes",
        )
    _machine(cloud, _table(first, "machineSpec"))
    container, package = _table(first, "containerSpec"), _table(first, "pythonPackageSpec")
    cloud.image = _text(container.get("imageUri") or package.get("executorImageUri"))
    cloud.command = [str(plain(word)) for word in _list(container.get("command"))]
    if package.get("pythonModule"):
        cloud.command = ["python", "-m", str(package["pythonModule"])]
        cloud.note(
            "The package came from a bucket: install it once, into an environment, or put its folder beside the job.",
            "script",
        )
    cloud.command += [str(plain(word)) for word in _list(container.get("args") or package.get("args"))]
    _environment(cloud, container.get("env") or package.get("env"))


def _machine(cloud: CloudJob, said: dict[str, Any]) -> None:
    kind, accelerator, count = (
        said.get("machineType"),
        said.get("acceleratorType"),
        said.get("acceleratorCount"),
    )
    known = instances.google(kind) if isinstance(kind, str) else None
    if known is not None:
        cloud.gpu, cloud.gpu_gb, cloud.gpus = known
    if isinstance(accelerator, str):
        if "TPU" in accelerator:
            cloud.note(
                f"{accelerator}: the code has to be brought from XLA to PyTorch on GPUs first.", "nodes"
            )
        elif accelerator in instances.ACCELERATORS:
            cloud.gpu, cloud.gpu_gb = instances.ACCELERATORS[accelerator]
        else:
            cloud.gpu = accelerator.removeprefix("NVIDIA_").replace("_", " ")
    if isinstance(kind, str) and kind.startswith("ct"):
        cloud.note(f"{kind} has TPUs: the code has to be brought from XLA to PyTorch on GPUs first.", "nodes")
    if _whole(count, 0):
        cloud.gpus = _whole(count, 0)
    elif isinstance(count, Computed):
        cloud.note(f"How many GPUs a machine has is computed ({count.text}); put your number.", "nodes")


def _scheduling(cloud: CloudJob, scheduling: Any) -> None:
    said = _camel(scheduling) if isinstance(scheduling, dict) else {}
    limit = re.fullmatch(r"(\d+(?:\.\d+)?)s?", str(said.get("timeout", "")))
    if limit:
        cloud.hours = float(limit[1]) / 3600
    if said.get("restartJobOnWorkerRestart") is True:
        cloud.requeue = True
    if said.get("strategy") in ("SPOT", "FLEX_START"):
        cloud.requeue = True
        cloud.note(
            "Spot machines: there are none. What comes near is a job that saves, is put back into the queue, and goes on.",
            "requeue",
        )


def _of_google(cloud: CloudJob, said: dict[str, Any]) -> None:
    if said.get("baseOutputDirectory") or said.get("baseOutputDir") or said.get("stagingBucket"):
        cloud.note(
            "Buckets for results and code: results stay where the script writes them; submit from the folder of the code."
        )
    if any(
        said.get(key)
        for key in ("serviceAccount", "network", "tensorboard", "reservedIpRanges", "persistentResourceId")
    ):
        cloud.note(
            "serviceAccount, network, tensorboard: left out. You are your account on the machine; write logs to a file."
        )
    buckets = [word for word in cloud.command if re.search(r"(gs://|/gcs/)", word)]
    for word in buckets:
        path = word[min(at for at in (word.find("gs://"), word.find("/gcs/")) if at >= 0) :]
        cloud.note(
            f"{path} is in a bucket, which nobody mounts here: bring it once, and write its path in args.",
            "args",
        )


def _environment(cloud: CloudJob, env: Any) -> None:
    pairs = (
        env.items()
        if isinstance(env, dict)
        else [(item.get("name"), item.get("value")) for item in _list(env) if isinstance(item, dict)]
    )
    for name, value in pairs:
        cloud.set_env(str(name), str(plain(value)))


def _camel(table: dict[Any, Any]) -> dict[str, Any]:
    """Keys as the API writes them: machine_type → machineType."""
    return {re.sub(r"_(\w)", lambda found: found[1].upper(), str(key)): value for key, value in table.items()}


def _table(of: dict[str, Any], key: str) -> dict[str, Any]:
    value = of.get(key)
    return _camel(value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any, default: int) -> int:
    return (
        value
        if isinstance(value, int)
        else int(value)
        if isinstance(value, str) and value.isdigit()
        else default
    )
