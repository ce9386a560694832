"""`make gpu-figures`: measured here on the processor, where the same code runs; and the pages it fills, from a file."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from aboard import lm
from tools import gpu_figures as tool

ROOT = Path(__file__).resolve().parents[1]
LESSONS = {
    "overlap": "m2-data-parallel/11-buckets-and-overlap",
    "zero": "m3-sharding/14-zero",
    "zero3": "m3-sharding/15-zero-3",
    "fsdp2": "m3-sharding/16-fsdp2",
}


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("gpu_pages", ROOT / "book/_ext/gpu_figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measured():
    """A model of 1.6 MB on two ranks of the processor."""
    config = lm.Config(width=128, layers=2, heads=4, kv_heads=2, hidden=352)
    return tool.measure(tool.Size(config, rows=1, length=16, steps=1), 2, "cpu", tell=lambda line: None)


@pytest.fixture
def figures(measured):
    """As the file would be: what the processor gave stands in for the GPUs as well."""
    gpu = copy.deepcopy(measured)
    for row in gpu["overlap"]:
        row["seconds"] = 0.030 if row["overlap"] else 0.040
    about = {"device": "A GPU", "library": "NCCL 2.99", "count": 2, "torch": "2.13", "date": "2031-02-03"}
    return json.loads(json.dumps({"measured": about, "cuda": gpu, "cpu": measured}))


def test_without_a_gpu_one_sentence_says_so_and_nothing_is_written(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "tools.gpu_figures", "--out", out]
    no_gpu = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
    ran = subprocess.run(command, cwd=ROOT, env=no_gpu, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stdout == "" and not out.exists()
    assert ran.stderr.strip() == tool.NO_GPU


def test_buckets_are_measured_with_and_without_overlap(measured):
    rows = measured["overlap"]
    assert [(row["bucket_mib"], row["overlap"]) for row in rows] == [
        (1, False), (1, True), (None, False), (None, True)
    ]  # fmt: skip
    assert [row["collectives"] for row in rows] == [2, 2, 1, 1] and all(
        0 < row["seconds"] < 30 for row in rows
    )


def test_its_buckets_average_as_they_should_early_or_late():
    """Two ranks with different rows have the mean of what each alone would have."""
    import torch
    import torch.distributed as dist

    from aboard import ranks

    def gradients(averaged, early=False):
        model = lm.Transformer(lm.TINY, seed=0)
        buckets = tool.Buckets(model, 100_000, early) if averaged else None
        for step in range(2):
            model.zero_grad()
            model.loss(*lm.batch(10 * step + dist.get_rank(), 2, 16)).backward()
            if buckets:
                buckets.finish()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    alone = ranks.run(gradients, 2, averaged=False)
    for early in (False, True):
        run = ranks.run(gradients, 2, averaged=True, early=early)
        assert run.ops().count("all_reduce") > 10
        for out in run.outputs:
            torch.testing.assert_close(out, (alone.outputs[0] + alone.outputs[1]) / 2)


def test_each_way_to_keep_the_state_is_measured(measured):
    rows = {row["style"]: row for row in measured["stages"]}
    assert list(rows) == list(tool.STYLES) and all(0 < row["seconds"] < 30 for row in rows.values())
    sent = {style: row["sent_bytes_per_parameter"] for style, row in rows.items()}
    # Two ranks, (N-1)/N = 1/2: float32 reduced both ways; and parameters broadcast; gathered in bfloat16, once or twice.
    assert sent["DDP"] == pytest.approx(4) and sent["ZeRO-1"] == pytest.approx(6, rel=0.02)
    assert sent["FSDP2, kept"] == sent["FSDP2, one unit"] == pytest.approx(3, rel=0.02)
    assert sent["FSDP2, freed"] == pytest.approx(4, rel=0.05)
    assert all(row["peak_bytes"] > 4 * measured["size"]["parameters"] for row in rows.values())


def test_the_model_is_chosen_to_fit_the_gpu():
    large, middle, small = (32 * tool.parameters_of(size) for size in tool.ON_GPU)
    assert 20e9 < large < 40e9 and small < middle < 8e9
    assert [tool.fitting(memory) for memory in (large + 1, large - 1, middle - 1, 0)] == [
        *tool.ON_GPU, tool.ON_GPU[-1]
    ]  # fmt: skip


@pytest.mark.parametrize("topic", LESSONS)
def test_a_lesson_has_its_place_for_figures_and_says_when_there_are_none(pages, topic):
    lesson = (ROOT / "notebooks" / LESSONS[topic] / "lesson.md").read_text()
    assert pages.MARK.findall(lesson) == [topic]
    assert "Nobody has measured this on a GPU yet" in pages.page(topic, None)


@pytest.mark.parametrize("topic", LESSONS)
def test_a_page_shows_the_gpu_beside_the_processor(pages, topic, figures):
    text = pages.page(topic, figures)
    assert "2 × A GPU" in text and "2031-02-03" in text and "NCCL 2.99" in text and "PyTorch 2.13" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    gpu, processor = ([row for row in rows if row.startswith(f"| {who} ")] for who in ("GPU", "processor"))
    assert len(gpu) == len(processor) == (2 if topic == "overlap" else len(pages.TOPICS[topic]))
    assert "With one GPU" not in text
    if topic == "overlap":
        assert gpu[0] == "| GPU | 1 MiB | 2 | 40.0 ms | 30.0 ms | 25 % |"


def test_a_page_says_what_one_gpu_cannot_show(pages, figures):
    figures["cuda"]["ranks"] = 1
    assert "With one GPU there is nobody to talk to" in pages.page("fsdp2", figures)


def test_figures_that_are_committed_can_be_shown(pages):
    """Nobody has any yet; when somebody has, the pages must be able to show them."""
    shown = json.loads(pages.DATA.read_text()) if pages.DATA.exists() else None
    assert all(pages.page(topic, shown) for topic in pages.TOPICS)
