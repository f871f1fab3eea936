"""The strict base model: an unknown field is an error that names it (DESIGN invariant 5)."""

from pydantic import BaseModel, ConfigDict


class SpecModel(BaseModel):
    """Immutable, and closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
