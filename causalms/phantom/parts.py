"""What every part of a design shares: bounded numbers, and keys that must be known."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number is expected")
    return value


Number = BeforeValidator(_no_truth)
Share = Annotated[float, Field(ge=0, le=1), Number]
BelowOne = Annotated[float, Field(ge=0, lt=1), Number]
#: Bounds that keep expected counts within what a brain can hold, and exponentials finite.
Slope = Annotated[float, Field(ge=-3, le=3), Number]
RateRatio = Annotated[float, Field(ge=1e-6, le=20), Number]
LogRate = Annotated[float, Field(ge=-10, le=5), Number]
#: Bounds of what people and lesions are, wide of anything that was ever measured.
Patients = Annotated[float, Field(gt=0, le=1_000_000), Number]
Years = Annotated[float, Field(gt=0, le=100), Number]
LogSpread = Annotated[float, Field(ge=0, le=3), Number]
Volume = Annotated[float, Field(gt=0, le=100_000), Number]
Shape = Annotated[float, Field(ge=0.01, le=1_000_000), Number]
Weight = Annotated[float, Field(ge=0, le=1_000_000), Number]
Hazard = Annotated[float, Field(ge=0, le=50), Number]
Week = Annotated[int, Field(gt=0, le=2080), Number]


def only(value: Any, known: tuple[str, ...], key: str) -> None:
    """Refuse names that are not known, as a value of this key."""
    for name in value:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is not known; choose from {', '.join(known)}")


class Part(BaseModel):
    """A part of a design: nothing in it changes, and no key is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def known_keys() -> set[str]:
    """Every key of every part, for suggestions."""
    parts: list[type[Part]] = [Part]
    keys: set[str] = set()
    while parts:
        part = parts.pop()
        keys |= set(part.model_fields)
        parts += part.__subclasses__()
    return keys
