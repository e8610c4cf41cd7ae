"""A 2-D convolution whose gradients are also fast on the CPU inside control flow.

XLA:CPU converts convolutions to the axis order of its fast kernel only in a program's outermost
computation, and the two gradient convolutions that JAX derives start from another order. Inside
`lax.cond` or `lax.scan` they run as a naive loop: a gradient of WRN-10-1 at batch 128 took 9 s
there and 0.25 s outside (two cores, jax 0.10.2 and 0.12.0.1). With both written in the fast order,
NHWC images and HWIO kernels, it takes 0.25 s in either place.

Output y, input gradient dx and kernel gradient dk are the three parts of one trilinear form,
<dy, conv(x, k)>. The derivatives of each part consist of the other two, so derivatives of every
order are fast. There is no forward mode (`jax.jvp`): compute a Hessian-vector product as the
gradient of the gradient's inner product with the vector.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

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
    conv = partial(
        jax.lax.conv_general_dilated,
        dimension_numbers=_ORDER,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    return _with_gradients(conv, image, window, window_strides, padding)(lhs, rhs)


def _with_gradients(
    conv: Callable[..., jax.Array],
    image: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: _Pairs,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(x, k) -> y by `conv`, differentiable any number of times in reverse mode.

    x and dx are [B, H, W, C], k and dk [h, w, C, F], y and dy [B, H', W', F]; (H, W) is `image` and
    (h, w) is `window`. The dtype of y may differ from that of x and k.
    """

    def plain(x, k):
        return conv(x, k, strides, padding)

    # For H and W: sizes of image and window, the low padding, and where in the padded image the
    # last window begins. Pixels after that window, left over by the stride, are not used.
    axes = [
        (n, k, low, (low + n + high - k) // stride * stride)
        for n, k, stride, (low, high) in zip(image, window, strides, padding, strict=True)
    ]
    dx_padding = [(k - 1 - low, n - 1 + low - last) for n, k, low, last in axes]
    dk_padding = [(low, last + k - n - low) for n, k, low, last in axes]

    # The choice between the two is made when a program is lowered for a platform, so that a program
    # compiled on a CPU host for a GPU or TPU has JAX's own gradients.
    @jax.custom_vjp
    def input_gradient(dy, k):
        def spelled_out(dy, k):
            turned = jax.lax.rev(k, (0, 1)).swapaxes(2, 3).astype(dy.dtype)  # [h, w, F, C]
            return conv(dy, turned, (1, 1), dx_padding, lhs_dilation=strides).astype(k.dtype)

        def derived(dy, k):
            x = jax.ShapeDtypeStruct((dy.shape[0], *image, k.shape[2]), k.dtype)
            return jax.linear_transpose(lambda x: plain(x, k), x)(dy)[0]

        return jax.lax.platform_dependent(dy, k, cpu=spelled_out, default=derived)

    @jax.custom_vjp
    def kernel_gradient(x, dy):
        def spelled_out(x, dy):
            # The channels act as the batch, and the batch as the channels that are summed over.
            images = x.transpose(3, 1, 2, 0).astype(dy.dtype)  # [C, H, W, B]
            windows = dy.transpose(1, 2, 0, 3)  # [H', W', B, F]
            dk = conv(images, windows, (1, 1), dk_padding, rhs_dilation=strides)
            return dk.transpose(1, 2, 0, 3).astype(x.dtype)

        def derived(x, dy):
            k = jax.ShapeDtypeStruct((*window, x.shape[3], dy.shape[3]), x.dtype)
            return jax.linear_transpose(lambda k: plain(x, k), k)(dy)[0]

        return jax.lax.platform_dependent(x, dy, cpu=spelled_out, default=derived)

    output = jax.custom_vjp(plain)

    def define(part, *others):
        """Each of `others` is a partial derivative of `part`, given the inputs and a cotangent."""
        part.defvjp(
            lambda *inputs: (part(*inputs), inputs),
            lambda inputs, cotangent: tuple(other(*inputs, cotangent) for other in others),
        )

    define(output, lambda x, k, dy: input_gradient(dy, k), lambda x, k, dy: kernel_gradient(x, dy))
    define(input_gradient, lambda dy, k, x: output(x, k), lambda dy, k, x: kernel_gradient(x, dy))
    define(kernel_gradient, lambda x, dy, k: input_gradient(dy, k), lambda x, dy, k: output(x, k))
    return output
