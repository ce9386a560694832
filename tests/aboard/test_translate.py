"""What people have from the cloud becomes a description that `aboard job` takes, with notes on what has no counterpart."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aboard.errors import UserError
from aboard.jobs.description import Job, read
from aboard.jobs.render import render
from aboard.jobs.translate import translate
from aboard.jobs.translate.command import split
from aboard.sites.site import load, names

CLOUD = sorted((Path(__file__).parent / "cloud").iterdir())


def translated(name, site=None):
    return translate((Path(__file__).parent / "cloud" / name).read_text(), load(site) if site else None)


def notes(translation, key=None):
    return " ".join(text for about, text in translation.notes if key in (None, about))


# --- what comes out is a description


@pytest.mark.parametrize("path", CLOUD, ids=lambda path: path.name)
def test_what_is_printed_is_read_back_and_makes_a_script(path, tmp_path):
    site = load("leonardo")
    found = translate(path.read_text(), site)
    (tmp_path / "job.toml").write_text(found.as_toml())
    again = read(tmp_path / "job.toml")
    assert again == found.job
    script = render(again.model_copy(update={"account": "EUHPC_A01_001"}), site)
    assert again.script in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("pytorchjob.yaml", dict(name="llm-pretrain", script="pretrain.py", args=["--lr", "3e-4", "--data", "/corpus"], nodes=3, gpus_per_node=8, hours=48, requeue=True, env={"NCCL_DEBUG": "INFO"}, data=["/corpus"], container="pytorch-25.01-py3.sif")),
        ("trainjob.yaml", dict(name="finetune", script="finetune.py", args=["--epochs", "3"], nodes=2, gpus_per_node=4, hours=24, requeue=False, data=["dataset"])),
        ("job.yaml", dict(name="sweep", script="sweep/train.py", args=[], nodes=1, gpus_per_node=1, requeue=True)),
        ("sagemaker_estimator.py", dict(script="src/train.py", args=["--epochs", "3", "--lr", "0.0001", "--bf16", "True"], nodes=3, gpus_per_node=8, hours=36, requeue=True, data=["data/train", "data/valid"])),
        ("sagemaker_model_trainer.py", dict(name="depth-12", script="code/main.py", args=["--depth", "12"], nodes=2, gpus_per_node=8, hours=2, requeue=False, data=["data/train"])),
        ("sagemaker_request.json", dict(name="pretrain-7", script="train.py", args=["--lr", "0.1"], nodes=2, gpus_per_node=4, hours=1.5)),
        ("vertex_config.yaml", dict(name="vision", script="train.py", args=["--data=/gcs/acme/images"], nodes=5, gpus_per_node=4, hours=12, requeue=True)),
        ("vertex_sdk.py", dict(name="segmenter", script="trainer/task.py", args=["--epochs", "10"], nodes=1, gpus_per_node=2, env={})),
        ("docker.sh", dict(name="resnet", script="train.py", args=["--data", "/data", "--note", "two words"], nodes=1, gpus_per_node=4, data=["/data"], env={"NCCL_DEBUG": "INFO"})),
    ],
)  # fmt: skip
def test_it_says_what_the_cloud_was_told(name, job):
    found = translated(name).job
    assert {key: getattr(found, key) for key in job} == job


# --- nodes are counted as the machine has them


@pytest.mark.parametrize(
    ("site", "nodes", "gpus_per_node"),
    [("leonardo", 6, None), ("lumi", 3, None), ("karolina", 3, None), ("jupiter", 6, None)],
)
def test_as_many_gpus_take_other_numbers_of_nodes_elsewhere(site, nodes, gpus_per_node):
    found = translated("pytorchjob.yaml", site).job  # 3 machines with 8 GPUs
    assert (found.nodes, found.gpus_per_node) == (nodes, gpus_per_node)


def test_less_than_a_node_is_one_node_with_less():
    found = translated("docker.sh", "lumi")
    assert (found.job.nodes, found.job.gpus_per_node) == (1, 4)
    assert "one is enough" in notes(found, "nodes")


def test_what_is_no_whole_number_of_nodes_is_rounded_up_and_said():
    text = (Path(__file__).parent / "cloud" / "vertex_config.yaml").read_text()  # 5 machines with 4
    found = translate(text, load("karolina"))
    assert found.job.nodes == 3
    assert "20 in all" in notes(found, "nodes") and "24" in notes(found, "nodes")


def test_smaller_and_other_gpus_are_said():
    assert "64 GB, not 80" in notes(translated("sagemaker_model_trainer.py", "leonardo"), "nodes")
    assert "ROCm" in notes(translated("pytorchjob.yaml", "lumi"), "container")
    assert "aarch64" in notes(translated("pytorchjob.yaml", "jupiter"), "container")


# --- what has no counterpart is said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pytorchjob.yaml", ["volume claim corpus", "came from a secret", "ran at the start", "PersistentVolumeClaim", "MASTER_PORT", "nodeSelector", "singularity pull"]),
        ("trainjob.yaml", ["runtime torch-distributed", "hf://tatsu-lab/alpaca"]),
        ("job.yaml", ["sbatch --array=0-11%4", "-m sweep.train"]),
        ("sagemaker_estimator.py", ["Spot", "s3://acme/corpus/train", "SM_CHANNEL", "role", "No image is named"]),
        ("sagemaker_model_trainer.py", ["asks who you are", "Packages were installed"]),
        ("sagemaker_request.json", ["s3://acme/train"]),
        ("vertex_config.yaml", ["reduction servers", "/gcs/acme/images"]),
        ("vertex_sdk.py", ["computed (int(sys.argv[1]))", "looks like a secret", "How long"]),
        ("docker.sh", ["6006", "--shm-size", "HF_TOKEN came from your own environment"]),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_a_note(name, said):
    text = notes(translated(name))
    assert [part for part in said if part not in text] == []


def test_an_mpi_job_is_what_its_launcher_runs_where_its_workers_are():
    found = translated("mpijob.yaml", "leonardo")
    assert found.job.args == ["--data", "/mnt/data/shards"] and found.job.data == ["/mnt/data"]
    assert (found.job.nodes, found.job.gpus_per_node, found.job.env) == (4, None, {"NCCL_DEBUG": "INFO"})
    assert "volume claim corpus" in notes(found, "data") and "WANDB_API_KEY came from a secret" in notes(
        found
    )


def test_the_clouds_network_is_left_there():
    found = translate(
        "docker run -e NCCL_SOCKET_IFNAME=eth0 -e FI_PROVIDER=efa -e NCCL_DEBUG=INFO img python t.py"
    )
    assert found.job.env == {"NCCL_DEBUG": "INFO"} and "NCCL_SOCKET_IFNAME is left out" in notes(found)


def test_hyperparameters_are_read_however_they_are_written_and_never_lost_in_silence():
    text = "hp = {}\nPyTorch(entry_point='t.py', instance_type='ml.p5.48xlarge', hyperparameters=hp)"
    assert translate(text.format("dict(epochs=3)")).job.args == ["--epochs", "3"]
    assert "computed (load())" in notes(translate(text.format("load()")), "script")


def test_a_secret_is_never_written_down():
    assert "hf_not_a_real_one" not in translated("vertex_sdk.py").as_toml()
    found = translate("docker run -e WANDB_API_KEY=abc123 -e A=1 img python t.py")
    assert "abc123" not in found.as_toml() and found.job.env == {"A": "1"}


# --- commands


@pytest.mark.parametrize(
    ("command", "script", "args", "ranks"),
    [
        (["python", "train.py", "--x"], "train.py", ["--x"], None),
        (["python3", "-u", "-m", "pkg.train", "1"], "pkg/train.py", ["1"], None),
        (["torchrun", "--nnodes", "2", "--nproc_per_node", "8", "a/t.py"], "a/t.py", [], 8),
        (["torchrun", "--nproc-per-node=4", "-m", "pkg.t", "-v"], "pkg/t.py", ["-v"], 4),
        (["python", "-m", "torch.distributed.run", "--nproc_per_node=2", "t.py"], "t.py", [], 2),
        (["accelerate", "launch", "--num_processes", "8", "t.py", "--lr", "1"], "t.py", ["--lr", "1"], 8),
        (["mpirun", "-np", "16", "python", "t.py"], "t.py", [], None),
        (["sh", "-c", "cd /app && exec torchrun t.py --name 'a b'"], "t.py", ["--name", "a b"], None),
        (["/entrypoint"], None, [], None),
    ],
)
def test_commands(command, script, args, ranks):
    found = split(command)
    assert (found.script, found.args, found.ranks) == (script, args, ranks)


def test_variables_that_a_command_sets_are_the_jobs():
    assert split(["sh", "-c", "A=1 mpirun -np 2 -x B=2 -x PATH python t.py -x C=3"]).env == {
        "A": "1",
        "B": "2",
    }


# --- what it cannot read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "none of what can be translated"),
        ("hello: world\n", "none of what can be translated"),
        ("print('hello')\n", "none of what can be translated"),
        ("apiVersion: v1\nkind: Service\n", "Kubernetes (Service), but no training"),
        ("docker run -it", "names no image"),
        ("docker run 'img", "a quote left open"),
        ("x" * (1 << 21), "longer than any job"),
        ("a: &a [1]\nb: " + "[" + "*a," * 2000 + "]", "repeats parts of itself"),
        ("[" * 5_000, "none of what can be translated"),
    ],
)
def test_what_is_no_job_is_a_sentence(text, says):
    with pytest.raises(UserError) as error:
        translate(text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_program_is_read_and_not_run(tmp_path):
    mark = tmp_path / "ran"
    text = (
        f"open({str(mark)!r}, 'w')\n"
        + (Path(__file__).parent / "cloud" / "sagemaker_estimator.py").read_text()
    )
    translate(text)
    assert not mark.exists()


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


GOOD = [
    json.dumps(list(yaml.safe_load_all((Path(__file__).parent / "cloud" / name).read_text()))[-1])
    for name in ("pytorchjob.yaml", "mpijob.yaml", "trainjob.yaml", "job.yaml", "vertex_config.yaml", "sagemaker_request.json")
]  # fmt: skip
SITES = [load("leonardo"), load("lumi")]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_bent_job_is_translated_or_refused_in_words(data):
    """Any part of a good job replaced by anything: a description that is valid, or one sentence."""
    node = json.loads(data.draw(st.sampled_from(GOOD)))
    top = node
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(trees)
        break
    try:
        found = translate(json.dumps(top), data.draw(st.sampled_from(SITES)))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert Job.model_validate(tomllib.loads(found.as_toml())["job"]) == found.job


@pytest.mark.parametrize("site", [name for name in names() if not load(name).planned()])
def test_every_machine_counts(site):
    found = translated("sagemaker_estimator.py", site)  # 24 GPUs
    size = load(site).gpus_per_node_slurm
    assert found.job.nodes * (found.job.gpus_per_node or size) >= 24
