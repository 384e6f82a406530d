"""The toy model of superposition: everything public in one place.

The network and its data are in `superposition_model`, the exact losses in `superposition_loss`, the
critical points in `superposition_critical`, the classifier in `superposition_phases`.
"""

from toy_models.superposition_critical import (
    PhaseClass,
    critical_point,
    exact_llc,
    known_classes,
    level,
    parse_class,
    solve_polygon,
)
from toy_models.superposition_loss import population_kl, population_loss, population_loss_host
from toy_models.superposition_model import (
    Examples,
    Params,
    dense_inputs,
    example_loss,
    forward,
    outputs,
    sample_examples,
)
from toy_models.superposition_phases import (
    classify,
    count_classes,
    equal_occupancy,
    hull_sizes,
    hull_vertices,
    shapes,
)

__all__ = [
    "Examples",
    "Params",
    "PhaseClass",
    "classify",
    "count_classes",
    "critical_point",
    "dense_inputs",
    "equal_occupancy",
    "exact_llc",
    "example_loss",
    "forward",
    "hull_sizes",
    "hull_vertices",
    "known_classes",
    "level",
    "outputs",
    "parse_class",
    "population_kl",
    "population_loss",
    "population_loss_host",
    "sample_examples",
    "shapes",
    "solve_polygon",
]
