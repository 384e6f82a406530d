"""Models whose truth is known: each with its exact learning coefficient."""

from toy_models.catalog import problems as problems
from toy_models.problem import ToyProblem as ToyProblem

__all__ = ["ToyProblem", "problems"]
