"""Profiles of machines: complete, sourced, honest about what is not known, and usable from the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aboard.cluster import shape
from aboard.errors import UserError
from aboard.sites import show, site
from aboard.sites.verify import Answers, compare

ROOT = Path(__file__).parents[2]
SITES = [
    "alps", "deucalion", "discoverer", "jean-zay", "jupiter", "juwels-booster", "karolina", "leonardo", "lumi",
    "marenostrum5", "meluxina", "snellius", "vega",
]  # fmt: skip
PLANNED = ["alice-recoque", "lumi-ai"]


def test_every_machine_of_the_mission_has_a_folder():
    assert site.names() == sorted(SITES + PLANNED)


@pytest.mark.parametrize("name", SITES + PLANNED)
def test_every_fact_of_a_profile_has_a_source(name):
    found = site.load(name)
    for group, rows in show.facts(found).items():
        for fact, value, source in rows:
            assert source.strip() and value.strip(), f"{name}: {group}: {fact}"
    for trap in found.traps:
        assert trap.source and re.fullmatch(r"(?:[A-Z]|--).*\.", trap.text), trap.text
    for line in found.request.lines if found.request else []:
        assert line.why and line.source and not re.search(r"<\w+>|\(", line.line.replace("$(", "")), line


@pytest.mark.parametrize("name", SITES)
def test_a_machine_in_production_says_how_jobs_ask_for_it(name):
    found = site.load(name)
    assert found.status == "production" and found.partitions and found.traps
    assert found.request is not None and not found.partitions[0].on_request
    assert found.request.cores_per_gpu * found.gpus_per_node_slurm <= found.cpu_cores_usable
    built = shape.like(found, 2, "1gbit")
    assert built.rows[0].partition == found.default_partition or found.default_partition is None


@pytest.mark.parametrize("name", PLANNED)
def test_a_planned_machine_is_marked_and_nothing_about_it_is_made_up(name):
    found = site.load(name)
    assert found.planned() and found.status_note and not found.partitions and found.request is None
    assert "partitions" in show.unknown(found) and "planned" in show.as_text(found).splitlines()[0]


def test_what_is_not_known_stays_unknown():
    jupiter = site.load("jupiter")
    assert jupiter.partitions[0].max_nodes_per_job is None
    assert show.overview([jupiter]).rows[0][5] == "?"
    assert "the largest job of booster is not known" in " ".join(shape.like(jupiter, 2, "1gbit").left_out)
    assert "UNVERIFIED" in show.as_text(jupiter)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lumi", "half a module"), ("lumi", "56 of the 64 cores"), ("leonardo", "no internet"),
        ("leonardo", "boost_qos_bprod"), ("marenostrum5", "exactly 20 cores"), ("marenostrum5", "--account and --qos"),
        ("jupiter", "aarch64"), ("jupiter", "Whole nodes are charged"), ("meluxina", "8822"), ("karolina", "8 GPUs"),
        ("deucalion", "#!/bin/bash -l"), ("deucalion", "module purge"), ("discoverer", "one minute"),
        ("jean-zay", "idrcontmgr"), ("alps", "--environment"),
    ],
)  # fmt: skip
def test_the_traps_newcomers_fall_into_are_named(name, words):
    assert any(words in trap.text for trap in site.load(name).traps)


def profile(folder: Path, text: str) -> Path:
    path = folder / "here" / "site.toml"
    path.parent.mkdir()
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id = ", "cannot be read as TOML"),
        ('id = "here"\n[sources]\nid = "x"\n', "is no site profile: name: Field required"),
        ('id = "here"\nname = "H"\nstatus = "sunk"\n[sources]\n', "status: Input should be 'production'"),
        ('id = "there"\nname = "H"\nstatus = "planned"\n[sources]\nid="x"\nname="x"\nstatus="x"\n', "stands in a folder named 'here'"),
        ('id = "here"\nname = "H"\nstatus = "planned"\n[sources]\nid="x"\n', "names no source for name, status"),
        ('id = "here"\nname = "H"\nstatus = "planned"\nspeed = 3\n[sources]\n', "speed: Extra inputs"),
    ],
)  # fmt: skip
def test_a_bad_profile_gets_one_sentence(tmp_path, text, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        site.read(profile(tmp_path, text))


# --- at first login

SINFO = """\
boost_usr_prod*|1-00:00:00|3190|32|514000|gpu:a100:4(S:0)
boost_usr_prod*|1-00:00:00|6|32|480000|gpu:a100:4(S:0)
lrd_all_serial|4:00:00|2|64|494000|(null)
"""
SCONTROL = """\
PartitionName=boost_usr_prod AllowGroups=ALL MaxNodes=64 MaxTime=1-00:00:00 State=UP
PartitionName=lrd_all_serial MaxNodes=1 MaxTime=04:00:00
"""
SACCTMGR = """\
normal||
boost_qos_dbg|00:30:00|node=2
boost_qos_bprod|1-00:00:00|node=256
boost_qos_lprod|4-00:00:00|node=8
"""


def test_a_profile_that_is_right_agrees_with_the_machine():
    findings = compare(site.load("leonardo"), Answers(SINFO, SCONTROL, SACCTMGR))
    assert [f for f in findings if f.verdict == "differs"] == []
    agreed = {f.fact for f in findings if f.verdict == "agrees"}
    assert {
        "nodes of boost_usr_prod",
        "GPUs of a node",
        "QOS boost_qos_dbg, hours",
        "largest job of boost_usr_prod, nodes",
    } <= agreed


def test_what_has_changed_is_named_with_both_values():
    changed = SINFO.replace("gpu:a100:4", "gpu:a100:8").replace("boost_usr_prod", "boost_new")
    qos = SACCTMGR.replace("00:30:00", "01:00:00").replace("boost_qos_lprod", "boost_qos_other")
    findings = compare(site.load("leonardo"), Answers(changed, None, qos))
    told = {f.fact: (f.profile, f.machine) for f in findings if f.verdict == "differs"}
    assert told["partition boost_usr_prod"] == ("there", "not seen")
    assert told["QOS boost_qos_dbg, hours"] == ("0.5", "1")
    assert told["QOS boost_qos_lprod, hours"][1] == "not seen"
    other = compare(site.load("leonardo"), Answers(SINFO.replace("gpu:a100:4", "gpu:a100:8"), None, None))
    assert ("GPUs of a node", "4", "8") in [
        (f.fact, f.profile, f.machine) for f in other if f.verdict == "differs"
    ]
    assert {f.verdict for f in other if f.fact.startswith("QOS")} == {"not asked"}


# --- the command line


def aboard(*words: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aboard.cli", *words], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )  # fmt: skip


def test_the_command_line_lists_shows_and_checks():
    listed = aboard("sites")
    assert (
        listed.returncode == 0
        and all(name in listed.stdout for name in SITES)
        and "(planned)" in listed.stdout
    )
    assert max(map(len, listed.stdout.splitlines())) <= 80
    assert [one["id"] for one in json.loads(aboard("sites", "--json").stdout)] == site.names()
    shown = aboard("sites", "show", "marenostrum5").stdout
    assert (
        "! Every GPU comes with exactly 20 cores" in shown and "acc_ehpc" in shown and "Not known:" in shown
    )
    assert "scontrol show partition" in aboard("sites", "verify", "lumi", "--list").stdout


def test_a_wrong_name_is_answered_with_the_right_one():
    wrong = aboard("sites", "show", "leonadro")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert (
        wrong.stderr
        == "aboard: There is no site 'leonadro'; did you mean leonardo? `aboard sites` lists them.\n"
    )


def test_verify_says_where_it_belongs_when_no_slurm_is_there(tmp_path):
    done = aboard("sites", "verify", "lumi", path=str(tmp_path))
    assert done.returncode == 2 and "No Slurm is found here; run this on a login node" in done.stderr


def test_verify_says_so_when_the_slurm_that_is_there_does_not_answer(tmp_path):
    (tmp_path / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sinfo").chmod(0o755)
    done = aboard("sites", "verify", "lumi", path=str(tmp_path))
    assert done.returncode == 2 and "no Slurm answers them; run this on a login node" in done.stderr


def test_verify_compares_a_machine_that_answers_and_fails_when_it_differs(tmp_path):
    for name, text in (
        ("sinfo", SINFO.replace("1-00:00:00", "12:00:00")),
        ("scontrol", SCONTROL),
        ("sacctmgr", SACCTMGR),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        program.chmod(0o755)
    done = aboard("sites", "verify", "leonardo", path=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1 and re.search(
        r"longest job of boost_usr_prod, hours +24 +12 +differs", done.stdout
    )
    assert "1 of 10 differ" in done.stdout, done.stdout
