"""A training on SageMaker: an estimator or ModelTrainer in Python, or the CreateTrainingJob request as JSON."""

from __future__ import annotations

from typing import Any

from aboard.jobs.translate import instances
from aboard.jobs.translate.calls import Call, Computed, plain
from aboard.jobs.translate.cloud_job import CloudJob

_ESTIMATORS = ("PyTorch", "Estimator", "HuggingFace", "TensorFlow", "ModelTrainer")
_OF_AWS = (
    "role", "subnets", "security_group_ids", "tags", "volume_kms_key", "output_kms_key", "encrypt_inter_container_traffic",
    "enable_network_isolation", "sagemaker_session", "networking",
)  # fmt: skip


def read_calls(calls: list[Call]) -> CloudJob | None:
    """The first estimator in a program, with the inputs of its `fit` or `train`."""
    request = next(
        (call for call in calls if call.name == "create_training_job" and "ResourceConfig" in call.by_name),
        None,
    )
    if request is not None:
        return read([request.by_name])
    call = next(
        (
            call
            for call in calls
            if call.name in _ESTIMATORS
            and (
                "instance_type" in call.by_name
                or "train_instance_type" in call.by_name
                or "compute" in call.by_name
            )
        ),
        None,
    )
    if call is None:
        return None
    said = {
        key.removeprefix("train_") if key.startswith("train_") else key: value
        for key, value in call.by_name.items()
    }
    cloud = CloudJob(f"a SageMaker {call.name}, line {call.line}", hours=24)
    _compute(cloud, said)
    _code(cloud, said)
    cloud.name = _known(cloud, said.get("base_job_name"), "name")
    image = said.get("image_uri") or said.get("training_image")
    cloud.image = _known(cloud, image, "container")
    for version in ("framework_version", "transformers_version", "pytorch_version"):
        if isinstance(said.get(version), str):
            cloud.note(
                f"{version} was {said[version]}: look for the same in the machine's modules or images."
            )
    for name, value in _mapping(said.get("environment")).items():
        cloud.set_env(str(name), str(plain(value)))
    _seconds(cloud, said)
    inputs = next(
        (call for call in calls if call.name in ("fit", "train") and (call.by_position or call.by_name)), None
    )
    if inputs is not None:
        _inputs(
            cloud,
            inputs.by_position[0]
            if inputs.by_position
            else inputs.by_name.get("inputs", inputs.by_name.get("input_data_config")),
        )
    elif "input_data_config" in said:
        _inputs(cloud, said["input_data_config"])
    _distribution(cloud, said.get("distribution", said.get("distributed")))
    if said.get("use_spot_instances") is True:
        cloud.requeue = True
        cloud.note(
            "Spot instances: there are none. What comes near is a job that saves, is put back into the queue, and goes on.",
            "requeue",
        )
    if "checkpoint_s3_uri" in said or "checkpoint_config" in said:
        cloud.requeue = True
        cloud.note(
            "Checkpoints went to S3 by themselves: here the script writes them to scratch or work, and reads them at its start.",
            "requeue",
        )
    if "output_path" in said:
        cloud.note(
            "output_path: results stay where the script writes them. Copy them out when the project ends: nothing is kept for ever."
        )
    dropped = [key for key in _OF_AWS if key in said]
    if dropped:
        cloud.note(
            f"{', '.join(dropped)}: left out. You are your account on the machine, and your project pays."
        )
    if said.get("metric_definitions") or said.get("debugger_hook_config") or said.get("profiler_config"):
        cloud.note(
            "Metrics, debugger and profiler of SageMaker: write metrics to a file; trackers have to run offline and be synced later."
        )
    return cloud


def read(documents: list[dict[str, Any]]) -> CloudJob | None:
    """A CreateTrainingJob request."""
    request = documents[0]
    resources = request.get("ResourceConfig")
    if not isinstance(resources, dict):
        return None
    cloud = CloudJob(
        "a SageMaker CreateTrainingJob request",
        hours=24,
        name=_known(None, request.get("TrainingJobName"), ""),
    )
    _instance(cloud, resources.get("InstanceType"), resources.get("InstanceCount"))
    algorithm = _mapping(request.get("AlgorithmSpecification"))
    cloud.image = _known(cloud, algorithm.get("TrainingImage"), "container")
    parameters = _mapping(request.get("HyperParameters"))
    cloud.command = [
        str(word)
        for word in _list(algorithm.get("ContainerEntrypoint")) + _list(algorithm.get("ContainerArguments"))
    ]
    program = parameters.get("sagemaker_program")
    if not cloud.command and program:
        cloud.command = ["python", str(program)]
    cloud.command += _arguments(
        {key: value for key, value in parameters.items() if not str(key).startswith("sagemaker_")}
    )
    for name, value in _mapping(request.get("Environment")).items():
        cloud.set_env(str(name), str(plain(value)))
    limit = _mapping(request.get("StoppingCondition")).get("MaxRuntimeInSeconds")
    if isinstance(limit, int):
        cloud.hours = limit / 3600
    for channel in _list(request.get("InputDataConfig")):
        uri = _mapping(_mapping(_mapping(channel).get("DataSource")).get("S3DataSource")).get("S3Uri")
        _channel(cloud, str(_mapping(channel).get("ChannelName")), uri)
    if request.get("EnableManagedSpotTraining") or request.get("CheckpointConfig"):
        cloud.requeue = True
        cloud.note(
            "Spot and checkpoints to S3: here the job saves to scratch, is put back into the queue, and goes on.",
            "requeue",
        )
    cloud.note(
        "RoleArn, OutputDataConfig and the like are left out: you are your account on the machine; results stay where they are written."
    )
    return cloud


