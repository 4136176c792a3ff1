"""The parameters of a run: validated before anything starts, passed down as one frozen value."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakehouse.errors import WrongUse


class Parameters(BaseModel):
    """Hold what a run may be asked differently."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enable_quality_checks: bool = Field(
        True, description="Run suites, volume gate and oracle; rules and ledger always run."
    )
    min_rows_threshold: int = Field(1_000, ge=0, description="Fewest receipts a release may hold.")
    max_quarantine_pct: float = Field(5.0, ge=0, le=100, description="Most lines of a source open in quarantine, in %.")
    n_clusters: int = Field(4, ge=2, le=20, description="Customer segments.")
    min_support: float = Field(0.005, ge=0.0001, le=1, description="Least share of receipts an itemset is in.")
    min_confidence: float = Field(0.2, ge=0, le=1, description="Least confidence of a rule.")
    max_itemset_size: int = Field(3, ge=1, le=20, description="Most products of an itemset.")


def new_parameters(**given: object) -> Parameters:
    """Make parameters; errors: WrongUse naming the first wrong one and what it must be."""
    try:
        return Parameters.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        limits = first["msg"].removeprefix("Input should be ").lower()
        raise WrongUse(name, first["input"], limits) from None


def parameters_among(given: Mapping[str, object]) -> Parameters:
    """Make parameters of the values that are named like one, as arguments of a flow are; errors: WrongUse."""
    return new_parameters(**{name: given[name] for name in Parameters.model_fields if name in given})
