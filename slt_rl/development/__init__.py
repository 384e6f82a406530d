"""Development over training: stages found from curves, and transitions known from labels."""

from slt_rl.development.stages import Curve as Curve
from slt_rl.development.stages import Detection as Detection
from slt_rl.development.stages import Stages as Stages
from slt_rl.development.stages import detect_stages as detect_stages
from slt_rl.development.stages import detect_transitions as detect_transitions
from slt_rl.development.transitions import Plateau as Plateau
from slt_rl.development.transitions import Transition as Transition
from slt_rl.development.transitions import TransitionScore as TransitionScore
from slt_rl.development.transitions import label_transitions as label_transitions
from slt_rl.development.transitions import labeled_range as labeled_range
from slt_rl.development.transitions import plateaus as plateaus
from slt_rl.development.transitions import score_transitions as score_transitions
from slt_rl.development.transitions import total_score as total_score
from slt_rl.development.transitions import wilson_interval as wilson_interval

__all__ = [
    "Curve",
    "Detection",
    "Plateau",
    "Stages",
    "Transition",
    "TransitionScore",
    "detect_stages",
    "detect_transitions",
    "label_transitions",
    "labeled_range",
    "plateaus",
    "score_transitions",
    "total_score",
    "wilson_interval",
]