def _compute(cloud: CloudJob, said: dict[str, Any]) -> None:
    compute = said.get("compute")
    if isinstance(compute, Call):
        said |= {
            key: compute.by_name[key] for key in ("instance_type", "instance_count") if key in compute.by_name
        }
    if "instance_groups" in said:
        cloud.note("Groups of different instances: nodes of a job are alike here.", "nodes")
    _instance(cloud, said.get("instance_type"), said.get("instance_count", 1))


def _instance(cloud: CloudJob, kind: Any, count: Any) -> None:
    if isinstance(count, int):
        cloud.machines = max(1, count)
    elif count is not None:
        cloud.note(
            f"How many machines is computed ({plain(count)}): 1 is written here; put your number.", "nodes"
        )
    if not isinstance(kind, str):
        cloud.note(
            f"The type of machine is computed ({plain(kind)}): its number of GPUs is not known here.",
            "nodes",
        )
        return
    known = instances.amazon(kind)
    if known is not None:
        cloud.gpu, cloud.gpu_gb, cloud.gpus = known
    elif kind.removeprefix("ml.").startswith(("trn", "inf")):
        cloud.note(
            f"{kind} has Amazon's own accelerators: the code has to be brought to CUDA or ROCm first.",
            "nodes",
        )
    else:
        cloud.note(f"{kind} has no GPU, or one that is not known here.", "nodes")


def _code(cloud: CloudJob, said: dict[str, Any]) -> None:
    source = said.get("source_code")
    if isinstance(source, Call):
        said |= {
            "source_dir": source.by_name.get("source_dir"),
            "entry_point": source.by_name.get("entry_script"),
            "requirements": source.by_name.get("requirements"),
        }
        command = source.by_name.get("command")
        if isinstance(command, str):
            cloud.command = ["sh", "-c", command]
    script = _known(cloud, said.get("entry_point"), "script")
    folder = _known(cloud, said.get("source_dir"), "script")
    if script and not cloud.command:
        inside = folder and not folder.startswith("s3://") and folder not in (".", "./")
        cloud.command = ["python", f"{folder.rstrip('/')}/{script}" if inside and folder else script]
    if folder and folder.startswith("s3://"):
        cloud.note(
            f"The code came from {folder}: copy it to the machine, and submit from its folder.", "script"
        )
    if said.get("requirements") or said.get("dependencies"):
        cloud.note(
            "Packages were installed at the start: compute nodes mostly reach nothing outside; install them once, into an environment."
        )
    parameters = said.get("hyperparameters")
    if isinstance(parameters, Computed | Call):
        cloud.note(f"The hyperparameters are computed ({plain(parameters)}); write them here.", "script")
    cloud.command += _arguments(_mapping(parameters))


def _seconds(cloud: CloudJob, said: dict[str, Any]) -> None:
    limit = said.get("max_run")
    stopping = said.get("stopping_condition")
    if isinstance(stopping, Call):
        limit = stopping.by_name.get("max_runtime_in_seconds", limit)
    if isinstance(limit, int | float):
        cloud.hours = limit / 3600
    elif limit is not None:
        cloud.note(f"How long is computed ({plain(limit)}): 24 h is written here; put your own.", "hours")
    else:
        cloud.note("How long is not said; 24 h is what SageMaker's estimators take then.", "hours")


def _inputs(cloud: CloudJob, inputs: Any) -> None:
    if isinstance(inputs, dict):
        for channel, where in inputs.items():
            _channel(cloud, str(channel), where)
    elif isinstance(inputs, list):
        for item in inputs:
            if isinstance(item, Call):
                _channel(
                    cloud, str(item.by_name.get("channel_name", "training")), item.by_name.get("data_source")
                )
    elif inputs is not None:
        _channel(cloud, "training", inputs)


def _channel(cloud: CloudJob, channel: str, where: Any) -> None:
    if isinstance(where, Call):  # TrainingInput("s3://…")
        where = (
            where.by_position[0]
            if where.by_position
            else where.by_name.get("s3_data", where.by_name.get("s3_uri"))
        )
    path = f"data/{channel}"
    cloud.data[path] = str(plain(where)) if where else "S3"
    cloud.env[f"SM_CHANNEL_{channel.upper()}"] = path
    cloud.env.setdefault("SM_MODEL_DIR", "model")
    cloud.note("SM_CHANNEL_… and SM_MODEL_DIR are set, so that a script that reads them runs as it is.")


def _distribution(cloud: CloudJob, how: Any) -> None:
    names = list(how) if isinstance(how, dict) else [how.name] if isinstance(how, Call) else []
    if any("smd" in str(name).lower() or "smp" in str(name).lower() for name in names):
        cloud.note(
            "SageMaker's own library for distributed training is not here: use PyTorch's DistributedDataParallel or fully_shard."
        )
    elif "mpi" in names or "MPI" in names:
        cloud.note(
            "MPI started the ranks: the job script does, and sets RANK, LOCAL_RANK and WORLD_SIZE for them."
        )
    elif not names and cloud.gpus and cloud.machines * cloud.gpus > 1:
        cloud.note(
            "Nothing says how ranks were started: the script has to call init_process_group, or every rank trains for itself."
        )


def _arguments(parameters: dict[Any, Any]) -> list[str]:
    """Hyperparameters as SageMaker hands them to a script."""
    return [word for name, value in parameters.items() for word in (f"--{name}", str(plain(value)))]


def _known(cloud: CloudJob | None, value: Any, key: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if cloud is not None:
        cloud.note(f"A part is computed in the program ({plain(value)}); put it yourself.", key)
    return None


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
