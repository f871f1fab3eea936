"""How the model's chat is treated, and where a rollout becomes several rows because of its template."""

from agentrft.chat import ChatCodec
from agentrft.job.check.findings import CheckReport


def check_chat(codec: ChatCodec, warm_start: bool, report: CheckReport) -> None:
    """What the codec was proven to do; a warm start that it cannot do is an error."""
    proof = codec.proof
    if proof is None:
        return
    if warm_start and proof.warm_start_refusal is not None:
        report.error("warm_start", proof.warm_start_refusal, "Leave out `warm_start`, or take another model.")
    if not proof.proven:
        unproven = "; ".join(proof.unproven) or proof.warm_start_refusal
        report.warn("chat", f"not proven for this model's template: {unproven}.", "Each such turn costs a prefill.")
        return
    rows = f"; a new row begins {', '.join(proof.forks)}" if proof.forks else ""
    report.ok("chat", f"{proof.family} codec, proven{rows}")
