"""The local learning coefficient in reinforcement learning, measured so that it can be trusted."""

from slt_rl.data import Dataset as Dataset
from slt_rl.llc import estimate_llc as estimate_llc
from slt_rl.llc import llc_curve as llc_curve
from slt_rl.result import LLCCurve as LLCCurve
from slt_rl.result import LLCEstimate as LLCEstimate
from slt_rl.samplers import HMC as HMC
from slt_rl.samplers import MALA as MALA
from slt_rl.samplers import NUTS as NUTS
from slt_rl.samplers import SGLD as SGLD
from slt_rl.samplers import KineticLangevin as KineticLangevin

__version__ = "0.1.0"

__all__ = [
    "HMC",
    "MALA",
    "NUTS",
    "SGLD",
    "Dataset",
    "KineticLangevin",
    "LLCCurve",
    "LLCEstimate",
    "estimate_llc",
    "llc_curve",
]
