"""PyTorchJob, TrainJob, MPIJob, Job and Pod of Kubernetes, as YAML or JSON."""

from __future__ import annotations

from typing import Any

from aboard.errors import UserError
from aboard.jobs.translate.cloud_job import CloudJob

# kind → where its groups of replicas stand
_REPLICAS = {"PyTorchJob": "pytorchReplicaSpecs", "MPIJob": "mpiReplicaSpecs"}
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915")
_BESIDE = {
    "Service": "a Service: nothing outside reaches a job, and the ranks find each other by the job's list of nodes",
    "PersistentVolumeClaim": "a PersistentVolumeClaim: the machine's file systems are there already; ask for quota, not volumes",
    "Secret": "a Secret: keep it in a file in your home that only you can read (chmod 600)",
    "ConfigMap": "a ConfigMap: put the file beside your script",
    "Namespace": "a Namespace: your project's account is what separates you from others",
    "ServiceAccount": "a ServiceAccount: a job runs as you",
}


def read(documents: list[dict[str, Any]]) -> CloudJob | None:
    """The first training among the documents."""
    if not any("kind" in document and "apiVersion" in document for document in documents):
        return None
    for document in documents:
        kind = str(document.get("kind"))
        reader = {
            "PyTorchJob": _replicas,
            "MPIJob": _replicas,
            "TrainJob": _train_job,
            "Job": _job,
            "Pod": _alone,
        }.get(kind)
        if reader is None:
            continue
        cloud = CloudJob(f"a Kubernetes {kind}", name=_text(_table(document, "metadata").get("name")))
        _metadata(cloud, _table(document, "metadata"))
        reader(cloud, kind, _table(document, "spec"))
        for other in documents:
            if other is not document and (also := _BESIDE.get(str(other.get("kind")))):
                cloud.note(f"Beside it: {also}.")
            elif other is not document:
                cloud.note(f"Beside it: a {other.get('kind')}, left out.")
        return cloud
    kinds = ", ".join(dict.fromkeys(str(document.get("kind")) for document in documents))
    raise UserError(
        f"This is Kubernetes ({kinds}), but no training: a PyTorchJob, TrainJob, MPIJob, Job or Pod is."
    )


def _replicas(cloud: CloudJob, kind: str, spec: dict[str, Any]) -> None:
    groups = _table(spec, _REPLICAS[kind])
    working = [name for name in groups if not (kind == "MPIJob" and name == "Launcher")]
    cloud.machines = max(1, sum(_whole(_table(groups, name).get("replicas"), 1) for name in working))
    first = "Launcher" if kind == "MPIJob" else "Master"
    main = _table(groups, first if first in groups else next(iter(groups), first))
    _pod(cloud, _table(_table(main, "template"), "spec"))
    workers = _container(_table(_table(_table(groups, "Worker"), "template"), "spec"))
    if kind == "MPIJob" and workers:  # the launcher says what is run, the workers where
        command = cloud.command
        _pod(cloud, _table(_table(_table(groups, "Worker"), "template"), "spec"))
        cloud.command = command or cloud.command
    if workers:
        theirs = _gpus(workers)
        if kind != "MPIJob" and (theirs or 0) != (cloud.gpus or 0):
            cloud.note(
                f"Master and workers have different numbers of GPUs ({cloud.gpus or 0} and {theirs or 0}); nodes here are alike.",
                "nodes",
            )
            cloud.gpus = max(theirs or 0, cloud.gpus or 0) or None
        if kind == "PyTorchJob" and (workers.get("args"), workers.get("command")) != (
            _main(main).get("args"),
            _main(main).get("command"),
        ):
            cloud.note(
                "Master and workers run different commands: here all nodes run the master's.", "script"
            )
    if cloud.gpus is None:
        cloud.gpus = _whole(spec.get("nprocPerNode"), 0) or None
    policy = _table(spec, "runPolicy")
    _time(cloud, policy.get("activeDeadlineSeconds"))
    if _whole(policy.get("backoffLimit"), 0) or _text(main.get("restartPolicy")) in (
        "OnFailure",
        "Always",
        "ExitCode",
    ):
        cloud.requeue = True
    if "elasticPolicy" in spec:
        cloud.note(
            "elasticPolicy: Slurm gives a fixed number of nodes for all of the job. A requeued job may ask for another.",
            "nodes",
        )
    if "schedulingPolicy" in policy:
        cloud.note("schedulingPolicy: Slurm starts a job when all its nodes are free, never a part of it.")


