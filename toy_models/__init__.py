"""Models whose truth is known: each with its exact learning coefficient."""

from toy_models.catalog import problems as problems
from toy_models.problem import ToyProblem as ToyProblem
from toy_models.references import Reference as Reference

__all__ = ["Reference", "ToyProblem", "problems"]
