"""What every name gives: sizes, shapes and dtypes, by shape inference alone; and refusals."""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest

from vasso_jax.models import create


def shapes_of(model, shape=(1, 32, 32, 3)):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)


def logits_of(model, shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda v, x: model.apply(v, x, train=False), shapes_of(model, shape), x)


def vit_count(patch, width, depth, classes):
    """Added up by hand; in a block, attention has 4 square layers and the MLP 8 squares' worth."""
    block = 12 * width**2 + (4 + 4 + 1) * width + 2 * 2 * width
    return (3 * patch**2 + 1) * width + depth * block + 2 * width + (width + 1) * classes


def pyramidnet_count(depth, alpha, classes):
    """Added up by hand for widths that grow by whole numbers; BatchNorm has two a channel."""
    blocks = (depth - 2) // 2
    widths = range(16, 16 + alpha + 1, alpha // blocks)
    convolutions = sum(9 * (w + v) * v for w, v in itertools.pairwise(widths))
    norms = 2 * (16 + sum(widths[:-1]) + 2 * sum(widths[1:]) + widths[-1])
    return 27 * 16 + convolutions + norms + (widths[-1] + 1) * classes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        # The authors' networks.
        ("resnet18", 10, 11_173_962),
        ("resnet34", 10, 21_282_122),
        ("resnet50", 10, 23_520_842),
        ("resnet101", 10, 42_512_970),
        ("resnet152", 10, 58_156_618),
        ("wrn28_10", 10, 36_479_194),
        ("wrn28_10", 100, 36_536_884),
        ("wrn34_10", 10, 46_160_474),
        ("vgg11_bn", 10, 28_149_514),
        ("vgg13_bn", 10, 28_334_410),
        ("vgg16_bn", 10, 33_646_666),
        ("vgg19_bn", 10, 38_958_922),
        # torchvision's documentation.
        ("resnet18_imagenet", 1000, 11_689_512),
        ("resnet34_imagenet", 1000, 21_797_672),
        ("resnet50_imagenet", 1000, 25_557_032),
        ("resnet101_imagenet", 1000, 44_549_160),
        ("resnet152_imagenet", 1000, 60_192_808),
        # 28,485,477; the paper (arXiv 1610.02915) says 28.3 M.
        ("pyramidnet110", 10, pyramidnet_count(110, 270, 10)),
        # 22,859,368, 21,974,632 and 86,415,592; the papers give two digits.
        ("vit_s32", 1000, vit_count(32, 384, 12, 1000)),
        ("vit_s16", 1000, vit_count(16, 384, 12, 1000)),
        ("vit_b16", 1000, vit_count(16, 768, 12, 1000)),
    ],
)
def test_parameter_counts(name, num_classes, count):
    params = shapes_of(create(name, num_classes))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet34", "resnet18_imagenet", "wrn16_4", "pyramidnet20_13"])
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 33, 17, 4)])
def test_small_and_odd_images(name, shape):
    model = create(name, 7)
    assert logits_of(model, shape).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape"), [("vgg11_bn", (2, 65, 47, 4)), ("vit_s32", (2, 64, 32, 1))]
)
def test_other_images(name, shape):
    assert logits_of(create(name, 7), shape).shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet50", "resnet18_imagenet", "wrn10_1", "vgg11_bn", "pyramidnet8_12", "vit_s32"]
)
def test_with_bfloat16_the_products_alone_are_low(name):
    model = create(name, 10, dtype=jnp.bfloat16)
    variables = shapes_of(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert set(variables) == ({"params"} if name == "vit_s32" else {"params", "batch_stats"})
    assert logits_of(model, (2, 32, 32, 3)).dtype == jnp.float32

    x = jnp.zeros((2, 32, 32, 3))
    program = str(jax.make_jaxpr(lambda v: model.apply(v, x, train=False))(variables))
    products = re.findall(r":(\w+)\[.*\] = (?:convolution|dot_general)\[", program)
    paths = jax.tree.leaves_with_path(variables["params"])
    assert len(products) >= sum(path[-1].key == "kernel" for path, _ in paths)
    assert set(products) == {"bf16"}


def test_a_name_can_be_a_module_of_ones_own_and_fields_are_attributes():
    model = create("vasso_jax.models:ViT", 7, patch=4, width=16, depth=1, heads=2)
    assert (model.num_classes, model.width) == (7, 16)
    assert create("vgg11_bn", 7, dropout_rate=0.1).dropout_rate == 0.1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "Did you mean resnet18?"),
        ("resnet50-imagenet", "Did you mean resnet50_imagenet?"),
        ("vgg16", "Did you mean vgg16_bn?"),
        ("vit_b_16", "Did you mean vit_b16?"),
        ("wrn11_1", r"6 n \+ 4 \(10, 16, 22, 28, ...\) and its width"),
        ("wrn4_1", r"6 n \+ 4"),
        ("pyramidnet110_0", r"6 n \+ 2 \(8, 14, 20, 26, ...\) and its alpha"),
        ("pyramidnet112_48", r"6 n \+ 2"),
        ("zzz", "Known: resnet18, .* any wrnDEPTH_WIDTH or pyramidnetDEPTH_ALPHA"),
    ],
)
def test_unknown_models_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        create(name, 10)
