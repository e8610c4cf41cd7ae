# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""How `value_and_update` reaches a sharpness-aware transform that is inside other transforms.

It gives ASK in place of the gradient. The transform then asks for the gradients itself, and returns
a `Reported` in place of its state. Transforms such as `optax.chain` hand both on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from vasso_jax.optim._evaluation import Passes
from vasso_jax.optim._typed import tree_map


class _NoGradient:
    """In place of a gradient. It can be handed on, and nothing else."""


def _refuse(*_: Any) -> Any:
    raise TypeError("there is no gradient here: the optimizer is to ask for it")


# Otherwise JAX would take it for a leaf, and mapping over it would not fail.
jax.tree_util.register_pytree_node(_NoGradient, _refuse, _refuse)

ASK: Any = _NoGradient()
TRIAL: Any = _NoGradient()


class Reported(NamedTuple):
    """What a sharpness-aware transform returns in place of its state, if it was given ASK."""

    state: Any
    passes: Any


def can_ask(update: Callable[..., Any], state: optax.OptState, params: optax.Params) -> bool:
    """Whether `update` hands its first argument on, untouched, to one sharpness-aware transform.

    A trial with TRIAL for the gradient decides. It is traced for its types only, and without the
    loss: the transform answers at once with the parameters, which look like updates. What touches
    TRIAL, before or after that, raises. Any exception means no; the user's own return in the call
    that follows.
    """

    def grad_fn(at: optax.Params, i: Any) -> optax.Updates:
        return at

    def trial() -> list[tuple[()]]:
        _, new_state = update(TRIAL, state, params, grad_fn=grad_fn)
        return [() for _ in _reports(new_state)]

    try:
        return len(jax.eval_shape(trial)) == 1
    except Exception:
        return False


def split(state: Any) -> tuple[Passes, optax.OptState]:
    """The passes in a state that was returned for ASK, and the state without them."""
    (report,) = _reports(state)
    return report.passes, tree_map(_plain, state, is_leaf=_is_report)


def _plain(node: Any) -> Any:
    return node.state if isinstance(node, Reported) else node


def _reports(state: Any) -> list[Reported]:
    return list(filter(_is_report, jax.tree.leaves(state, is_leaf=_is_report)))


def _is_report(node: Any) -> bool:
    return isinstance(node, Reported)
