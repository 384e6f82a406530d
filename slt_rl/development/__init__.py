"""Development over training: events counted in play, stages and forms of curves, transitions."""

from slt_rl.development.confusion import Confusion as Confusion
from slt_rl.development.confusion import confusion_table as confusion_table
from slt_rl.development.diversity import Diversity as Diversity
from slt_rl.development.diversity import attributions as attributions
from slt_rl.development.diversity import ensemble_diversity as ensemble_diversity
from slt_rl.development.event_curves import Breadth as Breadth
from slt_rl.development.event_curves import EventCurves as EventCurves
from slt_rl.development.event_curves import Landmarks as Landmarks
from slt_rl.development.event_curves import SeedMean as SeedMean
from slt_rl.development.event_curves import breadth as breadth
from slt_rl.development.event_curves import event_curves as event_curves
from slt_rl.development.event_curves import landmarks as landmarks
from slt_rl.development.event_curves import overshoot_p_value as overshoot_p_value
from slt_rl.development.event_curves import seed_mean as seed_mean
from slt_rl.development.events import EpisodeEvents as EpisodeEvents
from slt_rl.development.events import EventEnv as EventEnv
from slt_rl.development.events import EventState as EventState
from slt_rl.development.events import EventTotals as EventTotals
from slt_rl.development.events import advance_gymnax as advance_gymnax
from slt_rl.development.events import play_events as play_events
from slt_rl.development.events import recurrent_play_events as recurrent_play_events
from slt_rl.development.form_shapes import Form as Form
from slt_rl.development.form_shapes import Shape as Shape
from slt_rl.development.form_shapes import constant as constant
from slt_rl.development.form_shapes import event_locked as event_locked
from slt_rl.development.form_shapes import free_bumps as free_bumps
from slt_rl.development.form_shapes import logistic as logistic
from slt_rl.development.form_shapes import power as power
from slt_rl.development.form_shapes import replicator as replicator
from slt_rl.development.form_shapes import rise_decay as rise_decay
from slt_rl.development.form_shapes import standard_forms as standard_forms
from slt_rl.development.form_shapes import stretched_exponential as stretched_exponential
from slt_rl.development.forms import FormComparison as FormComparison
from slt_rl.development.forms import FormFit as FormFit
from slt_rl.development.forms import compare_forms as compare_forms
from slt_rl.development.forms import fit_form as fit_form
from slt_rl.development.memory import LagCurve as LagCurve
from slt_rl.development.memory import Memory as Memory
from slt_rl.development.memory import memory_curve as memory_curve
from slt_rl.development.seed_effects import SeedEffects as SeedEffects
from slt_rl.development.seed_effects import seed_effects as seed_effects
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
    "Breadth",
    "Confusion",
    "Curve",
    "Detection",
    "Diversity",
    "EpisodeEvents",
    "EventCurves",
    "EventEnv",
    "EventState",
    "EventTotals",
    "Form",
    "FormComparison",
    "FormFit",
    "LagCurve",
    "Landmarks",
    "Memory",
    "Plateau",
    "SeedEffects",
    "SeedMean",
    "Shape",
    "Stages",
    "Transition",
    "TransitionScore",
    "advance_gymnax",
    "attributions",
    "breadth",
    "compare_forms",
    "confusion_table",
    "constant",
    "detect_stages",
    "detect_transitions",
    "ensemble_diversity",
    "event_curves",
    "event_locked",
    "fit_form",
    "free_bumps",
    "label_transitions",
    "labeled_range",
    "landmarks",
    "logistic",
    "memory_curve",
    "overshoot_p_value",
    "plateaus",
    "play_events",
    "power",
    "recurrent_play_events",
    "replicator",
    "rise_decay",
    "score_transitions",
    "seed_effects",
    "seed_mean",
    "standard_forms",
    "stretched_exponential",
    "total_score",
    "wilson_interval",
]
