"""The state of a run, and the programs that JAX compiles for it: training and evaluation steps."""
