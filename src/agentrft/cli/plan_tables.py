"""Plans as tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from agentrft.planning.against import Took
    from agentrft.planning.plan import Plan
    from agentrft.planning.splits import PlannedSplit

GB = 1e9
MOST_SPLITS = 8
TOOK = {
    "step_s": "a step, s",
    "rollout_s": "  its rollouts",
    "engine_s": "    the engine's work in them",
    "update_s": "  its update",
    "publish_s": "  new weights to the engine, and the rest",
    "rollouts": "rollouts a step",
    "sampled_tokens": "tokens sampled",
    "unique_tokens": "tokens that the update computes",
    "tool_calls": "tool calls",
    "grades": "grades",
    "gpu_hours": "GPU hours a step",
    "cost": "dollars a step",
}


def show_plan(plan: "Plan", console: Console) -> None:
    """All of a plan."""
    _show_job(plan, console)
    best = plan.best
    shown = best or plan.nearest
    _print(_memory_table(plan, shown), console)
    if best is not None:
        _print(_times_table(best), console)
        _print(_job_table(plan, best), console)
    if best is not None and len(plan.splits) > 1:
        _print(_splits_table(plan), console)
    if best is not None and not plan.cluster.device.measured:
        _show_fields(plan, best, console)


def show_comparison(job_id: str, steps: int, device: str, found: Mapping[str, "Took"], console: Console) -> None:
    """A job beside its plan."""
    title = f"{job_id}, means of {steps} training step{'s' if steps > 1 else ''}, on {device}"
    table = Table("", "planned", "planned, lengths as they were", "measured", title=title)
    for name, label in TOOK.items():
        table.add_row(label, *(_number(getattr(found[which], name)) for which in found))
    _print(table, console)


def _print(table: Table, console: Console) -> None:
    """With its title as a line of its own, which is not folded to the table's width."""
    console.print(f"\n[bold]{escape(str(table.title))}[/]", soft_wrap=True)
    table.title = None
    console.print(table)


def _show_job(plan: "Plan", console: Console) -> None:
    model, work, device = plan.model, plan.job.work, plan.cluster.device
    trained = "all weights" if model.lora_rank is None else f"adapters of rank {model.lora_rank}"
    count = f"{plan.cluster.nodes} x {plan.cluster.per_node} x " if plan.cluster.gpus > 1 else ""
    rates = "measured now" if device.measured else "by its data sheet"
    lines = [
        f"[bold]{escape(model.name)}[/], {model.architecture.parameters / 1e9:.3g} billion parameters, {trained}; "
        f"{model.weights / GB:.1f} GB of weights, {model.kv_bytes / 1000:.0f} kB of keys and values a token",
        f"on {count}{device.name}: {device.memory / GB:.0f} GB, {device.bandwidth / 1e9:,.0f} GB/s and "
        f"{device.flops / 1e12:,.3g} TFLOP/s {rates}",
        f"a step: {work.groups} samples x {work.rollouts_per_group} rollouts, {work.sampled_tokens:,.0f} tokens "
        f"sampled and {work.prefill_tokens:,.0f} read, {work.tool_calls:,.0f} tool calls, "
        f"{work.judge_calls:,.0f} judge calls",
        f"its update computes {work.unique_tokens:,.0f} tokens instead of {work.total_tokens:,.0f}",
    ]
    lines += [f"[yellow]assumed:[/] {escape(one)}" for one in plan.job.notes.assumed]
    for line in lines:
        console.print(line, soft_wrap=True)


def _memory_table(plan: "Plan", one: "PlannedSplit") -> Table:
    title = f"Memory of each device, GB: {one.split.text}"
    table = Table("", *(f"{each.devices} x {each.role}" for each in one.memory), title=title)
    for name in dict.fromkeys(name for each in one.memory for name in each.parts):
        table.add_row(name, *(_gb(each.parts.get(name)) for each in one.memory))
    table.add_row("to spare", *(("" if each.fits else "[red]") + _gb(each.spare) for each in one.memory))
    table.add_row("rollouts at once, longest", *(_count(each.sequences, each.longest) for each in one.memory))
    return table


