"""Relational attention compiled for the CPU: logits, softmax and weighted sum of a node in one go, and their gradients.

Nothing here is of size edges × width. The forward kernel walks the nodes, each with its edges beside each other, and
leaves behind one number per edge and head. The backward kernel walks the edges grouped by source, so that no two
threads ever write to one row; relation vectors, which every thread meets, have one buffer per thread. For a given
number of threads the result is therefore the same to the bit at each call.

What belongs to an edge stands in the order of the CSR by destination ("places"), and so streams through the cache.
Three things that were measured and are easy to undo by accident: inner loops run from 0 over a view of one head (with
another start numba allows for a negative index, and the loop is not vectorised: 6 times slower); the message is a
constant of the kernel, which is made per message (as an argument: 2 times slower); indices are read before the loop
over heads.

Compiled code is cached beside this file, or in numba's folder for the user. Keep every kernel in this file: numba's
cache looks only at the file of the outermost function, and would not see a change in another.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numba import njit, prange

SOURCE, SUM, PRODUCT = 0, 1, 2  # the message: x_src, x_src + e_rel, x_src * e_rel

# Everything of fastmath that lets a dot product use vector registers; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


Kernel: TypeAlias = Callable[..., None]


def _compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel: parallel, without the GIL, kept on disk where a folder can be written."""
    try:
        compiled = njit(parallel=True, nogil=True, fastmath=_FASTMATH, cache=True, error_model="numpy")(kernel)
    except RuntimeError:  # numba found no folder for its cache: each process compiles anew, 10 s or so
        compiled = njit(parallel=True, nogil=True, fastmath=_FASTMATH, error_model="numpy")(kernel)
    made: Kernel = compiled
    return made


def attend(mode: int) -> Kernel:
    """Return the forward kernel of a message."""
    return _made(_attend, mode)


def attend_backward(mode: int) -> Kernel:
    """Return the kernel for the gradients of a message and of its logit."""
    return _made(_attend_backward, mode)


@cache
def _made(maker: Callable[[int], Kernel], mode: int) -> Kernel:
    return maker(mode)


def _attend(mode: int) -> Kernel:
    @_compiled
    def attend(
        bounds: Any,  # (T + 1,) thread t has the nodes bounds[t] to bounds[t + 1]
        indptr: Any,
        src: Any,
        relation: Any,
        keep: Any,  # (E,) bool, or (0,): all edges are shown
        scale: Any,  # (E, H) factor of a message after the softmax (dropout), or (0, H): none
        term_dst: Any,  # (N, H)
        term_src: Any,  # (N, H)
        term_relation: Any,  # (R, H), or (0, H): none
        value: Any,  # (N, H, D)
        vector: Any,  # (R, H, D) relation vectors; (0, H, D) where mode is SOURCE
        slope: Any,  # of the dtype of value: a float64 would carry the logits of float32 along
        share: Any,  # out (E, H): each edge's share of its dst's attention, 0 for a hidden edge
        weight: Any,  # out (E, H): share * scale; may be the same array as share where there is no scale
        out: Any,  # out (N, H, D), zeros
    ) -> None:
        num_heads = value.shape[1]
        width = value.shape[2]
        for thread in prange(bounds.shape[0] - 1):
            peak = np.empty(num_heads, dtype=value.dtype)
            total = np.empty(num_heads, dtype=value.dtype)
            for node in range(bounds[thread], bounds[thread + 1]):
                for h in range(num_heads):
                    peak[h] = -np.inf
                    total[h] = 0
                for place in range(indptr[node], indptr[node + 1]):
                    j = src[place]
                    r = relation[place]
                    for h in range(num_heads):
                        logit = term_dst[node, h] + term_src[j, h]
                        if term_relation.shape[0] > 0:
                            logit += term_relation[r, h]
                        logit = logit if logit > 0 else slope * logit
                        if keep.shape[0] > 0 and not keep[place]:
                            logit = -np.inf
                        share[place, h] = logit
                        peak[h] = logit if logit > peak[h] else peak[h]
                for h in range(num_heads):  # where every edge is hidden: exp(-inf - 0) is 0, and so is the total
                    peak[h] = peak[h] if peak[h] > -np.inf else 0
                for place in range(indptr[node], indptr[node + 1]):
                    for h in range(num_heads):
                        part = math.exp(share[place, h] - peak[h])
                        share[place, h] = part
                        total[h] += part
                for h in range(num_heads):
                    total[h] = 1 / total[h] if total[h] != 0 else 0
                for place in range(indptr[node], indptr[node + 1]):
                    for h in range(num_heads):
                        share[place, h] *= total[h]
                        if scale.shape[0] > 0:
                            weight[place, h] = share[place, h] * scale[place, h]
                for place in range(indptr[node], indptr[node + 1]):
                    j = src[place]
                    r = relation[place]
                    for h in range(num_heads):
                        w = weight[place, h]
                        row = out[node, h]
                        x = value[j, h]
                        if mode == SOURCE:
                            for k in range(width):
                                row[k] += w * x[k]
                        else:
                            z = vector[r, h]
                            if mode == SUM:
                                for k in range(width):
                                    row[k] += w * (x[k] + z[k])
                            else:
                                for k in range(width):
                                    row[k] += w * (x[k] * z[k])

    return attend


