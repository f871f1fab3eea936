"""`agentrft export`: trained weights as other programs take them."""

from pathlib import Path
from typing import Annotated

import typer

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.cli.targets import DEFAULT_OUTPUT_DIR, OutputDirOption, open_store_if_there
from agentrft.errors import UserError

FORMATS = ("adapter", "merged")


def export(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="JOB (its result), JOB@last, JOB@STEP, or an adapter's folder.")
    ],
    weights: Annotated[
        str, typer.Option("--format", help="`adapter` (PEFT, vLLM --enable-lora) or `merged` (a whole model).")
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    output_dir: OutputDirOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write trained weights for transformers, PEFT and vLLM."""
    output = Output(as_json=as_json)
    if weights not in FORMATS:
        raise UserError(f"--format {weights}: no such format.", f"Give one of: {', '.join(FORMATS)}.")
    store = open_store_if_there(output_dir or DEFAULT_OUTPUT_DIR)
    output.console.print("Loading ...")
    from agentrft.job import resolve_reference
    from agentrft.job.export import describe_weights, export_adapter, export_merged

    found = describe_weights(resolve_reference(reference, store), store)
    write = export_adapter if weights == "adapter" else export_merged
    files = write(found, out)
    output.emit(
        {"reference": found.label, "format": weights, "base_model": found.base, "out": str(out), "files": files}
    )
    output.console.print(f"{found.label}, {weights}: {len(files)} files in {out}", soft_wrap=True)
    if weights == "adapter" and found.lora_experts:
        output.console.print(
            "It changes experts, which PEFT reads from 0.19 on; for programs that do not, use --format merged.",
            soft_wrap=True,
        )
    elif weights == "adapter":
        rank = f" --max-lora-rank {found.lora_rank}" if (found.lora_rank or 0) > 16 else ""
        options = f"--enable-lora{rank} --lora-modules agent={out} --chat-template {out}/chat_template.jinja"
        output.console.print(f"For vLLM: vllm serve {found.base} {options}", soft_wrap=True)
