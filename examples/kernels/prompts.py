"""What the agent is told."""

from examples.kernels.graphs import SIGNATURES, Graph

SYSTEM = "Write the C function that fills y. Compile it, run it, time it, then answer: submit"


def prompt_messages(graph: Graph) -> list[dict[str, str]]:
    """The operator in PyTorch, the shapes where there are rows, and the function's head."""
    lines = [f"y = {graph.text}"]
    if graph.over_row:
        w = ", w [n]" if graph.takes_other else ""
        lines.append(f"x [r, n]{w}, y [r{'' if graph.reduces else ', n'}]")
    lines.append(SIGNATURES[graph.signature])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]
