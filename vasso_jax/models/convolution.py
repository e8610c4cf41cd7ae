"""A 2-D convolution whose gradients are also fast on the CPU inside control flow.

XLA:CPU converts convolutions to the axis order of its fast kernel only in a program's outermost
computation, and the two gradient convolutions that JAX derives start from another order. Inside
`lax.cond` or `lax.scan` they run as a naive loop: a gradient of WRN-10-1 at batch 128 took 9 s
there and 0.25 s outside (two cores, jax 0.10.2 and 0.12.0.1). With both written in the fast order,
NHWC images and HWIO kernels, it takes 0.25 s in either place.

Output y, input gradient dx and kernel gradient dk are the three parts of one trilinear form,
<dy, conv(x, k)>. Each part is linear in both of its inputs, and its derivatives consist of the
other two. So each is a primitive that is declared to be bilinear, and JAX does the rest: forward
and reverse mode of every order are fast. (`jax.custom_vjp` has no forward mode. `jax.custom_jvp`
has both, with tangents that are written as the transposes of the gradients; but its derivatives of
the second order are slow inside `lax.cond` again.)

`jax.vmap` over images with one kernel is one convolution of all of them, whose gradients are as
above. Any other `jax.vmap` of a part is `jax.vmap` of its definition. The gradient of a function
that uses it inside is therefore the one that JAX derives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

_ORDER = ("NHWC", "HWIO", "NHWC")
_Pairs = Sequence[tuple[int, int]]


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | _Pairs,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: None = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for images, as `flax.linen.Conv(conv_general_dilated=...)`.

    The arguments are the same, with `lhs` [B, H, W, C] and `rhs` [h, w, C, F] of the same floating
    dtype, and the matching `dimension_numbers`. Dilation, groups and `out_sharding` are not
    supported.

    Returns:
        [B, H', W', F] of the dtype of `lhs`, or of `preferred_element_type`.

    Raises:
        NotImplementedError: for anything else that `jax.lax.conv_general_dilated` supports.
        ValueError: the kernel is larger than the padded image.
    """
    order = partial(jax.lax.conv_dimension_numbers, lhs.shape, rhs.shape)
    if (
        not lhs.ndim == rhs.ndim == 4
        or order(dimension_numbers) != order(_ORDER)
        or {*(lhs_dilation or ()), *(rhs_dilation or ()), feature_group_count, batch_group_count}
        != {1}
        or out_sharding is not None
    ):
        raise NotImplementedError(
            "this convolution takes NHWC images and HWIO kernels, without dilation, groups or "
            f"out_sharding; got {lhs.shape=}, {rhs.shape=}, {dimension_numbers=}, {lhs_dilation=}, "
            f"{rhs_dilation=}, {feature_group_count=}, {batch_group_count=}, {out_sharding=}"
        )
    image, window = lhs.shape[1:3], rhs.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(image, window, window_strides, padding)
    if any(n + low + high < k for n, k, (low, high) in zip(image, window, padding, strict=True)):
        raise ValueError(f"the kernel, {window}, is larger than images of {image} with {padding=}")
    convolution = _Convolution(
        tuple(image),
        tuple(window),
        tuple(window_strides),
        tuple((low, high) for low, high in padding),
        precision,
        preferred_element_type,
    )
    return _output.bind(*_equally_varying(lhs, rhs), convolution=convolution)


@dataclass(frozen=True)
class _Convolution:
    """y = conv(x, k), and its gradients dx and dk given dy.

    x and dx are [B, H, W, C], k and dk [h, w, C, F], y and dy [B, H', W', F]; (H, W) is `image` and
    (h, w) is `window`. The dtype of y may differ from that of x and k.
    """

    image: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    precision: Any
    preferred_element_type: Any

    def output(self, x: jax.Array, k: jax.Array) -> jax.Array:
        return self._convolve(x, k, self.padding, self.strides)

    def input_gradient(self, dy: jax.Array, k: jax.Array) -> jax.Array:
        padding = [(k - 1 - low, n - 1 + low - last) for n, k, low, last in self._axes()]
        turned = jax.lax.rev(k, (0, 1)).astype(dy.dtype)
        convolve = partial(self._convolve, padding=padding, lhs_dilation=self.strides)

        def spelled_out(dy, turned):
            return convolve(dy, _materialized(turned).swapaxes(2, 3))  # with [h, w, F, C]

        as_derived = partial(convolve, dimension_numbers=("NHWC", "HWOI", "NHWC"))
        return _on_cpu_or_else(spelled_out, as_derived, dy, turned).astype(k.dtype)

    def kernel_gradient(self, x: jax.Array, dy: jax.Array) -> jax.Array:
        # On an Explicit mesh the sum over a sharded batch needs the sharding of its result, which
        # is that of the kernel. `output` accepts only replicated ones, as jax.lax does.
        replicated = NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec())
        padding = [(low, last + k - n - low) for n, k, low, last in self._axes()]
        convolve = partial(
            self._convolve, padding=padding, rhs_dilation=self.strides, out_sharding=replicated
        )

        def spelled_out(x, dy):
            # The channels act as the batch, and the batch as the channels that are summed over:
            # images [C, H, W, B] and windows [H', W', B, F].
            x, dy = _materialized((x, dy))
            dk = convolve(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3))
            return dk.transpose(1, 2, 0, 3)

        as_derived = partial(convolve, dimension_numbers=("CHWN", "IHWO", "HWNC"))
        dk = _on_cpu_or_else(spelled_out, as_derived, x.astype(dy.dtype), dy)
        return dk.astype(x.dtype)

    def _axes(self) -> list[tuple[int, int, int, int]]:
        """For H and W: sizes of image and window, low padding, and where the last window begins.

        It begins at that place of the padded image. Pixels after that window, left over by the
        stride, are not used.
        """
        axes = zip(self.image, self.window, self.strides, self.padding, strict=True)
        return [
            (n, k, low, (low + n + high - k) // stride * stride)
            for n, k, stride, (low, high) in axes
        ]

    def _convolve(
        self,
        lhs: jax.Array,
        rhs: jax.Array,
        padding: _Pairs,
        strides: Sequence[int] = (1, 1),
        dimension_numbers: tuple[str, str, str] = _ORDER,
        **kwargs: Any,
    ) -> jax.Array:
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            strides,
            padding,
            dimension_numbers=dimension_numbers,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
            **kwargs,
        )


