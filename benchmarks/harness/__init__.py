"""Code that the benchmarks share.

arguments     the common command line arguments, their checks, and errors as one message
configs       reads a config as main.py does
machine       the hardware and versions of a benchmark, and the peak FLOP/s
processes     child processes and their environment
results       JSON files
timing        interleaved measurements and their summary
train_step    the trainer's compiled step on random images
"""