def _main(group: dict[str, Any]) -> dict[str, Any]:
    return _container(_table(_table(group, "template"), "spec"))


def _train_job(cloud: CloudJob, kind: str, spec: dict[str, Any]) -> None:
    trainer = _table(spec, "trainer")
    cloud.machines = max(1, _whole(trainer.get("numNodes"), 1))
    cloud.image = _text(trainer.get("image"))
    cloud.command = _words(trainer.get("command")) + _words(trainer.get("args"))
    cloud.gpus = (
        _gpus({"resources": _table(trainer, "resourcesPerNode")})
        or _whole(trainer.get("numProcPerNode"), 0)
        or None
    )
    _variables(cloud, trainer.get("env"))
    runtime = _text(_table(spec, "runtimeRef").get("name"))
    if runtime:
        cloud.note(
            f"The runtime {runtime} may say more (image, command, volumes) than this file does: look into it."
        )
    for what, where in _table(spec, "initializer").items():
        uri = _text(where.get("storageUri")) if isinstance(where, dict) else None
        if uri:
            cloud.data[what] = uri


def _job(cloud: CloudJob, kind: str, spec: dict[str, Any]) -> None:
    _pod(cloud, _table(_table(spec, "template"), "spec"))
    _time(cloud, spec.get("activeDeadlineSeconds"))
    cloud.requeue = _whole(spec.get("backoffLimit"), 0) > 0
    pods = _whole(spec.get("parallelism"), 1)
    completions = _whole(spec.get("completions"), pods)
    together = spec.get("completionMode") == "Indexed" and pods > 1 and completions == pods
    if together:
        cloud.machines = pods
        cloud.note(
            f"{pods} pods with an index each are taken as the {pods} machines of one training.", "nodes"
        )
    elif max(pods, completions) > 1:
        cloud.note(
            f"{completions} pods that do not know of each other, {pods} at a time: that is an array, sbatch --array=0-{completions - 1}%{pods}."
        )


def _alone(cloud: CloudJob, kind: str, spec: dict[str, Any]) -> None:
    _pod(cloud, spec)
    _time(cloud, spec.get("activeDeadlineSeconds"))


def _pod(cloud: CloudJob, spec: dict[str, Any]) -> None:
    container = _container(spec)
    cloud.image = _text(container.get("image"))
    cloud.command = _words(container.get("command")) + _words(container.get("args"))
    cloud.gpus = _gpus(container)
    _variables(cloud, container.get("env"))
    if container.get("envFrom"):
        cloud.note(
            "envFrom: variables came from a ConfigMap or Secret; put those that are no secrets under [job.env]."
        )
    if container.get("workingDir"):
        cloud.note(
            f"It began in {container['workingDir']} of the image; here it begins in the folder you submit in.",
            "script",
        )
    if container.get("ports"):
        cloud.note(
            "Ports: nobody outside reaches a compute node. From your machine: an ssh tunnel through a login node."
        )
    _volumes(cloud, spec, container)
    others = [_text(other.get("name")) or "?" for other in _tables(spec.get("containers"))[1:]]
    if others:
        cloud.note(
            f"Other containers of the pod ({', '.join(others)}) are left out: a job is one program. Start helpers from the script."
        )
    for first in _tables(spec.get("initContainers")):
        cloud.note(
            f"The init container {first.get('name', '?')} ran before: do its work once, before the job (data, models, packages)."
        )
    if any(
        key in spec
        for key in (
            "nodeSelector",
            "affinity",
            "tolerations",
            "topologySpreadConstraints",
            "priorityClassName",
        )
    ):
        cloud.note(
            "Where it may run (nodeSelector, affinity, tolerations, priority) is said by partition and qos here."
        )
    if spec.get("imagePullSecrets"):
        cloud.note("imagePullSecrets: log in to the registry once, by hand, where you pull the image.")
    if spec.get("hostNetwork") or spec.get("hostIPC") or spec.get("securityContext"):
        cloud.note(
            "hostNetwork, hostIPC, securityContext: a job uses the node's network and runs as you; there is nothing to set."
        )
    resources = _table(container, "resources")
    if any(key in _table(resources, group) for group in ("limits", "requests") for key in ("cpu", "memory")):
        cloud.note(
            "Limits on cpu and memory are left out: cores and memory go with the GPUs that you ask for."
        )
    if any(
        "rdma" in key or "efa" in key for group in ("limits", "requests") for key in _table(resources, group)
    ):
        cloud.note("RDMA devices are left out: the fast network is there for every job.")


