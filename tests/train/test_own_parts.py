"""Networks, data sets and optimizers of the user's own, as names in the config and as objects."""

import concurrent.futures
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import FrozenConfigDict

from vasso_jax import data
from vasso_jax.optim import l2_ball, m_sharpness_aware, sam, vasso
from vasso_jax.train import UsageError, check, train
from vasso_jax.train.presets import digits


class Linear(nn.Module):
    """A BatchNorm of flax over the pixels, and a linear layer."""

    num_classes: int
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train):
        x = x.reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x)
        return nn.Dense(self.num_classes)(x)


def fixed_head(width: int = 2):
    """A function that makes a network, and is not told the number of classes."""
    return Linear(num_classes=width)


class Counting(nn.Module):
    """Has a variable that is neither a parameter nor a statistic."""

    @nn.compact
    def __call__(self, x, train):
        self.variable("counters", "calls", jnp.zeros, ())
        return nn.Dense(2)(x.reshape(len(x), -1))


def halves(train_images: int = 32, bright: int = 200) -> data.ImageDataset:
    """Images whose upper (class 0) or lower half is bright."""

    def draw(count):
        labels = np.arange(count) % 2
        images = np.zeros((count, 4, 4, 1), np.uint8)
        images[labels == 0, :2] = bright
        images[labels == 1, 2:] = bright
        return images, labels

    return data.from_arrays("halves", draw(train_images), draw(8))


def scaled_by_hand(factor: float) -> data.ImageDataset:
    """A data set that is not made by `from_arrays`; with any factor, its pixels are floats."""
    made = halves()
    images = made.train.images * factor if factor != 1 else made.train.images
    train = data.Split(images, made.train.labels.astype(np.int64))
    return data.ImageDataset(
        "by hand", ("upper", "lower"), [0.4], np.array([0.4]), train, made.test
    )


def pair(**fields):
    return "no data set", fields


def nowhere_to_be_read():
    raise OSError("no data set")


def any_sgd(lr=0.1, **fields):
    """Takes any field, and uses none."""
    del fields
    return optax.sgd(lr)


def own_refreshing(base, refresh_every: int):
    """Its argument is not that of our recipes."""
    del refresh_every
    return base


def takes_nothing():
    """Lacks its argument."""


def sam_twice(base, rho: float = 0.1, *, factor: float):
    """A method with an argument that must be given."""
    return sam(base, rho * factor)


def accumulating(lr: float):
    """A base that steps at every second batch."""
    return optax.MultiSteps(optax.sgd(lr), 2).gradient_transformation()


def accumulating_sam(base):
    return optax.MultiSteps(sam(base), 2)


def in_halves(base, microbatches=2):
    return sam(base, microbatches=microbatches)


def in_parts(base, *, microbatches):
    return sam(base, microbatches=microbatches)


def careless_sgd(lr=0.1, **fields):
    """Takes any field, and hands it on."""
    return optax.sgd(lr, **fields)


def keyword_only(*, lr=0.1, base=None):
    """Takes nothing by position."""


def position_only(first, rho=0.1, /):
    """Takes nothing by name."""


def first_by_position(rate, /, momentum=0.9):
    """A base whose learning rate can only be given by position."""
    return optax.sgd(rate, momentum)


def nothing(first):
    """Forgets to return what it has made."""


def sam_hidden(base):
    """SAM where it cannot ask for its gradients, as it does not come first."""
    return optax.chain(optax.clip(1.0), sam(base))


