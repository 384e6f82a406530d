"""Agents trained on Craftax: run folders that hold a whole history, and how to read them."""

from slt_rl.agents.bundle import pack_run as pack_run
from slt_rl.agents.bundle import unpack_run as unpack_run
from slt_rl.agents.networks import NetworkSpec as NetworkSpec
from slt_rl.agents.run import Run as Run
from slt_rl.agents.run import load_run as load_run
from slt_rl.agents.spec import LearningSpec as LearningSpec
from slt_rl.agents.spec import RunSpec as RunSpec
from slt_rl.agents.spec import WorldSpec as WorldSpec
from slt_rl.agents.spec import checkpoint_schedule as checkpoint_schedule
from slt_rl.agents.training import train_run as train_run