def _count(sequences: int, longest: int) -> str:
    return f"{sequences:,}, {longest:,}" if sequences else ""


def _gb(size: int | None) -> str:
    return "" if size is None else f"{size / GB:.2f}"


def _times_table(one: "PlannedSplit") -> Table:
    times = one.times
    table = Table("", "s", title="Time of a step")
    parts = {
        "engines: prompts and tools' answers": times.rollouts.prefill,
        "engines: sampling": times.rollouts.decode,
        "tools": times.rollouts.tools,
        "graders": times.rollouts.graders,
        "update": times.update,
        "new weights to the engines": times.publish,
    }
    for name, seconds in parts.items():
        table.add_row(name, _number(seconds))
    together = "in all, rollouts beside the update before" if times.overlaps else "in all, one after the other"
    table.add_row(f"[bold]{together}[/]", f"[bold]{_number(times.total)}[/]")
    return table


def _job_table(plan: "Plan", one: "PlannedSplit") -> Table:
    cost = plan.cost_of(one)
    judges = plan.judge_cost(plan.job.work.rollouts)
    title = f"Money, at ${plan.gpu_hour:.2f} for a GPU's hour (prices of {plan.prices.date}, an assumption)"
    table = Table("", "a step", f"the job, {plan.job.steps} steps", title=title)
    table.add_row("hours", _number(one.times.total / 3600), _number(cost.seconds / 3600))
    table.add_row("GPU hours", _number(one.gpu_hours), _number(cost.gpu_hours))
    table.add_row("GPUs, $", _number(one.gpu_cost), _number(cost.gpu_cost))
    unknown = "no price"
    table.add_row(
        "judges, $",
        unknown if judges is None else _number(judges),
        unknown if cost.judge_cost is None else _number(cost.judge_cost),
    )
    work = plan.job.work
    table.add_row("rollouts", f"{work.rollouts:,}", f"{cost.rollouts:,}")
    table.add_row("tokens sampled", f"{work.sampled_tokens:,.0f}", f"{cost.sampled_tokens:,.0f}")
    table.add_row("tokens read", f"{work.prefill_tokens:,.0f}", f"{cost.prefill_tokens:,.0f}")
    table.add_row("tool calls", f"{work.tool_calls:,.0f}", f"{cost.tool_calls:,.0f}")
    table.add_row("judge calls", f"{work.judge_calls:,.0f}", f"{cost.judge_calls:,.0f}")
    return table


def _splits_table(plan: "Plan") -> Table:
    fitting = plan.fitting
    title = f"Splits: {len(fitting)} of {len(plan.splits)} fit; the cheapest, and the fastest"
    table = Table("", "GPUs", "s a step", "$ a step", "GB to spare", title=title)
    chosen = fitting[:MOST_SPLITS]
    fastest = plan.fastest
    if fastest is not None and fastest not in chosen:
        chosen = [*chosen, fastest]
    for one in chosen:
        spare = min(device.spare for device in one.memory)
        note = " (fastest)" if one is fastest else ""
        cost = _number(one.gpu_cost)
        table.add_row(one.split.text + note, str(one.rented), _number(one.times.total), cost, _gb(spare))
    return table


def _show_fields(plan: "Plan", one: "PlannedSplit", console: Console) -> None:
    fields = plan.fields_of(one)
    if fields is None:
        told = f"start {one.split.engines} servers on the learner's GPUs, and name them in engine.urls with sleep: true"
        console.print(f"\n[bold]To run the cheapest[/]: {told}", soft_wrap=True)
        return
    console.print("\n[bold]The cheapest in the job's file[/]")
    console.print(escape(yaml.safe_dump(fields, sort_keys=False, width=1000).rstrip()), soft_wrap=True)


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
