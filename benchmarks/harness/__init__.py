"""What the benchmarks share.

arguments     the common command line arguments, their checks, and errors as one message
configs       a config as main.py reads it
machine       what a benchmark ran on, and its peak FLOP/s
processes     child processes and their environment
results       JSON files
timing        measuring in turn, and the summary of what was measured
train_step    the trainer's compiled step on random images
"""
