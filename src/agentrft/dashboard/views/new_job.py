"""A new job: as a form over a request in YAML, from nothing or from another job."""

from typing import Any

from agentrft.dashboard.server_side import ServerSide, as_yaml

BEGINNING = """\
model: smollm2-135m
training_file:
validation_file:
method:
  type: reinforcement
  reinforcement:
    max_episode_steps: 6
    tools:
      - name: search
        server_url: https://tools.example.com/search
        headers: {Authorization: Bearer ...}
        description: Search the catalogue.
        parameters:
          type: object
          properties:
            query: {type: string}
          required: [query]
    grader:
      type: string_check
      name: exact
      input: "{{ sample.output_text }}"
      reference: "{{ item.answer }}"
      operation: eq
    hyperparameters:
      batch_size: 8
      compute_multiplier: 1
      max_steps: 30
      eval_interval: 10
"""
# Of a request, in the order in which people read it.
FIRST = ("model", "suffix", "training_file", "validation_file", "test_file", "seed", "priority", "metadata")


def new_job(server: ServerSide, source: str = "") -> dict[str, Any] | None:
    """The page.

    Args:
        source: the job that it begins from.

    Returns:
        None where that is no job of the server's.
    """
    request = server.request(source) if source else None
    if source and request is None:
        return None
    return {
        "text": BEGINNING if request is None else request_text(request, source),
        "source": source,
        "models": server.base_models(),
        "files": [vars(one) for one in server.files()],
    }


def request_text(request: dict[str, Any], source: str) -> str:
    """A request to create the same job again; its secrets are taken from the first."""
    order = (*FIRST, *(name for name in request if name not in (*FIRST, "method")), "method")
    kept = {name: request[name] for name in order if request.get(name) is not None}
    text = as_yaml(kept)
    return f"{text}secrets_from: {source}  # what is *** above\n" if "***" in text else text
