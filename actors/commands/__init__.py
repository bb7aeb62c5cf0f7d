"""What each sub-command does, from its parsed arguments to its exit code. run.py calls one of these, nothing else."""