def _volumes(cloud: CloudJob, spec: dict[str, Any], container: dict[str, Any]) -> None:
    known = {_text(volume.get("name")): volume for volume in _tables(spec.get("volumes"))}
    for mount in _tables(container.get("volumeMounts")):
        path, volume = _text(mount.get("mountPath")) or "?", known.get(_text(mount.get("name")), {})
        if path == "/dev/shm" or "emptyDir" in volume:
            if path != "/dev/shm":
                cloud.note(
                    f"{path} was scratch of the pod: use $TMPDIR, where the machine has one, or scratch."
                )
        elif "persistentVolumeClaim" in volume:
            cloud.data[path] = f"the volume claim {_table(volume, 'persistentVolumeClaim').get('claimName')}"
        elif "secret" in volume or "configMap" in volume:
            cloud.note(
                f"{path} held a secret or a configuration: put the file beside your script, or in your home with chmod 600."
            )
        elif "hostPath" in volume:
            cloud.data[path] = f"the folder {_table(volume, 'hostPath').get('path')} of each machine"
        else:
            kind = next((key for key in volume if key != "name"), "volume")
            cloud.data[path] = f"a {kind} volume"


def _variables(cloud: CloudJob, env: Any) -> None:
    for variable in _tables(env):
        name = _text(variable.get("name")) or "?"
        source = variable.get("valueFrom")
        if isinstance(source, dict):
            if "secretKeyRef" in source:
                cloud.note(
                    f"{name} came from a secret: keep it in a file in your home that only you can read (chmod 600), and read that."
                )
            else:
                cloud.note(
                    f"{name} came from {next(iter(source), 'the cluster')}, and is left out; Slurm's own are SLURM_JOB_ID, SLURM_PROCID and the like."
                )
        else:
            cloud.set_env(name, _text(variable.get("value")) or "")


def _metadata(cloud: CloudJob, metadata: dict[str, Any]) -> None:
    labels = {**_table(metadata, "labels"), **_table(metadata, "annotations")}
    if any("kueue" in str(label) or "volcano" in str(label) for label in labels):
        cloud.note("The queue in its labels: partition and qos say that here.")


def _time(cloud: CloudJob, seconds: Any) -> None:
    if _whole(seconds, 0) > 0:
        cloud.hours = _whole(seconds, 0) / 3600


def _gpus(container: dict[str, Any]) -> int | None:
    resources = _table(container, "resources")
    for group in ("limits", "requests"):
        for name, count in _table(resources, group).items():
            if name in _GPUS or str(name).startswith("nvidia.com/mig"):
                return _whole(count, 0) or None
    return None


def _container(spec: dict[str, Any]) -> dict[str, Any]:
    return next(iter(_tables(spec.get("containers"))), {})


def _table(of: dict[str, Any], key: str) -> dict[str, Any]:
    value = of.get(key)
    return value if isinstance(value, dict) else {}


def _tables(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _words(value: Any) -> list[str]:
    return (
        [str(word) for word in value]
        if isinstance(value, list)
        else [value]
        if isinstance(value, str)
        else []
    )


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)


def _whole(value: Any, default: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return default
