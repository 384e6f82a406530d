"""The validation run of the toy model of superposition: train, measure, check, report."""

from slt_rl.validation.pipeline import validate as validate
from slt_rl.validation.protocol import FULL as FULL
from slt_rl.validation.protocol import QUICK as QUICK
from slt_rl.validation.protocol import Protocol as Protocol

__all__ = ["FULL", "QUICK", "Protocol", "validate"]
