"""`models inspect`: what a model is here, before a job is made of it."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agentrft.cli.output import DebugOption, JsonOption, Output
from agentrft.models import resolve_model

if TYPE_CHECKING:
    from agentrft.chat.proof import CodecProof
    from agentrft.job.inspection import Inspection
    from agentrft.job.memory_needs import MemoryNeeds
    from agentrft.models.architecture import Architecture

GB = 1_000_000_000
REFUSED = 1


def inspect(
    model: Annotated[str, typer.Argument(help="As a job's `model:`: built in, a folder, or a Hugging Face id.")],
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Memory of this GPU instead of this machine's: h100, h200, a100, ...")
    ] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=64, help="Tokens of a rollout; up to 8,192 if not given.")
    ] = None,
    rollouts: Annotated[int, typer.Option("--rollouts", min=1, help="At once.")] = 64,
    lora_rank: Annotated[str, typer.Option("--lora-rank", help="Or `full`, which trains all weights.")] = "16",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say how a model would be trained and what that takes, without loading its weights."""
    output = Output(as_json=as_json)
    rank = _rank(lora_rank)
    source = resolve_model(model)
    # Loads torch.
    from agentrft.job.inspection import inspect_model

    found = inspect_model(source, gpu=gpu, context_tokens=context, rollouts=rollouts, lora_rank=rank)
    output.emit(found.as_dict())
    table = Table(box=None, show_header=False, title=found.model, title_justify="left", pad_edge=False)
    for name, text in _lines(found, lora_rank):
        table.add_row(name, text)
    output.console.print(table)
    for refusal in found.refusals:
        output.console.print(f"[red]refused:[/] {refusal.cause} {refusal.remedy}", soft_wrap=True)
    if found.refusals:
        raise typer.Exit(REFUSED)


def _rank(text: str) -> int | None:
    if text == "full":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise typer.BadParameter("expected `full` or a number from 1 to 1024", param_hint="--lora-rank")
    return int(text)


def _lines(found: "Inspection", lora_rank: str) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    if found.architecture is not None:
        lines += _of_architecture(found.architecture)
    if found.chat is not None:
        lines += _of_chat(found.chat)
    if found.texts:
        lines.append(("written as text", f"{', '.join(found.texts)}, which the model never learned as tokens"))
    if found.needs is not None:
        lines += _of_memory(found.needs, found, lora_rank)
    return lines


def _of_architecture(one: "Architecture") -> list[tuple[str, str]]:
    shapes = one.cache_shapes
    longest = "" if one.context_tokens is None else f", contexts of up to {one.context_tokens:,} tokens"
    windows = [shape.window for shape in shapes.keys.values() if shape.window is not None]
    parts = [f"{len(shapes.keys)} layers of attention"]
    if windows:
        parts.append(f"{len(windows)} of them over a window of {max(windows):,} tokens")
    if shapes.states:
        parts.append(f"{len(shapes.states)} with a recurrent state")
    if one.experts:
        count = one.experts.per_token
        parts.append("1 expert a token" if count == 1 else f"{count} experts a token")
    path = "our own pass" if one.path == "fast" else "transformers' modules, on token trees and the engine's cache"
    return [
        ("family", f"{one.family}, {one.parameters / 1e9:.3g} billion parameters{longest}"),
        ("layers", ", ".join(parts)),
        ("computed by", path),
        ("adapters", f"LoRA on {one.lora_layers} linear layers{_of_experts(one)}"),
    ]


def _of_experts(one: "Architecture") -> str:
    if one.experts is None:
        return ""
    return " and on experts (lora_experts)" if one.experts.parameters else ", not on experts"


def _of_chat(proof: "CodecProof") -> list[tuple[str, str]]:
    lines = [
        ("chat", f"{proof.family} ({proof.renderer}), {'proven' if proof.proven else 'not proven in all situations'}"),
        ("calls", proof.call_format),
        ("warm start", "possible" if proof.warm_start_refusal is None else f"refused: {proof.warm_start_refusal}"),
    ]
    lines += [("", text) for text in (*proof.unproven, *proof.forks)]
    if proof.thinks:
        lines.append(("thinking", "shown by its template"))
    if proof.variables:
        lines.append(("chat_template_kwargs", ", ".join(proof.variables)))
    return lines


def _of_memory(needs: "MemoryNeeds", found: "Inspection", lora_rank: str) -> list[tuple[str, str]]:
    recomputed = ", its layers computed again in the backward pass" if needs.recomputes else ""
    trained = "all weights" if lora_rank == "full" else f"adapters of rank {lora_rank}"
    verdict = "fits into" if needs.fits else "[red]does not fit into[/]"
    return [
        ("weights", f"{needs.weights / GB:.2f} GB, with those that the engine generates with"),
        ("training state", f"{needs.trained / GB:.2f} GB for {trained}: {needs.state.kept_as}"),
        ("a checkpoint", needs.state.written_as),
        (
            "rollouts",
            f"{needs.rollout / GB:.3f} GB each of up to {found.context_tokens:,} tokens, "
            f"{needs.rollouts_at_once} of that length at once: {needs.rollouts_at_once * needs.rollout / GB:.2f} GB",
        ),
        ("an update, a warm start", f"{needs.update / GB:.2f} GB for {needs.pass_tokens:,} tokens a pass{recomputed}"),
        ("in all", f"{needs.total / GB:.1f} GB, which {verdict} {needs.memory / GB:.0f} GB of {found.device}"),
    ]
