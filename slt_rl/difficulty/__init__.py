"""The ladder of difficulty: which estimator survives which difficulty of reinforcement learning."""
