"""Parts of the check in one process: python -m benchmarks.gpu.worker FOLDER PART ...

A part `NAME` finds its setting in FOLDER/NAME.setting.json and leaves what it found in FOLDER/NAME.json.
"""

import json
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.compat import work_around
from benchmarks.gpu.findings import Findings, Setting


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    work_around()
    for name in names:
        raw = json.loads((folder / f"{name}.setting.json").read_text(encoding="utf-8"))
        setting = Setting(torch.device(raw["device"]), raw["small"], raw["model"])
        findings = Findings(folder / f"{name}.json")
        started = time.perf_counter()
        torch.manual_seed(0)
        try:
            import_module(f"benchmarks.gpu.{raw['module']}").run(setting, findings)
        except Exception as error:  # whatever it was, it is in the result, and the other parts go on
            traceback.print_exc()
            findings.fail(name, error)
        findings.note(seconds=round(time.perf_counter() - started, 1), finished=True)


if __name__ == "__main__":
    main()
