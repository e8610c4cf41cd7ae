# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""How `value_and_update` reaches a sharpness-aware transform that is inside other transforms.

It gives an `Ask` in place of the gradient. The transform then evaluates the gradients itself, and
returns a `Reported` in place of its state. Transforms such as `optax.chain` hand both on.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import optax

from vasso_jax.optim._evaluation import Evaluated, Passes
from vasso_jax.optim._typed import tree_map


class _NoGradient:
    """In place of a gradient. It can be handed on, and nothing else."""


@dataclasses.dataclass(frozen=True)
class Ask(_NoGradient):
    """Asks the transform to evaluate the gradients that it needs.

    Attributes:
        clean: the clean gradient of the whole batch, if it has been evaluated.
    """

    clean: Evaluated | None = None


def _refuse(*_: Any) -> Any:
    raise TypeError("there is no gradient here: the optimizer is to ask for it")


# Otherwise JAX would take them for leaves, and mapping over them would not fail.
for _kind in (_NoGradient, Ask):
    jax.tree_util.register_pytree_node(_kind, _refuse, _refuse)

TRIAL: Any = _NoGradient()


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Needs:
    """What a sharpness-aware transform evaluates.

    Attributes:
        clean: when the clean gradient is evaluated; `in parts`: always, but not that of the whole
            batch.
        microbatches: the number of parts in which the batch is evaluated.
    """

    clean: Literal["always", "sometimes", "in parts", "never"]
    microbatches: int = 1


class Reported(NamedTuple):
    """What a sharpness-aware transform returns in place of its state, for an `Ask` or TRIAL."""

    state: Any
    answer: Any


def needs_of(
    update: Callable[..., Any],
    state: optax.OptState,
    params: optax.Params,
    extra_args: Mapping[str, Any],
) -> Needs | None:
    """What the one sharpness-aware transform needs that `update` hands its first argument to.

    None: there is no such transform, there are several, or another transform touches the gradient.

    A trial with TRIAL for the gradient decides. It is traced for its types only, and without the
    loss: the transform answers at once with the parameters, which look like updates. What touches
    TRIAL, before or after that, raises. Any exception means no; the user's own return in the call
    that follows.
    """

    def grad_fn(at: optax.Params, i: Any) -> optax.Updates:
        return at

    def trial() -> list[Needs]:
        _, new_state = update(TRIAL, state, params, grad_fn=grad_fn, **extra_args)
        return [report.answer for report in _reports(new_state)]

    try:
        answers = jax.eval_shape(trial)
    except Exception:
        return None
    return answers[0] if len(answers) == 1 else None


def split(state: Any) -> tuple[Passes, optax.OptState]:
    """The passes in a state that was returned for an `Ask`, and the state without them."""
    (report,) = _reports(state)
    return report.answer, tree_map(_plain, state, is_leaf=_is_report)


def _plain(node: Any) -> Any:
    return node.state if isinstance(node, Reported) else node


def _reports(state: Any) -> list[Reported]:
    return list(filter(_is_report, jax.tree.leaves(state, is_leaf=_is_report)))


def _is_report(node: Any) -> bool:
    return isinstance(node, Reported)
