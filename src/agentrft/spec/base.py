"""The strict base model: an unknown field is an error that names it (docs/architecture.md)."""

from pydantic import BaseModel, ConfigDict


class SpecModel(BaseModel):
    """Immutable, closed to unknown fields, and with finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
