"""Records as runs of all kinds leave them, written down by the rules of the trainer."""

from hypothesis import strategies as st

FIXED = ("step", "epoch", "split", "checkpoint", "top1", "ema_top1", "loss", "seconds")
numbers = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))  # a lone surrogate is no text
others = st.dictionaries(texts.filter(lambda name: name not in FIXED), numbers | texts, max_size=2)


@st.composite
def histories(draw):
    """All records of a run that has finished once or, extended, twice."""
    steps = draw(st.integers(1, 4), label="steps per epoch")
    window = draw(st.integers(0, 6), label="record_every_steps")
    evaluated = draw(st.sampled_from(["validation", "test"]))
    every = draw(st.integers(1, 3), label="eval_every_epochs")
    sharpness = draw(st.integers(0, 2), label="sharpness_every_epochs")
    ends = draw(st.sets(st.integers(1, 5), min_size=1, max_size=2), label="ends of the run")
    failing = draw(st.sets(st.integers(1, 5), max_size=2), label="epochs without measurements")
    best = draw(st.integers(0, 4))
    further = draw(others)
    written = []

    def write(split, step, **more):
        figures = {"top1": len(written) / 7, "loss": 0.5, "seconds": 1.0}
        record = {**further, "step": step, "epoch": step // steps, "split": split, **more}
        written.append(record | (figures if split in ("validation", "test") else {}))

    for epoch in range(1, max(ends) + 1):
        end = epoch * steps
        for step in range(end - steps + 1, end + 1):
            if window and step % window == 0:
                write("train_steps", step)
        write("train", end)
        if (epoch in ends or epoch % every == 0) and epoch not in failing:
            write(evaluated, end)
        if sharpness and epoch % sharpness == 0 and epoch not in failing:
            write("sharpness", end)
        if epoch in ends and epoch in failing:  # the same command has been given again
            write(evaluated, end)
        if epoch in ends and evaluated == "validation":
            validated = [r["step"] for r in written if r["split"] == "validation"]
            write("test", validated[best % len(validated)], checkpoint="best")
            write("test", end)
    return written
