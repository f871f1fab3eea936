"""Merging weights in a process of its own, which takes torch and the memory of two models.

What to merge comes as a line of JSON on standard input: `name`, `base`, `checkpoint`, `chat_template_kwargs`, and
`out`, the zip to write. The answer is null, or what went wrong.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentrft.server.offload.child import Told


def main() -> None:
    # Before torch is imported, which takes seconds: a client that hangs up meanwhile ends this at once.
    told = Told()
    for request in told:
        told.answer(_merge(request))


def _merge(request: Mapping[str, Any]) -> str | None:
    from agentrft.errors import UserError
    from agentrft.job.export import describe_weights, export_merged
    from agentrft.job.references import ModelReference
    from agentrft.server.models.archive import pack

    out = Path(request["out"])
    folder = out.with_name("merged")
    reference = ModelReference(request["name"], folder=Path(request["checkpoint"]))
    try:
        variables = request["chat_template_kwargs"]
        weights = describe_weights(reference, None, model=request["base"], chat_template_kwargs=variables)
        export_merged(weights, folder)
    except UserError as error:
        return f"{error.cause} {error.remedy}"
    pack(folder, out)
    shutil.rmtree(folder)
    return None


if __name__ == "__main__":
    main()
