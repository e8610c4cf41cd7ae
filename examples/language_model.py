"""VaSSO around AdamW: a small transformer learns to write Python, character by character.

The text is a module of the standard library. Shows `refresh_every=5`: VaSSO's direction is an
average, so it is enough to refresh it in every fifth step. A step then costs 1.2 gradient
evaluations on average instead of 2. Prints the loss on the last tenth of the text, which is held
out, in nats per character; a uniform guess has log(vocabulary), about 4.5.
"""

import argparse
import inspect

import flax.linen as nn
import jax
import numpy as np
import optax

from vasso_jax.optim import value_and_update, vasso

STEPS, BATCH_SIZE, CONTEXT, WIDTH = 150, 16, 64, 64


class Transformer(nn.Module):
    vocabulary: int

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(self.vocabulary, WIDTH)(tokens)
        x += self.param("positions", nn.initializers.normal(0.1), (CONTEXT, WIDTH))
        mask = nn.make_causal_mask(tokens)
        for _ in range(2):
            x += nn.MultiHeadAttention(num_heads=4, use_bias=False)(nn.LayerNorm()(x), mask=mask)
            x += nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))


def main():
    vocabulary, tokens = np.unique(list(inspect.getsource(argparse)), return_inverse=True)
    text, held_out = np.split(tokens, [len(tokens) * 9 // 10])
    window = np.arange(CONTEXT + 1)
    held_out = held_out[np.arange(0, len(held_out) - CONTEXT, CONTEXT)[:, None] + window]
    print(f"{len(tokens)} characters, log(vocabulary) {np.log(len(vocabulary)):.2f}")
    model = Transformer(len(vocabulary))
    params = jax.jit(model.init)(jax.random.key(0), held_out[:1, :-1])
    tx = vasso(optax.adamw(3e-3), rho=0.05, theta=0.4, refresh_every=5)
    state = tx.init(params)

    @jax.jit
    def loss_fn(params, i, tokens):
        logits, targets = model.apply(params, tokens[:, :-1]), tokens[:, 1:]
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def step(params, state, tokens):
        passes, updates, state = value_and_update(loss_fn, tx)(params, state, tokens)
        return optax.apply_updates(params, updates), state, passes

    rng, evaluations = np.random.default_rng(0), 0
    for i in range(1, STEPS + 1):
        starts = rng.integers(len(text) - CONTEXT, size=(BATCH_SIZE, 1))
        params, state, passes = step(params, state, text[starts + window])
        evaluations += passes.clean.taken + 1  # the perturbed pass is always taken
        if i % 50 == 0:
            loss = loss_fn(params, 0, held_out)
            print(f"step {i:3}  {evaluations:3} gradient evaluations  held-out loss {loss:.2f}")
    return float(loss)


if __name__ == "__main__":
    main()
