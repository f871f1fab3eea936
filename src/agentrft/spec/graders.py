"""Graders as a job declares them, with the API's type names."""

from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl, field_validator, model_validator

from agentrft.spec.base import SpecModel

SimilarityMetric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "cosine",
    "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
]  # fmt: skip


class StringCheckGraderSpec(SpecModel):
    """1.0 if `input` compares to `reference` by `operation`, else 0.0. Both are templates."""

    type: Literal["string_check"]
    name: str = "string_check"
    input: str
    reference: str
    operation: Literal["eq", "ne", "neq", "like", "ilike"]


class TextSimilarityGraderSpec(SpecModel):
    """A similarity in [0, 1] between `input` and `reference`. Both are templates."""

    type: Literal["text_similarity"]
    name: str = "text_similarity"
    input: str
    reference: str
    evaluation_metric: SimilarityMetric
    pass_threshold: float | None = None


class PythonGraderSpec(SpecModel):
    """`def grade(sample, item) -> float`, run in a process of its own.

    Give the code as `source`, or as `source_file`, a path relative to the job's file.
    """

    type: Literal["python"]
    name: str = "python"
    source: str | None = None
    source_file: str | None = None
    image_tag: str | None = None
    timeout_s: float = Field(default=120.0, gt=0, le=120)

    @model_validator(mode="after")
    def _one_source(self) -> "PythonGraderSpec":
        if (self.source is None) == (self.source_file is None):
            raise ValueError("give exactly one of 'source' and 'source_file'")
        return self

    @field_validator("source")
    @classmethod
    def _source_fits(cls, source: str | None) -> str | None:
        if source is not None and len(source.encode()) > 256 * 1024:
            raise ValueError("must be at most 256 kB")
        return source


class EndpointGraderSpec(SpecModel):
    """The user's own grading server. `rate_limit` is in requests per second."""

    type: Literal["endpoint"]
    name: str = "endpoint"
    url: HttpUrl
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    rate_limit: float | None = Field(default=None, gt=0)
    pass_threshold: float | None = None
    timeout_s: float = Field(default=120.0, gt=0, le=600)
    retries: int = Field(default=3, ge=0, le=3)
    outage_deadline_s: float = Field(default=600.0, ge=0, le=86400)
    max_concurrency: int = Field(default=32, ge=1, le=4096)


SingleGraderSpec = Annotated[
    StringCheckGraderSpec | TextSimilarityGraderSpec | PythonGraderSpec | EndpointGraderSpec,
    Field(discriminator="type"),
]


class MultiGraderSpec(SpecModel):
    """Several graders, combined by the formula `calculate_output` over their names.

    `graders` may be written as a mapping, a list of named graders, or one grader.
    """

    type: Literal["multi"]
    name: str = "multi"
    graders: dict[str, SingleGraderSpec]
    calculate_output: str

    @field_validator("graders", mode="before")
    @classmethod
    def _as_mapping(cls, graders: Any) -> Any:
        if isinstance(graders, dict) and isinstance(graders.get("type"), str):
            graders = [graders]
        if not isinstance(graders, list):
            return graders
        names = [g.get("name", g.get("type")) if isinstance(g, dict) else None for g in graders]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"two graders share the name {sorted(map(str, repeated))}: give each its own 'name'")
        return dict(zip(names, graders, strict=True))


GraderSpec = Annotated[
    StringCheckGraderSpec | TextSimilarityGraderSpec | PythonGraderSpec | EndpointGraderSpec | MultiGraderSpec,
    Field(discriminator="type"),
]
