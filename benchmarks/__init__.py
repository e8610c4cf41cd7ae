"""What things cost, as ratios: one folder per question, with its command and its results.

    step          a train step of each method, side by side, and PyTorch's
    changes       single decisions about the step, undone one by one
    seeds         several seeds in one program, against one seed alone
    throughput    main.py against its bare step
    startup       from the command to the first step
    import_time   vasso_jax.optim against optax
    input         JPEG files to batches, against tf.data; and the input of a small data set
    gpu           all of it on one GPU, in about 25 minutes
    compiled      the step compiled for TPU slices, without having any

Each is run from the root of a clone as `python -m benchmarks.NAME`; `--help` says what can be set.
`harness` holds what they share.
"""
