"""ViT against its equations in NumPy; initialisation; refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import ViT, create

PATCH, WIDTH, HEADS = 2, 16, 2


@pytest.fixture(scope="module")
def model():
    return ViT(PATCH, WIDTH, depth=2, heads=HEADS, num_classes=5)


def reference(params, x):
    """[B, H, W, C] -> [B, 5] in float64, token by token as arXiv 2205.01580 and 2010.11929 say."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def attention(x, p):  # x [tokens, width]
        out = p["out"]["bias"]
        for head in range(HEADS):
            q, k, v = (
                x @ p[name]["kernel"][:, head] + p[name]["bias"][head]
                for name in ("query", "key", "value")
            )
            weights = np.exp(q @ k.T / math.sqrt(WIDTH / HEADS))
            weights /= weights.sum(-1, keepdims=True)
            out = out + weights @ v @ p["out"]["kernel"][head]
        return out

    def mlp(x, p):
        x = x @ p["dense1"]["kernel"] + p["dense1"]["bias"]
        x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x @ p["dense2"]["kernel"] + p["dense2"]["bias"]

    def position(row, column):
        frequencies = [10_000 ** (-i / (WIDTH // 4 - 1)) for i in range(WIDTH // 4)]
        parts = [(math.sin, column), (math.cos, column), (math.sin, row), (math.cos, row)]
        return [wave(place * f) for wave, place in parts for f in frequencies]

    logits = []
    for image in np.asarray(x, np.float64):
        tokens = []
        for row in range(image.shape[0] // PATCH):
            for column in range(image.shape[1] // PATCH):
                patch = image[row * PATCH :, column * PATCH :][:PATCH, :PATCH]
                token = np.tensordot(patch, p["embedding"]["kernel"], 3) + p["embedding"]["bias"]
                tokens.append(token + position(row, column))
        y = np.array(tokens)
        for name in ("block0", "block1"):
            y = y + attention(norm(y, p[name]["norm1"]), p[name]["attention"])
            y = y + mlp(norm(y, p[name]["norm2"]), p[name])
        y = norm(y, p["norm"]).mean(0)
        logits.append(y @ p["head"]["kernel"] + p["head"]["bias"])
    return np.array(logits)


def test_outputs_are_those_of_the_equations(model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype("f4"), shapes)
    logits = jax.jit(model.apply, static_argnames="train")(variables, x, train=True)
    np.testing.assert_allclose(logits, reference(variables["params"], x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_initialisation():
    model = ViT(4, 128, depth=1, heads=2, num_classes=5)
    x = jnp.ones((1, 8, 8, 3))
    params = jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()["params"]
    np.testing.assert_array_equal(params["head"]["kernel"], 0)
    block = params["block0"]
    query, out = (block["attention"][name]["kernel"] for name in ("query", "out"))
    for kernel, fans in ((query, 2 * 128), (out, 2 * 128), (block["dense1"]["kernel"], 5 * 128)):
        bound = (6 / fans) ** 0.5
        assert 0.99 * bound < jnp.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.02)


@pytest.mark.parametrize("size", [(24, 32), (32, 8), (0, 16)])
def test_images_that_are_not_whole_patches_are_refused(size):
    message = f"16x16 and needs sides that are multiples of 16, got {size[0]}x{size[1]}"
    with pytest.raises(ValueError, match=message):
        create("vit_s16", 10).init(jax.random.key(0), jnp.zeros((1, *size, 3)), train=False)
