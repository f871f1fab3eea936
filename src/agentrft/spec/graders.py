"""Graders as a job declares them, with the API's type names."""

from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl, field_validator, model_validator

from agentrft.spec.base import SpecModel
from agentrft.wire import is_list, is_object

# In one multi grader.
MAX_GRADERS = 64
MAX_PYTHON_GRADERS = 16
# What lies further from zero is no score: differences within a group would be lost to rounding.
MAX_SCORE = 1e9

SimilarityMetric = Literal[
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "cosine",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


class GraderSpecModel(SpecModel):
    """What every grader's fields have in common: null is as if left out, as saved graders have it.

    Attributes:
        type: which grader it is.
        name: what it is called in metrics and messages.
        pass_threshold: the score from which pass@1 and pass@k count a rollout as passed; 1 without it. It changes no
            score.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not is_object(given):
            return given
        return {key: value for key, value in given.items() if value is not None or key not in cls.model_fields}


class StringCheckGraderSpec(GraderSpecModel):
    """1.0 if `input` compares to `reference` by `operation`, else 0.0.

    Attributes:
        input: a template, such as `{{ sample.output_text }}`.
        reference: a template, such as `{{ item.answer }}`.
        operation: `eq` and `ne` (also `neq`) compare whole texts; `like` is true where `input` contains `reference`,
            and `ilike` in any case.
    """

    type: Literal["string_check"]
    name: str = "string_check"
    input: str
    reference: str
    operation: Literal["eq", "ne", "neq", "like", "ilike"]


class TextSimilarityGraderSpec(GraderSpecModel):
    """A similarity in [0, 1] between `input` and `reference`. Of each the first 50,000 characters are compared.

    Attributes:
        input: a template, such as `{{ sample.output_text }}`.
        reference: a template, such as `{{ item.answer }}`.
        evaluation_metric: how they are compared. `fuzzy_match` is RapidFuzz's `ratio`, `cosine` is of word counts, and
            `meteor` takes NLTK's WordNet and compares 10,000 characters.
    """

    type: Literal["text_similarity"]
    name: str = "text_similarity"
    input: str
    reference: str
    evaluation_metric: SimilarityMetric
    pass_threshold: float | None = None


class PythonGraderSpec(GraderSpecModel):
    """`def grade(sample, item) -> float`, run in a sandbox.

    Attributes:
        source: the code, at most 256 kB. This, or `source_file`.
        source_file: the code's file, relative to the job's.
        image_tag: accepted with a warning: there is one environment, that of the Python which runs agentrft.
        trusted: run the code without the sandbox, in a process of its own: it may read what its user may read.
        isolated: a fresh process for each call, so that no answer changes how later ones are graded. By default where
            the source runs text as code (`exec`, `eval`, `compile`, `pickle` and their like).
        timeout_s: seconds that one call may take.
    """

    type: Literal["python"]
    name: str = "python"
    source: str | None = None
    source_file: str | None = None
    image_tag: str | None = None
    trusted: bool = False
    isolated: bool | None = None
    timeout_s: float = Field(default=120.0, gt=0, le=120)
    pass_threshold: float | None = None

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


class RemoteSpec(GraderSpecModel):
    """What every grader behind a URL has.

    Attributes:
        headers: sent with every request; `${NAME}` in a value is read from the environment. Never stored, shown or
            logged.
        rate_limit: requests per second, at most.
        timeout_s: seconds that one attempt may take.
        retries: repetitions of a call, after faults other than 429.
        outage_deadline_s: seconds that a call waits, in all, for the server to come back once it is down.
        max_concurrency: calls under way at once, at most.
    """

    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    rate_limit: float | None = Field(default=None, gt=0)
    timeout_s: float = Field(default=120.0, gt=0, le=600)
    retries: int = Field(default=3, ge=0, le=3)
    outage_deadline_s: float = Field(default=600.0, ge=0, le=86400)
    max_concurrency: int = Field(default=32, ge=1, le=4096)


class EndpointGraderSpec(RemoteSpec):
    """The user's own grading server: it gets `{"sample", "item", "trace_id"}`, and answers `{"score": number}`, with
    `reason` and `sub_scores` if it likes.

    Attributes:
        url: what is posted to.
    """

    type: Literal["endpoint"]
    name: str = "endpoint"
    url: HttpUrl = Field(repr=False)
    pass_threshold: float | None = None


class SamplingParams(SpecModel):
    """How a judge samples; what is None is left to its server.

    Attributes:
        temperature: as Chat Completions has it.
        top_p: as Chat Completions has it.
        seed: as Chat Completions has it; another one is taken where an answer that cannot be read is asked for again.
        reasoning_effort: as Chat Completions has it.
        max_completions_tokens: tokens of the judge's answer, at most.
    """

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    reasoning_effort: str | None = None
    max_completions_tokens: int | None = Field(default=None, ge=1)


class JudgeSpec(RemoteSpec):
    """A model behind a server that speaks Chat Completions.

    Attributes:
        model: the judge's name on that server.
        base_url: of the server, such as "http://127.0.0.1:8000/v1".
        api_key_env: the environment variable with the key; without one none is sent, except to the default server,
            which wants one.
        served_here: the model is one of the `agentrft serve` that the job runs on, which sets it where it has a model
            of that name and no `base_url` is given. Neither a key nor headers are sent.
        sampling_params: how the judge samples.
    """

    model: str
    base_url: HttpUrl = Field(default=HttpUrl("https://api.openai.com/v1"), repr=False)
    api_key_env: str = "OPENAI_API_KEY"
    served_here: bool = False
    sampling_params: SamplingParams = SamplingParams()


class JudgeText(SpecModel):
    """A part of a message's text.

    Attributes:
        type: as the APIs have it; all mean text.
        text: a template.
    """

    type: Literal["input_text", "output_text", "text"] = "input_text"
    text: str


class JudgeMessage(SpecModel):
    """A message to a judge.

    Attributes:
        role: who says it.
        content: a template, or several parts, which are joined by line breaks.
        type: "message".
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: str | JudgeText | tuple[JudgeText, ...]
    type: Literal["message"] = "message"

    @property
    def text(self) -> str:
        """The message's text."""
        parts = self.content if isinstance(self.content, tuple) else (self.content,)
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)