class Bare(nn.Module):
    """A network without running statistics."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


def config(**sections):
    made = digits("none")
    made.augment = {}
    made.update({"epochs": 2, "batch_size": 16, "tensorboard": False})
    for section, value in sections.items():
        made[section] = value
    return made


HERE = "tests.train.test_own_parts"


def test_names_of_modules_pick_all_parts_with_their_fields(tmp_path):
    made = config(
        model={"name": f"{HERE}:Linear", "momentum": 0.5},
        data={"name": f"{HERE}:halves", "train_images": 48},
        method={"name": f"{HERE}:sam_twice", "factor": 2.0},
        base={"name": "optax:lion", "lr": 0.01, "b1": 0.8},
    )
    result = train(made, str(tmp_path / "run"))
    assert result["steps"] == 6
    assert result["test_top1"] == 1.0
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["model"] == {"name": f"{HERE}:Linear", "momentum": 0.5}
    assert settings["method"] == {"name": f"{HERE}:sam_twice", "rho": 0.1, "factor": 2.0}
    assert settings["data"] == {"name": f"{HERE}:halves", "train_images": 48, "bright": 200}
    assert (settings["base"]["b1"], settings["base"]["b2"]) == (0.8, 0.99)
    records = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(records[0]["perturbation_norm"], 0.2, rtol=1e-4)
    # Again, it is finished.
    assert train(made, str(tmp_path / "run")) == result


def test_objects_take_the_place_of_sections(tmp_path, capsys):
    parts = {"model": Linear(2), "dataset": halves(), "tx": optax.adam(0.1)}
    made = config(model={"name": "wrn10_1"})
    result = train(made, str(tmp_path / "run"), **parts)
    assert result["test_top1"] == 1.0
    settings = json.loads((tmp_path / "run/config.json").read_text())
    assert settings["base"] == settings["schedule"] == {"name": "given"}
    assert settings["method"]["object"].startswith("GradientTransformation")
    assert settings["model"]["object"].endswith("Linear(num_classes=2)")
    assert settings["data"] == {"name": "halves"}
    records = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert all("lr" not in record for record in records)
    out = capsys.readouterr().out
    assert "Linear, 66 parameters" in out
    assert "a given optax transform" in out
    assert (tmp_path / "run/curves.png").exists()
    # The same again has finished, another network or transform is another run.
    assert train(made, str(tmp_path / "run"), **(parts | {"tx": optax.adam(0.1)})) == result
    with pytest.raises(UsageError, match=r"model\.object"):
        train(made, str(tmp_path / "run"), **(parts | {"model": Linear(2, momentum=0.5)}))
    with pytest.raises(UsageError, match=r"method\.object"):
        train(made, str(tmp_path / "run"), **(parts | {"tx": optax.adam(0.01)}))


@pytest.mark.parametrize(
    ("sections", "given", "message"),
    [
        (
            {"model": {"name": "wrn10_1", "dtype": "bfloat16"}},
            {"model": Linear(2)},
            r"model\.dtype would have no effect, as model takes the place of the section model: "
            r"empty it by config\.model = \{\}, or leave model out",
        ),
        ({"data": {"name": "digits", "split_seed": 1}}, {"dataset": halves()}, "data.split_seed"),
        ({"method": {"name": "sam", "rho": 0.1}}, {"tx": optax.sgd(0.1)}, "method.rho would"),
        ({"rho_schedule": {"rho_min": 0.1}}, {"tx": optax.sgd(0.1)}, "rho_schedule.rho_min would"),
        ({"base": {"name": "adam", "lr": 0.1}}, {"tx": optax.sgd(0.1)}, "base.lr would"),
        ({"schedule": {"name": "cosine", "final_lr": 0}}, {"tx": optax.sgd(0.1)}, "final_lr would"),
    ],
)
def test_fields_of_a_section_that_an_object_replaces_are_refused(sections, given, message):
    with pytest.raises(ValueError, match=message):
        check(config(**({"base": {}} | sections)), **given)


@pytest.mark.parametrize("wrong", [{}, config().to_dict(), None, "configs/digits.py"])
def test_a_config_of_another_type_is_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match=r"must be a ConfigDict that began as .*default_config"):
        train(wrong, str(tmp_path / "run"))


def test_a_frozen_config_will_do():
    frozen = FrozenConfigDict(config())
    assert check(frozen).settings == check(config()).settings


def test_what_is_required_in_a_section_is_not_where_an_object_replaces_it():
    made = config(data={"name": "folder"}, model={"name": f"{HERE}:sam_twice"})
    assert check(made, dataset=halves(), model=Linear(2)).settings["data"] == {"name": "halves"}


def test_training_works_in_a_thread(tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        made = config(data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"})
        result = pool.submit(train, made, str(tmp_path / "run")).result()
    assert result["test_top1"] == 1.0


@pytest.mark.parametrize("other", [{"second": 2}, {}, {"first": 1, "second": 2}])
def test_a_run_with_other_fields_of_an_own_function_is_another_run(tmp_path, other):
    base = {"name": f"{HERE}:any_sgd"}

    def made(fields):
        return config(
            data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"}, base=base | fields
        )

    train(made({"first": 1}), str(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"other settings .*base\."):
        train(made(other), str(tmp_path / "run"))


def test_results_without_a_checkpoint_are_not_overwritten(tmp_path):
    made = config(data={"name": f"{HERE}:halves"}, model={"name": f"{HERE}:Linear"})
    train(made, str(tmp_path / "run"))
    records = tmp_path / "run/metrics.jsonl"
    lines = records.read_text()
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(UsageError, match="holds 2 epochs, but there is no checkpoint: bring"):
        train(made, str(tmp_path / "run"))
    assert records.read_text() == lines
    # A run that was killed between its first record and its first checkpoint starts anew.
    records.write_text("".join(lines.splitlines(keepends=True)[:1]))
    train(made, str(tmp_path / "run"))
    assert len(records.read_text().splitlines()) == len(lines.splitlines())


def test_an_argument_of_an_own_method_means_what_the_method_says():
    made = config(method={"name": f"{HERE}:own_refreshing", "refresh_every": 1000})
    check(made).open(halves())


def test_schedules_with_other_numbers_make_other_runs():
    settings = [
        check(config(method={"name": "sam", "rho": optax.linear_schedule(0.1, end, 9)})).settings
        for end in (0.0, 0.0, 0.05)
    ]
    assert settings[0] == settings[1] != settings[2]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"name": f"{HERE}:fixed_head", "width": 3}}, r"logits of shape \(1, 3\).*2"),
        ({"model": {"name": f"{HERE}:Counting"}}, "variables counters"),
        ({"model": {"name": f"{HERE}:halves"}}, "must be a Flax Linen module"),
        ({"model": {"name": f"{HERE}:Linear", "depth": 3}}, "has no depth"),
        ({"data": {"name": f"{HERE}:pair"}}, "must return a vasso_jax.data.ImageDataset"),
        ({"data": {"name": f"{HERE}:halves", "size": 3}}, "has no size"),
        ({"data": {"name": f"{HERE}:scaled_by_hand", "factor": 0.5}}, "images must be uint8"),
        ({"method": {"name": f"{HERE}:sam_twice"}}, "needs factor: give --config.method.factor"),
        ({"method": {"name": f"{HERE}:sam_thrice"}}, "has no 'sam_thrice'. Did you mean sam_twice"),
        ({"base": {"name": "optax:lion"}}, "base optax:lion needs lr"),
        ({"base": {"name": "optax:nothing"}}, "optax has no 'nothing'"),
        ({"method": {"name": "optax.nowhere:sam"}}, "no module optax.nowhere"),
        ({"method": {"name": "optax:__version__"}}, "is no function or class"),
        (
            {"method": {"name": f"{HERE}:takes_nothing"}},
            "must take the base optimizer as its first",
        ),
        ({"base": {"name": f"{HERE}:takes_nothing"}}, "must take the learning rate as its first"),
        ({"base": {"name": "optax:adamw", "lr": 0.1, "mask": "matrixes"}}, "Did you mean matrices"),
        ({"method": {"name": "sam", "mask": 5}}, "method.mask must be a name"),
        ({"model": {"name": "wrn10_1", "dtype": 5}}, "model.dtype must be one of float32"),
        ({"model": {"name": "wrn10_1", "dtype": "float64"}}, "no effect without JAX_ENABLE_X64=1"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_message(tmp_path, sections, message):
    made = config(**({"data": {"name": f"{HERE}:halves"}} | sections))
    with pytest.raises(UsageError, match=message):
        train(made, str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"method": {"name": f"{HERE}:accumulating_sam"}}, "MultiSteps reads the learning rate"),
        ({"base": {"name": f"{HERE}:accumulating", "lr": 0.1}}, "give the whole optimizer.*tx="),
        ({"method": {"name": f"{HERE}:in_halves"}}, "takes each batch whole"),
        ({"method": {"name": f"{HERE}:in_parts"}}, "takes each batch whole"),
        (
            {"schedule": {"name": "optax:constant_schedule", "value": 0.1}},
            r"^schedule optax:constant_schedule cannot be called as schedule\(lr, epochs, "
            r"steps_per_epoch, value=\.\.\.\): .*; its signature is \(value\)$",
        ),
        (
            {"base": {"name": f"{HERE}:careless_sgd", "momentun": 0.9}},
            "^base .*:careless_sgd: .*unexpected keyword argument 'momentun'",
        ),
        (
            {"base": {"name": f"{HERE}:keyword_only"}},
            r"must take the learning rate as its first argument, by position; .* is \(\*, lr",
        ),
        (
            {"method": {"name": f"{HERE}:keyword_only"}},
            "must take the base optimizer as its first argument, by position",
        ),
        *(
            (
                {section: {"name": f"{HERE}:position_only", "rho": 0.2}},
                r"must take all arguments but the first by name; .* \(first, rho=0\.1, /\)",
            )
            for section in ("base", "method")
        ),
        ({"method": {"name": f"{HERE}:nothing"}}, "what method .*:nothing returns must be an opt"),
        ({"base": {"name": f"{HERE}:nothing", "lr": 0.1}}, "what base .*:nothing returns must be"),
    ],
    ids=str,
)
def test_an_optimizer_that_cannot_be_right_is_refused_before_the_data_is_read(
    tmp_path, sections, message
):
    # There is no such data set, which would be the message if it were read.
    made = config(data={"name": f"{HERE}:pair"}, **sections)
    with pytest.raises(UsageError, match=message):
        train(made, str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (sam(optax.sgd(0.1), microbatches=2), "takes each batch whole"),
        (optax.masked(sam(optax.sgd(0.1), microbatches=2), True), "takes each batch whole"),
        (m_sharpness_aware(l2_ball(0.1), microbatches=2), "takes each batch whole"),
        (optax.MultiSteps(sam(optax.sgd(0.1)), 2), "its last batch only: put it around the base"),
        (
            optax.chain(optax.MultiSteps(vasso(optax.sgd(0.1)), 2).gradient_transformation()),
            "its last batch only: put it around the base",
        ),
    ],
)
def test_an_object_that_cannot_be_right_is_refused_before_the_data_is_read(tmp_path, tx, message):
    with pytest.raises(UsageError, match=message):
        train(config(data={"name": f"{HERE}:pair"}), str(tmp_path / "run"), tx=tx)


def test_an_optimizer_made_for_the_parameters_is_refused_before_the_first_step():
    def opened(**options):
        labels = {"BatchNorm_0": "sharp", "Dense_0": "sharp"}
        tx = optax.partition({"sharp": sam(optax.sgd(0.1), **options)}, labels)
        return check(config(), model=Linear(2), dataset=halves(), tx=tx).open(halves())

    assert opened().total_steps == 4
    with pytest.raises(ValueError, match="takes each batch whole"):
        opened(microbatches=2)


def test_a_learning_rate_by_position_only_will_do():
    made = config(base={"name": f"{HERE}:first_by_position", "lr": 0.2, "momentum": 0.5})
    assert check(made).settings["base"]["momentum"] == 0.5


def test_a_module_that_ends_the_process_is_one_message(tmp_path, monkeypatch):
    (tmp_path / "own_exit_on_import.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="own_exit_on_import cannot be imported: SystemExit: 3"):
        train(config(model={"name": "own_exit_on_import:Net"}), str(tmp_path / "run"))


@pytest.mark.parametrize("workdir", [None, 3])
def test_a_workdir_of_another_type_is_one_message(workdir):
    with pytest.raises(UsageError, match=f"workdir must be the path of a folder, got {workdir}"):
        train(config(), workdir, model=Linear(2), dataset=halves())


def test_divergence_advises_only_what_the_run_has(tmp_path):
    parts = {"model": Linear(2), "dataset": halves(), "tx": optax.sgd(1e38)}
    with pytest.raises(UsageError, match=r"diverged: .*Try a smaller learning rate of tx, in"):
        train(config(epochs=1), str(tmp_path / "run"), **parts)


def test_a_refused_run_leaves_a_folder_that_was_there(tmp_path):
    (tmp_path / "kept").mkdir()
    for folder in ("kept", "new"):
        with pytest.raises(UsageError, match="no data set"):
            train(config(data={"name": f"{HERE}:nowhere_to_be_read"}), str(tmp_path / folder))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_accumulation_that_is_right_trains(tmp_path):
    base = optax.MultiSteps(optax.sgd(0.5), 2)
    for name, tx in (("plain", base), ("sam", sam(base.gradient_transformation(), 0.1))):
        made = config()
        made.epochs = 4
        parts = {"model": Linear(2), "dataset": halves(), "tx": tx}
        assert train(made, str(tmp_path / name), **parts)["test_top1"] == 1.0


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"model": Linear}, "model must be a Flax Linen module"),
        ({"dataset": (1, 2)}, "dataset must be a vasso_jax.data.ImageDataset"),
        ({"tx": optax.sgd}, "tx must be an optax transform"),
    ],
)
def test_an_object_of_another_kind_is_one_message(tmp_path, part, message):
    with pytest.raises(UsageError, match=message):
        train(config(), str(tmp_path / "run"), **part)


def test_a_data_set_made_by_hand_trains_like_any_other(tmp_path):
    made = config(data={"name": f"{HERE}:scaled_by_hand", "factor": 1.0})
    assert train(made, str(tmp_path / "run"), model=Linear(2))["test_top1"] == 1.0
    facts = json.loads((tmp_path / "run/dataset.json").read_text())
    assert (facts["class_names"], facts["mean"]) == (["upper", "lower"], [0.4])


def test_an_epoch_without_a_clean_pass_is_recorded_without_a_loss(tmp_path):
    parts = {"model": Linear(2), "dataset": halves(), "tx": vasso(optax.sgd(0.1), refresh_every=3)}
    made = config()
    made.epochs, made.batch_size = 4, 32
    train(made, str(tmp_path / "run"), **parts)
    records = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = ["loss" in record for record in records if record["split"] == "train"]
    assert losses == [True, False, False, True]


@pytest.mark.parametrize("which", ["perturbed", "both"])
@pytest.mark.parametrize(
    ("sections", "parts", "message"),
    [
        ({}, {}, "method none has no perturbed pass"),
        ({"method": {"name": f"{HERE}:sam_hidden"}}, {}, "reports no perturbed pass"),
        ({}, {"tx": sam_hidden(optax.sgd(0.1))}, "reports no perturbed pass"),
        ({}, {"tx": optax.adam(0.1)}, "reports no perturbed pass"),
        ({"method": {"name": "sam"}}, {"model": Bare(2)}, "network has no running statistics"),
    ],
)
def test_a_choice_of_statistics_without_effect_is_refused(
    tmp_path, which, sections, parts, message
):
    made = config(batch_stats=which, **sections)
    parts = {"model": Linear(2), "dataset": halves()} | parts
    with pytest.raises(UsageError, match=f"batch_stats={which} has no effect: .*{message}"):
        train(made, str(tmp_path / "run"), **parts)
    assert not (tmp_path / "run/config.json").exists()


def test_method_none_is_told_from_a_given_transform_before_any_data():
    made = config(batch_stats="both", data={"name": f"{HERE}:pair"})
    with pytest.raises(ValueError, match="method none has no perturbed pass"):
        check(made)
    check(made, tx=sam_twice(optax.sgd(0.1), factor=1.0))


def test_fields_of_any_name_reach_a_function_that_takes_them():
    made = config(data={"name": f"{HERE}:pair", "anything": 3})
    assert check(made).source.fields == {"anything": 3}


class Behind(nn.Module):
    """A BatchNorm of flax behind a linear layer, so that its input depends on the parameters."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(x)
        return nn.Dense(self.num_classes, name="head")(x)


