"""Covariates of parameters, declared in fit.toml: powers and categories, and what they add to the log of a parameter.

log p_i = log p + sum_c coefficient_c x_ic + eta_i
power       x = log(covariate / reference), coefficient the exponent
category    x = 1 for patients of the level, else 0; a coefficient for each level but the reference
"""

import re
from typing import Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from .settings import Section, number


class Category(Section):
    """Levels of a covariate that is a category: one log effect for each but the reference."""

    reference: str = Field(min_length=1, description="level at which the typical parameter holds: text")
    levels: tuple[str, ...] = Field(strict=False, min_length=1, description='all other levels: ["F"]')
    spread: float = number(0.001, 10.0, "SD of the normal prior of each level's effect on the log", 0.5)

    @field_validator("levels")
    @classmethod
    def _others(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        every = (info.data.get("reference"), *value)
        if twice := [x for i, x in enumerate(every) if x in every[:i]]:
            raise ValueError(f"names {twice[0]} twice (the reference is no level of its own)")
        return value


class Term(NamedTuple):
    """What is added to the log of a parameter: coefficient x covariate."""

    kind: Literal["power", "category"]
    column: str
    level: str
    """Blank for a power."""
    centre: float
    spread: float
    """Of the coefficient's normal prior; 0: fixed."""
    reference: float = 1.0
    """Of a power: the value of the covariate at which it adds nothing."""

    @property
    def key(self) -> str:
        """Column, and level where there is one."""
        return f"{self.column} {self.level}".strip()

    def coefficient(self, parameter: str) -> str:
        """Return the name of the coefficient, of word characters alone: power_cl_WT, category_cl_SEX_F."""
        return re.sub(r"\W", "_", f"{self.kind}_{parameter}_{self.key}")

    def meaning(self, parameter: str) -> str:
        """Return what the coefficient is."""
        if self.kind == "power":
            return f"exponent of {self.column} / {self.reference:g} in {parameter}"
        return f"effect of {self.column} {self.level} on log {parameter}"


class Covariate(Section):
    """Power of a covariate, (x / reference)^power, or the levels of a category."""

    power: float | None = number(-10.0, 10.0, "exponent, or centre of its prior where spread is above 0", None)
    reference: float | None = Field(
        default=None, gt=0, description="value at which the typical parameter holds: a number above 0"
    )
    spread: float = number(0.0, 10.0, "SD of the exponent's normal prior; 0 fixes it", 0.0)
    category: Category | None = Field(default=None, description="{ reference, levels, spread } of a category")

    @model_validator(mode="after")
    def _one_kind(self) -> "Covariate":
        if (self.category is None) == (self.power is None) or (self.power is None) != (self.reference is None):
            raise ValueError("needs power and reference, or category alone")
        return self

    def terms(self, column: str) -> tuple[Term, ...]:
        """Return what the covariate in ``column`` adds."""
        if self.category is None:
            return (Term("power", column, "", self.power or 0.0, self.spread, self.reference or 1.0),)
        return tuple(Term("category", column, level, 0.0, self.category.spread) for level in self.category.levels)


class WithCovariates(Section):
    """A parameter that covariates act on."""

    covariates: dict[str, Covariate] = Field(
        default={},
        description="effects of covariates, by column: { WT = { power = 0.75, reference = 70.0 } } or "
        '{ SEX = { category = { reference = "M", levels = ["F"] } } }',
    )

    @field_validator("covariates")
    @classmethod
    def _told_apart(cls, value: dict[str, Covariate]) -> dict[str, Covariate]:
        names = [t.coefficient("") for column, c in value.items() for t in c.terms(column)]
        if twice := [n for i, n in enumerate(names) if n in names[:i]]:
            raise ValueError(
                f"has two coefficients that would both be written {twice[0].strip('_')}: rename a column or level"
            )
        return value

    @property
    def terms(self) -> tuple[Term, ...]:
        """What covariates add to the log of the parameter."""
        return tuple(t for column, c in self.covariates.items() for t in c.terms(column))
