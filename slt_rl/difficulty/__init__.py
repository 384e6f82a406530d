"""The ladder of difficulty: which estimator survives which difficulty of reinforcement learning."""

from slt_rl.difficulty.pipeline import climb as climb
from slt_rl.difficulty.protocol import FULL as FULL
from slt_rl.difficulty.protocol import QUICK as QUICK
from slt_rl.difficulty.protocol import Protocol as Protocol

__all__ = ["FULL", "QUICK", "Protocol", "climb"]
