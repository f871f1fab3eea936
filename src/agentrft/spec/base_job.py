"""What jobs of every method have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from agentrft.spec.chat_template import TemplateVariables
from agentrft.spec.integrations import WithIntegrations


class BaseJobSpec(WithIntegrations):
    """What jobs of every method have. All paths are absolute once a job was loaded from a file.

    Attributes:
        model: the weights to train: `smollm2-135m`, a Hugging Face id, or a folder.
        training_file: JSONL, one sample a line.
        validation_file: JSONL of samples that are measured during training.
        suffix: a part of the fine-tuned model's name.
        seed: of adapters, of the samples' order, and of every sampled token.
        metadata: recorded with the job, and nothing else.
        chat_template_kwargs: variables of the model's chat template, such as `enable_thinking`; in training and in all
            that the trained model is used for.
        start_from: a checkpoint of a job of the same model, or an exported adapter, whose weights training begins with.
        dtype: of weights and activations; "auto" is `bfloat16` where the processor multiplies it natively, else
            `float32`.
        deterministic: a fixed schedule of batches, so that a resumed job ends with the very same numbers; slower.
        output_dir: the folder of jobs.
        integrations: where the metrics of its steps go beside the job's own record.
    """

    model: str
    training_file: Path
    validation_file: Path | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 0
    metadata: dict[str, str] = Field(default_factory=dict)
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)
    start_from: Path | None = None
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    deterministic: bool = False
    output_dir: Path = Path("runs")

    @property
    def data_files(self) -> dict[str, Path]:
        """The files of its samples, by field."""
        given = {"training_file": self.training_file, "validation_file": self.validation_file}
        return {name: path for name, path in given.items() if path is not None}

    def with_data_files(self, files: Mapping[str, Path], **changes: Any) -> Self:
        """A copy with other `data_files`, and with other changes."""
        return self.model_copy(update={**files, **changes})
