"""Agents trained on Craftax: run folders that hold a whole history, and how to read them."""

from slt_rl.agents.run import Run as Run
from slt_rl.agents.run import load_run as load_run
