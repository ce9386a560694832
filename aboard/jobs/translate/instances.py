"""GPUs of the clouds' machines: (GPU, gigabytes of each, how many). From the vendors' tables of instance types."""

from __future__ import annotations

import re

_SMALL = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
AWS: dict[str, tuple[str, int, int]] = {
    "p3.2xlarge": ("V100", 16, 1), "p3.8xlarge": ("V100", 16, 4), "p3.16xlarge": ("V100", 16, 8),
    "p3dn.24xlarge": ("V100", 32, 8),
    "p4d.24xlarge": ("A100", 40, 8), "p4de.24xlarge": ("A100", 80, 8),
    "p5.4xlarge": ("H100", 80, 1), "p5.48xlarge": ("H100", 80, 8),
    "p5e.48xlarge": ("H200", 141, 8), "p5en.48xlarge": ("H200", 141, 8),
    **{f"g4dn.{size}": ("T4", 16, 1) for size in _SMALL}, "g4dn.12xlarge": ("T4", 16, 4), "g4dn.metal": ("T4", 16, 8),
    **{f"g5.{size}": ("A10G", 24, 1) for size in _SMALL}, "g5.12xlarge": ("A10G", 24, 4),
    "g5.24xlarge": ("A10G", 24, 4), "g5.48xlarge": ("A10G", 24, 8),
    **{f"g6.{size}": ("L4", 24, 1) for size in _SMALL}, "g6.12xlarge": ("L4", 24, 4),
    "g6.24xlarge": ("L4", 24, 4), "g6.48xlarge": ("L4", 24, 8),
    **{f"g6e.{size}": ("L40S", 48, 1) for size in _SMALL}, "g6e.12xlarge": ("L40S", 48, 4),
    "g6e.24xlarge": ("L40S", 48, 4), "g6e.48xlarge": ("L40S", 48, 8),
}  # fmt: skip

_GOOGLE_FAMILIES = {
    "a2-highgpu": ("A100", 40), "a2-megagpu": ("A100", 40), "a2-ultragpu": ("A100", 80),
    "a3-highgpu": ("H100", 80), "a3-edgegpu": ("H100", 80), "a3-megagpu": ("H100", 80), "a3-ultragpu": ("H200", 141),
}  # fmt: skip
_G2 = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}  # processors → L4s

ACCELERATORS = {
    "NVIDIA_TESLA_T4": ("T4", 16), "NVIDIA_TESLA_P4": ("P4", 8), "NVIDIA_TESLA_P100": ("P100", 16),
    "NVIDIA_TESLA_V100": ("V100", 16), "NVIDIA_L4": ("L4", 24), "NVIDIA_TESLA_A100": ("A100", 40),
    "NVIDIA_A100_80GB": ("A100", 80), "NVIDIA_H100_80GB": ("H100", 80), "NVIDIA_H100_MEGA_80GB": ("H100", 80),
    "NVIDIA_H200_141GB": ("H200", 141),
}  # fmt: skip


def amazon(name: str) -> tuple[str, int, int] | None:
    return AWS.get(name.removeprefix("ml."))


def google(name: str) -> tuple[str, int, int] | None:
    family, _, size = name.rpartition("-")
    if family in _GOOGLE_FAMILIES and (count := re.fullmatch(r"(\d+)g", size)):
        return *_GOOGLE_FAMILIES[family], int(count[1])
    if family == "g2-standard" and size.isdigit() and int(size) in _G2:
        return "L4", 24, _G2[int(size)]
    return None