class ScoreModelGraderSpec(JudgeSpec):
    """A judge that gives a number in `range`.

    Attributes:
        input: the messages to the judge, whose texts are templates.
        range: the lowest and the highest score; what the judge says beyond is clipped.
    """

    type: Literal["score_model"]
    name: str = "score_model"
    input: tuple[JudgeMessage, ...] = Field(min_length=1)
    range: tuple[float, float] = (0.0, 1.0)
    pass_threshold: float | None = None

    @field_validator("range")
    @classmethod
    def _range_rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < value[1]:
            raise ValueError("must be two numbers, the lower first")
        if max(map(abs, value)) > MAX_SCORE:
            raise ValueError(f"must lie between -{MAX_SCORE:.0f} and {MAX_SCORE:.0f}")
        return value


class LabelModelGraderSpec(JudgeSpec):
    """A judge that chooses one of `labels`: 1.0 if it is one of `passing_labels`, else 0.0.

    Attributes:
        input: the messages to the judge, whose texts are templates.
        labels: what it may choose from.
        passing_labels: those that are worth 1.0.
    """

    type: Literal["label_model"]
    name: str = "label_model"
    input: tuple[JudgeMessage, ...] = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=2)
    passing_labels: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _passing_labels_exist(self) -> "LabelModelGraderSpec":
        unknown = sorted(set(self.passing_labels) - set(self.labels))
        if unknown:
            raise ValueError(f"passing_labels: {unknown} are not among the labels")
        return self


class ModelGraderSpec(JudgeSpec):
    """The short shape of a judge: one prompt, and a number `score` in the judge's JSON answer.

    Attributes:
        prompt: with `{final_answer}`, `{ground_truth}` and any other key of the row in braces.
        response_format: Chat Completions' own, with a schema that has a number `score`; one is made where it is None.
    """

    type: Literal["model"]
    name: str = "model"
    prompt: str
    response_format: dict[str, Any] | None = None
    pass_threshold: float | None = None


