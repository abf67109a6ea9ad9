"""Base class of the configuration's tables."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Base of the tables of the configuration file and the catalog; an unknown key is a mistake."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
    )