def _materialized(arrays: Any) -> Any:
    """The same arrays, computed before they are transposed.

    XLA:CPU would compute them while it transposes, against the order of its inputs in memory: a
    step of ResNet-18 takes 1.1 times as long (jax 0.10.2 and 0.12.0.1).
    """
    return jax.lax.optimization_barrier(arrays)


def _on_cpu_or_else(
    on_cpu: Callable[..., jax.Array], otherwise: Callable[..., jax.Array], *args: jax.Array
) -> jax.Array:
    """The choice is made when a program is lowered for a platform.

    A program compiled on a CPU host for a GPU or TPU thus has the gradients that JAX derives.
    """
    return jax.lax.platform_dependent(*args, cpu=on_cpu, default=otherwise)


def _equally_varying(*arrays: jax.Array) -> list[jax.Array]:
    """Inside `jax.shard_map`: all marked as varying along every axis along which one of them does.

    Where images are sharded and the kernel is not, the derivative of this mark sums the gradient of
    the kernel over the devices.
    """
    types: list[Any] = [jax.typeof(x) for x in arrays]
    varying = [t.manual_axis_type.varying for t in types]
    missing = [tuple(sorted(frozenset().union(*varying) - axes)) for axes in varying]
    return [
        jax.lax.pcast(x, axes, to="varying") if axes else x
        for x, axes in zip(arrays, missing, strict=True)
    ]


def _primitive(
    name: str, part: Callable[..., jax.Array], kernel_is_second: bool = True
) -> Primitive:
    """`part`, a method of `_Convolution`, as a primitive with the parameter `convolution`.

    Its arguments are arrays of images and a kernel, or else twice images.
    """

    def definition(*args, convolution):
        return part(convolution, *args)

    def result_type(*args, convolution):
        return jax.make_jaxpr(partial(part, convolution))(*args).out_avals[0]

    def batched(args, axes, *, convolution):
        if kernel_is_second and axes[1] is None:
            images = jnp.moveaxis(args[0], axes[0], 0)
            merged = images.reshape(-1, *images.shape[2:])
            out = primitive.bind(merged, args[1], convolution=convolution)
            return out.reshape(*images.shape[:2], *out.shape[1:]), 0
        return jax.vmap(partial(part, convolution), axes)(*args), 0

    primitive = Primitive(name)
    primitive.def_impl(jax.jit(definition, static_argnames="convolution"))
    primitive.def_abstract_eval(result_type)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(definition, multiple_results=False))
    return primitive


_output = _primitive("convolution", _Convolution.output)
_input_gradient = _primitive("convolution_input_gradient", _Convolution.input_gradient)
_kernel_gradient = _primitive(
    "convolution_kernel_gradient", _Convolution.kernel_gradient, kernel_is_second=False
)

# For each part: its transposes in the first and in the second input, given a cotangent.
ad.defbilinear(
    _output,
    lambda dy, x, k, **params: _input_gradient.bind(dy, k, **params),
    lambda dy, x, k, **params: _kernel_gradient.bind(x, dy, **params),
)
ad.defbilinear(
    _input_gradient,
    lambda x, dy, k, **params: _output.bind(x, k, **params),
    lambda x, dy, k, **params: _kernel_gradient.bind(x, dy, **params),
)
ad.defbilinear(
    _kernel_gradient,
    lambda k, x, dy, **params: _input_gradient.bind(dy, k, **params),
    lambda k, x, dy, **params: _output.bind(x, k, **params),
)
