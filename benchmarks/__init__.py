"""Costs as ratios: one folder per benchmark, with its command and its results.

    step          a train step of each method, and of PyTorch
    changes       design decisions of the step, undone one at a time
    seeds         several seeds in one program, against a single seed
    throughput    main.py against its bare step
    startup       from the command to the first step
    import_time   vasso_jax.optim against optax
    input         JPEG files to batches, against tf.data; and the input of a small data set
    gpu           the main benchmarks on one GPU, in about 25 minutes
    compiled      the step compiled for TPU slices, without a TPU

Run each from the root of a clone as `python -m benchmarks.NAME`; `--help` lists the options.
`harness` holds the shared code.
"""