def _attend_backward(mode: int) -> Kernel:
    # With message m, share a and weight w = a * s of an edge (s: dropout), and g the gradient of its dst's row, the
    # softmax sends a * (s * g·m - g·out) to the logit, since g·out is the mean of s * g·m under a. Grouped by source,
    # each edge needs one row from afar, g; source and relation rows are near.
    @_compiled
    def attend_backward(
        bounds: Any,
        indptr: Any,  # of the CSR by source, and so are dst and relation
        places: Any,  # (E,) where each edge stands in the CSR by destination
        dst: Any,
        relation: Any,
        term_dst: Any,
        term_src: Any,
        term_relation: Any,
        value: Any,
        vector: Any,
        slope: Any,
        share: Any,
        weight: Any,
        grad: Any,  # (N, H, D) gradient g of out
        centre: Any,  # (N, H) g·out
        grad_logit: Any,  # out (E, H): gradient of each logit before the LeakyReLU
        grad_src: Any,  # out (N, H), zeros
        grad_value: Any,  # out (N, H, D), zeros
        grad_relation: Any,  # out (T, R, H), zeros; one per thread
        grad_vector: Any,  # out (T, R, H, D), zeros; one per thread
    ) -> None:
        num_heads = value.shape[1]
        width = value.shape[2]
        for thread in prange(bounds.shape[0] - 1):
            for node in range(bounds[thread], bounds[thread + 1]):
                for at in range(indptr[node], indptr[node + 1]):
                    place = places[at]
                    i = dst[at]
                    r = relation[at]
                    for h in range(num_heads):
                        w = weight[place, h]
                        g = grad[i, h]
                        x = value[node, h]
                        row = grad_value[node, h]
                        dot = value.dtype.type(0)
                        if mode == SOURCE:
                            for k in range(width):
                                dot += g[k] * x[k]
                                row[k] += w * g[k]
                        else:
                            z = vector[r, h]
                            into = grad_vector[thread, r, h]
                            if mode == SUM:
                                for k in range(width):
                                    dot += g[k] * (x[k] + z[k])
                                    row[k] += w * g[k]
                                    into[k] += w * g[k]
                            else:
                                for k in range(width):
                                    dot += g[k] * (x[k] * z[k])
                                    row[k] += w * (g[k] * z[k])
                                    into[k] += w * (g[k] * x[k])
                        logit = term_dst[i, h] + term_src[node, h]
                        if term_relation.shape[0] > 0:
                            logit += term_relation[r, h]
                        through = w * dot - share[place, h] * centre[i, h]
                        through = through if logit > 0 else slope * through
                        grad_logit[place, h] = through
                        grad_src[node, h] += through
                        if term_relation.shape[0] > 0:
                            grad_relation[thread, r, h] += through

    return attend_backward


@_compiled
def dots(
    bounds: Any,
    grad: Any,  # (N, H, D)
    out: Any,  # (N, H, D)
    centre: Any,  # out (N, H)
) -> None:
    """Fill ``centre`` with the product of the two rows of each node and head."""
    for thread in prange(bounds.shape[0] - 1):
        for node in range(bounds[thread], bounds[thread + 1]):
            for h in range(grad.shape[1]):
                g = grad[node, h]
                row = out[node, h]
                dot = grad.dtype.type(0)
                for k in range(grad.shape[2]):
                    dot += g[k] * row[k]
                centre[node, h] = dot