@pytest.mark.parametrize("which", ["clean", "perturbed", "both"])
def test_running_statistics_of_a_run_are_the_sequence_by_hand(which):
    rho, steps, rng = 0.5, 4, np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (32, 4, 4, 1)).astype(np.uint8), rng.integers(0, 2, 32)
    dataset = data.from_arrays("random", (images, labels), (images, labels))
    made, model = config(method={"name": "sam", "rho": rho}, batch_stats=which), Behind(2)
    experiment = check(made, model=model, dataset=dataset).open(dataset)
    program, pipeline = experiment.program, experiment.pipeline
    state = program.create_state()
    # In training, outputs do not depend on the running statistics: any will do.
    start = jax.tree.map(np.array, state.batch_stats)

    def pixels(batch):
        return data.normalize(batch.images, dataset.mean, dataset.std)

    @jax.jit
    def perturbed(params, batch):
        def loss(params):
            variables = {"params": params, "batch_stats": start}
            logits, _ = model.apply(variables, pixels(batch), True, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

        g = jax.grad(loss)(params)
        return jax.tree.map(lambda w, d: w + rho * d / optax.tree.norm(g), params, g)

    def seen(params, batch):
        """Mean and variance of what reaches the BatchNorm."""
        flat = np.asarray(pixels(batch)).reshape(len(batch.labels), -1)
        inputs = flat @ np.asarray(params["first"]["kernel"]) + np.asarray(params["first"]["bias"])
        return np.stack([inputs.mean(0), inputs.var(0)])

    running = np.stack([np.zeros(4), np.ones(4)])
    for step, item in zip(range(steps), pipeline.training(0), strict=False):
        batch = pipeline.take_batch(item, jnp.int32(step))
        at_w, at_eps = seen(state.params, batch), seen(perturbed(state.params, batch), batch)
        assert np.abs(at_w - at_eps).max() > 0.01
        for statistics in {"clean": [at_w], "perturbed": [at_eps], "both": [at_w, at_eps]}[which]:
            running = 0.5 * running + 0.5 * statistics
        state = program.train_step(state, item)
        norm = state.batch_stats["norm"]
        np.testing.assert_allclose(np.stack([norm["mean"], norm["var"]]), running, 1e-4, 1e-4)