TraceMeasure = Literal[
    "tool_calls",
    "turns",
    "sampled_tokens",
    "latency_s",
    "parallelism",
    "failed_calls",
    "repeated_calls",
    "wrong_tools",
    "forbidden_tools",
]


class TraceGraderSpec(GraderSpecModel):
    """How the answer was reached: 1.0 at `best` and beyond, 0.0 at `worst` and beyond, linear in between.

    Attributes:
        measure: what is measured of the rollout. `latency_s` is seconds from the first request to the answer;
            `parallelism` is calls per turn that calls; `failed_calls` had an error as their result; `repeated_calls`
            are equal to an earlier one; `wrong_tools` counts calls of tools that do not exist, or that are not among
            `tools`; `forbidden_tools` those of `tools`.
        best: the value that scores 1.0.
        worst: the value that scores 0.0; it may be below `best`, as for `parallelism`.
        tools: the names that count; None for all.
    """

    type: Literal["trace"]
    name: str = "trace"
    measure: TraceMeasure
    best: float
    worst: float
    tools: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> "TraceGraderSpec":
        if self.best == self.worst:
            raise ValueError("best and worst must differ")
        if self.measure == "forbidden_tools" and not self.tools:
            raise ValueError("tools: name the forbidden tools")
        return self


AnyJudgeSpec = ScoreModelGraderSpec | LabelModelGraderSpec | ModelGraderSpec

SingleGraderSpec = Annotated[
    StringCheckGraderSpec
    | TextSimilarityGraderSpec
    | PythonGraderSpec
    | EndpointGraderSpec
    | ScoreModelGraderSpec
    | LabelModelGraderSpec
    | ModelGraderSpec
    | TraceGraderSpec,
    Field(discriminator="type"),
]


class MultiGraderSpec(GraderSpecModel):
    """Several graders, combined by the formula `calculate_output` over their names.

    Attributes:
        graders: a mapping by name, a list of named graders, or one grader: at most 64, of which 16 in python, as each
            of those has processes. None of them is a `multi`.
        calculate_output: a formula over their names: `+ - * / ^`, `min max abs floor ceil exp sqrt log`.
        invalid_grade: the score of an answer that has none otherwise: the formula has no value for its graders' scores,
            or the answer lacks what one of them reads. A grader that broke is still a failure.
        normalise: "each" compares rollouts by each grader apart, and adds the comparisons up with the formula's weights
            (GDPO, arXiv:2601.05242), so that a grader whose scores hardly differ is not drowned by another's; "sum" by
            the whole score.
    """

    type: Literal["multi"]
    name: str = "multi"
    graders: dict[str, SingleGraderSpec]
    calculate_output: str
    pass_threshold: float | None = None
    invalid_grade: Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE)] | None = None
    normalise: Literal["sum", "each"] = "sum"

    @field_validator("graders", mode="before")
    @classmethod
    def _as_mapping(cls, graders: Any) -> Any:
        if is_object(graders) and isinstance(graders.get("type"), str):
            graders = [graders]
        if not is_list(graders):
            return graders
        names = [g.get("name", g.get("type")) if is_object(g) else None for g in graders]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"two graders share the name {sorted(map(str, repeated))}: give each its own 'name'")
        return dict(zip(names, graders, strict=True))

    @field_validator("graders")
    @classmethod
    def _not_too_many(cls, graders: dict[str, SingleGraderSpec]) -> dict[str, SingleGraderSpec]:
        if len(graders) > MAX_GRADERS:
            raise ValueError(f"at most {MAX_GRADERS} graders; found {len(graders)}")
        n_python = sum(isinstance(grader, PythonGraderSpec) for grader in graders.values())
        if n_python > MAX_PYTHON_GRADERS:
            raise ValueError(
                f"at most {MAX_PYTHON_GRADERS} python graders, found {n_python}: one may compute several scores"
            )
        return graders


GraderSpec = Annotated[SingleGraderSpec | MultiGraderSpec, Field(discriminator="type")]
