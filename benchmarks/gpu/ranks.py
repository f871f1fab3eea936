"""Two processes on one card at once, each a learner's only rank there: NCCL and FSDP2's shards, which a CPU has not.

NCCL takes no two ranks of one card into a group. One of the processes trains all weights in shards, the other adapters
on a base in shards; their gradients are to be those of a learner without ranks.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from agentrft.cluster import RankSetup
from agentrft.cluster.meeting import FileMeeting
from agentrft.learner import Learner, Policy
from agentrft.models.catalog import ModelSource
from agentrft.models.planned import use_planned_attention
from agentrft.program import command
from benchmarks.gpu.compat import work_around
from benchmarks.gpu.findings import Findings, Setting
from benchmarks.gpu.gradients import only_gradient, relative_difference
from benchmarks.gpu.models import family_config, family_model
from benchmarks.gpu.updating import Load, group_of

FAMILY, LOAD = "qwen3", Load(64, 8, 16, 24)
LORA_RANKS: dict[str, int | None] = {"all weights": None, "adapters": 4}
RELATIVE = 1e-3
# Of both together.
LIMIT_S = 75.0


def run(setting: Setting, findings: Findings) -> None:
    """Both kinds of weights."""
    with tempfile.TemporaryDirectory(prefix="agentrft-ranks-") as name:
        folder = Path(name)
        told = {"device": str(setting.device), "small": setting.small}
        (folder / "setting.json").write_text(json.dumps(told), encoding="utf-8")
        with findings.timed("two processes on one card"):
            _run_both(folder)
        for kind, lora_rank in LORA_RANKS.items():
            policy = Policy(_model(setting), lora_rank=lora_rank, seed=0, generates=False)
            expected = only_gradient(_updated(Learner(policy, **_settings()), setting))
            found = load_file(folder / f"{kind}.safetensors")["gradient"]
            backend = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))["backend"]
            findings.note(**{f"backend of {kind}": backend})
            difference = relative_difference(found, expected)
            findings.check(f"ranks: gradients of {kind} in shards", difference, at_most=RELATIVE)


def main() -> None:
    """One of the processes: its folder, and which weights it trains."""
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    work_around()
    told = json.loads((folder / "setting.json").read_text(encoding="utf-8"))
    setting = Setting(torch.device(told["device"]), told["small"])
    on_gpu = setting.device.type == "cuda"
    setup = RankSetup(
        size=1,
        source=ModelSource(FAMILY, FAMILY, is_local=True, public_name=FAMILY),
        dtype=torch.float32,
        on_gpus=on_gpu,
        lora_rank=LORA_RANKS[kind],
        lora_experts=True,
        seed=0,
        deterministic=False,
        threads=1,
        timeout_s=LIMIT_S,
        shards_base=LORA_RANKS[kind] is not None,
    )
    collective = setup.meet(0, FileMeeting(folder / f"{kind}.meeting"))
    policy = setup.policy_of(_model(setting, on_cpu=True), 0, collective)
    learner = _updated(Learner(policy, collective=collective, **_settings()), setting)
    save_file({"gradient": only_gradient(learner)}, folder / f"{kind}.safetensors")
    backend = torch.distributed.get_backend_config()
    (folder / f"{kind}.json").write_text(json.dumps({"backend": backend}), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _run_both(folder: Path) -> None:
    arguments = [command("benchmarks.gpu.ranks", str(folder), kind) for kind in LORA_RANKS]
    both = [subprocess.Popen(one, stdin=subprocess.DEVNULL) for one in arguments]
    try:
        for kind, process in zip(LORA_RANKS, both, strict=True):
            if process.wait(LIMIT_S):
                raise RuntimeError(f"the process of {kind} ended with {process.returncode}")
    finally:
        for process in both:
            process.kill()
            process.wait()


def _model(setting: Setting, *, on_cpu: bool = False) -> Any:
    model = family_model(FAMILY, small=setting.small)
    use_planned_attention(model)
    return model if on_cpu else model.to(setting.device)


def _settings() -> dict[str, Any]:
    return {"algorithm": "grpo", "learning_rate": 1e-3, "temperature": 1.0, "max_grad_norm": 1e9}


def _updated(learner: Learner, setting: Setting) -> Learner:
    group = group_of(LOAD, family_config(FAMILY, small=setting.small).vocab_size)
    learner.update(learner.plan([group]))
    return learner


if __name__ == "__main__":
    main()