@_compiled
def segment_sums(
    bounds: Any,
    indptr: Any,
    amount: Any,  # (E, H)
    total: Any,  # out (N, H), zeros
) -> None:
    """Fill ``total`` with the sum over each node's places."""
    for thread in prange(bounds.shape[0] - 1):
        for node in range(bounds[thread], bounds[thread + 1]):
            for place in range(indptr[node], indptr[node + 1]):
                for h in range(amount.shape[1]):
                    total[node, h] += amount[place, h]


@_compiled
def edge_dots(
    bounds: Any,
    indptr: Any,
    src: Any,
    query: Any,  # (N, H, D)
    key: Any,  # (N, H, D)
    dot: Any,  # out (E, H)
) -> None:
    """Fill ``dot`` with the product of each edge's node and its source, head by head."""
    width = query.shape[2]
    for thread in prange(bounds.shape[0] - 1):
        for node in range(bounds[thread], bounds[thread + 1]):
            for place in range(indptr[node], indptr[node + 1]):
                j = src[place]
                for h in range(query.shape[1]):
                    q = query[node, h]
                    x = key[j, h]
                    total = query.dtype.type(0)
                    for k in range(width):
                        total += q[k] * x[k]
                    dot[place, h] = total


@_compiled
def gather(
    bounds: Any,
    indptr: Any,
    src: Any,
    weight: Any,  # (E, H)
    value: Any,  # (N, H, D)
    start: Any,  # (N, H, D) what the sums are added to, or (0, H, D): none
    out: Any,  # out (N, H, D)
) -> None:
    """Fill ``out`` with each node's sum of ``weight * value`` over the sources of its edges, in their order."""
    width = value.shape[2]
    for thread in prange(bounds.shape[0] - 1):
        for node in range(bounds[thread], bounds[thread + 1]):
            first = indptr[node]
            last = indptr[node + 1]
            fours = (last - first) // 4
            for h in range(value.shape[1]):
                row = out[node, h]
                if start.shape[0] > 0:
                    begun = start[node, h]
                    for k in range(width):
                        row[k] = begun[k]
                else:
                    for k in range(width):
                        row[k] = 0
                for four in range(fours):  # four rows from afar at a time, and one pass over the near one
                    at = first + 4 * four
                    w0, w1, w2, w3 = weight[at, h], weight[at + 1, h], weight[at + 2, h], weight[at + 3, h]
                    x0, x1 = value[src[at], h], value[src[at + 1], h]
                    x2, x3 = value[src[at + 2], h], value[src[at + 3], h]
                    for k in range(width):
                        row[k] += w0 * x0[k] + w1 * x1[k] + w2 * x2[k] + w3 * x3[k]
                for place in range(first + 4 * fours, last):
                    w = weight[place, h]
                    x = value[src[place], h]
                    for k in range(width):
                        row[k] += w * x[k]


@_compiled
def gather_backward(
    bounds: Any,
    indptr: Any,  # of the CSR by source, and so is dst
    places: Any,
    dst: Any,
    weight: Any,
    value: Any,
    grad: Any,  # (N, H, D) gradient of the sums
    grad_weight: Any,  # out (E, H)
    grad_value: Any,  # out (N, H, D), zeros
) -> None:
    """Fill the gradients of :func:`gather` with respect to weights and values."""
    num_heads = value.shape[1]
    width = value.shape[2]
    for thread in prange(bounds.shape[0] - 1):
        for node in range(bounds[thread], bounds[thread + 1]):
            for at in range(indptr[node], indptr[node + 1]):
                place = places[at]
                i = dst[at]
                for h in range(num_heads):
                    w = weight[place, h]
                    g = grad[i, h]
                    x = value[node, h]
                    row = grad_value[node, h]
                    dot = value.dtype.type(0)
                    for k in range(width):
                        dot += g[k] * x[k]
                        row[k] += w * g[k]
                    grad_weight[place, h] = dot
