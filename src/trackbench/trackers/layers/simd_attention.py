"""Softmax attention of short vectors on a CPU with the log-sum-exp (LSE) of the logits, compiled at first use.

The fused kernel of torch multiplies matrices tile by tile; with heads of 16 numbers most of its time goes into writing
and reading logits. Here 16 queries are the lanes of a vector register, their outputs stay in registers, and logits
exist for 64 keys at a time, so a pair costs little more than its multiplications: about half the time. LLVM, which
Numba brings along, makes the code for the processor at hand in half a second.

Source of the running maximum: FlashAttention (arXiv:2205.14135). The exponential is 2^n e^f with a polynomial in f.
"""

import ctypes
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from llvmlite import ir

LARGEST_WIDTH = 32  # beyond it the outputs do not fit into registers
_TILE = 64  # keys whose logits exist at once
_DEGREE = 5  # of the polynomial for e^f, |f| <= ln(2) / 2: right to 1e-7, about the last bit of float32
_LOWEST = -87.0  # e^-87 is above the smallest normal number, 2^-126
_MAGIC = 1.5 * 2.0**23  # added to a small number, leaves the nearest whole one in the last bits
_WORTH_A_THREAD = 2**21  # pairs of query and key, about 2 ms

_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def is_supported(vectors: Tensor, width: int) -> bool:
    """Whether ``attend`` takes such vectors: float32 on a CPU, of at most ``LARGEST_WIDTH`` numbers."""
    return vectors.device.type == "cpu" and vectors.dtype == torch.float32 and width <= LARGEST_WIDTH


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention with gradients, logits divided by sqrt(d).

    q: (B, Q, d), k, v: (B, K, d), float32, K >= 1. Returns (B, Q, d).
    """
    return _Attention.apply(q, k, v)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention of each of B sets of queries to its set of keys.

    q: (B, Q, d); k, v: (B, K, d), see ``is_supported``, K >= 1; any distances between sets and between rows
    scale: factor of the logits q . k
    Returns output (B, Q, d) and LSE (B, Q). No gradient. Cost O(B Q K d), with the threads of torch where it pays.
    """
    q, k, v = (part if part.stride(-1) == 1 else part.contiguous() for part in (q, k, v))
    out, norms = torch.empty(q.shape), torch.empty(2, *q.shape[:2])
    sets, pairs = len(q), q.shape[1] * k.shape[1]
    threads = max(min(torch.get_num_threads(), sets, sets * pairs // _WORTH_A_THREAD), 1)
    call = functools.partial(_call, (q, k, v, out, norms[0], norms[1]), scale)
    if threads == 1:
        call(0, sets)
    else:
        cuts = [number * sets // threads for number in range(threads + 1)]
        list(_pool(threads).map(call, cuts, cuts[1:]))
    return out, norms[0].add_(norms[1].log_())


class _Attention(torch.autograd.Function):
    """See ``attention``; the gradient is that of torch's fused kernel, which needs the LSE."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, lse = attend(q, k, v, q.shape[-1] ** -0.5)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, lse = (part[None] for part in ctx.saved_tensors)
        scale = q.shape[-1] ** -0.5
        parts = _flash_backward(grad[None], q, k, v, out, lse, 0.0, False, attn_mask=None, scale=scale)
        return tuple(part[0] for part in parts)


def _call(tensors: tuple[Tensor, ...], scale: float, first: int, last: int) -> None:
    """Compute the sets from ``first`` to before ``last``. Python's lock is free meanwhile."""
    q, k, *_ = tensors
    starts = [part[first:].data_ptr() if last > first else 0 for part in tensors]
    steps = [step for part in tensors[:4] for step in part.stride()[:2]]
    _kernel(q.shape[-1])(*starts, last - first, q.shape[1], k.shape[1], *steps, scale)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@functools.cache
def _kernel(width: int) -> Callable[..., None]:
    """Compile ``_Builder``'s function for the processor at hand."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features()
    target = binding.Target.from_default_triple()
    machine = target.create_target_machine(binding.get_host_cpu_name(), features.flatten(), opt=3)
    lanes = 16 if features.get("avx512f") else 8
    module = binding.parse_assembly(str(_Builder(width, lanes).module))
    module.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    arguments = [ctypes.c_void_p] * 6 + [ctypes.c_int64] * 11 + [ctypes.c_float]
    function = ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address("attend"))
    function.engine = engine  # the code lives as long as its engine
    return function


@functools.cache
def exponential_coefficients() -> tuple[float, ...]:
    """Coefficients of a polynomial for e^f, |f| <= ln(2) / 2, highest first: fitted at Chebyshev points."""
    points = math.log(2.0) / 2 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    fitted = np.polynomial.Chebyshev.fit(points, np.exp(points), _DEGREE)
    return tuple(fitted.convert(kind=np.polynomial.Polynomial).coef[::-1].tolist())


class _Builder:
    """Builds the function attend(q, k, v, out, peak, total, B, Q, K, set and row distances of q, k, v, out, scale).

    ``peak`` becomes the largest logit of each query and ``total`` the sum of exp(logit - peak).
    width: numbers of a query; lanes: queries of a register
    """

    def __init__(self, width: int, lanes: int):
        from llvmlite import ir

        self.ir, self.width, self.lanes = ir, width, lanes
        self.float, self.int = ir.FloatType(), ir.IntType(64)
        self.vector, self.bits = ir.VectorType(self.float, lanes), ir.VectorType(ir.IntType(32), lanes)
        self.module = ir.Module(name="attention")
        arguments = [self.float.as_pointer()] * 6 + [self.int] * 11 + [self.float]
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name="attend")
        for argument in function.args[:6]:
            argument.add_attribute("noalias")
        self.b = ir.IRBuilder(function.append_basic_block())
        self._sets(function.args)

    def _sets(self, arguments) -> None:
        q, k, v, out, peak, total, sets, n_q, n_k, *steps, scale = arguments
        rows = steps[1::2]
        with self._loop(sets, 1) as number:
            starts = [self._at(p, number, step) for p, step in zip((q, k, v, out), steps[::2], strict=True)]
            norms = [self._at(p, number, n_q) for p in (peak, total)]
            with self._loop(n_q, self.lanes) as first:
                queries = self._queries(starts[0], rows[0], first, n_q, scale)
                found = self._attend(queries, starts[1:3], rows[1:3], n_k)
                self._write(found, (starts[3], *norms), rows[3], first, n_q)
        self.b.ret_void()

    def _queries(self, q, step, first, n_q, scale) -> list:
        """Registers of the queries from ``first`` on, number by number; the last one again beyond the end."""
        b = self.b
        numbers = [b.add(first, self._whole(lane)) for lane in range(self.lanes)]
        rows = [self._at(q, self._least(n, b.sub(n_q, self._whole(1))), step) for n in numbers]
        found = []
        for place in range(self.width):
            values = self.ir.Constant(self.vector, self.ir.Undefined)
            for lane, row in enumerate(rows):
                values = b.insert_element(values, self._load(row, place), self._whole(lane))
            found.append(b.fmul(values, self._splat(scale)))
        return found

    def _attend(self, queries: list, starts: list, steps: list, n_k) -> list:
        """Outputs number by number, largest logit and sum of the exponentials, in variables."""
        b, logits = self.b, self._variable(self.vector, _TILE)
        sums, parts = ([self._variable(self.vector) for _ in (*queries, "total")] for _ in range(2))
        peak = self._variable(self.vector)
        self._set(sums, 0.0)
        self._set([peak], -3e38)
        with self._loop(n_k, _TILE) as first:
            count, before = self._least(b.sub(n_k, first), self._whole(_TILE)), b.load(peak)
            with self._loop(count, 1) as number:
                key = self._at(starts[0], b.add(first, number), steps[0])
                logit = b.fmul(queries[0], self._splat(self._load(key, 0)))
                for place in range(1, self.width):
                    logit = self._fma(queries[place], self._splat(self._load(key, place)), logit)
                b.store(logit, b.gep(logits, [number]))
                b.store(self._largest(b.load(peak), logit), peak)
            now = b.load(peak)
            self._set(parts, 0.0)  # sums of sums lose fewer bits than one long sum
            with self._loop(count, 1) as number:
                value = self._at(starts[1], b.add(first, number), steps[1])
                p = self._exp(b.fsub(b.load(b.gep(logits, [number])), now))
                b.store(b.fadd(b.load(parts[-1]), p), parts[-1])
                for place, part in enumerate(parts[:-1]):
                    b.store(self._fma(p, self._splat(self._load(value, place)), b.load(part)), part)
            less = self._exp(b.fsub(before, now))
            for whole, part in zip(sums, parts, strict=True):
                b.store(self._fma(b.load(whole), less, b.load(part)), whole)
        *out, total = sums
        return [*out, peak, total]

    def _write(self, found: list, targets: tuple, step, first, n_q) -> None:
        """Write outputs and norms of the queries from ``first`` on that exist."""
        b, values = self.b, self._variable(self.vector, len(found))
        *out, peak, total = (b.load(variable) for variable in found)
        divided = [b.fdiv(part, total) for part in out]
        for place, part in enumerate([*divided, peak, total]):
            b.store(part, b.gep(values, [self._whole(place)]))
        numbers = b.bitcast(values, self.float.as_pointer())
        with self._loop(self._least(b.sub(n_q, first), self._whole(self.lanes)), 1) as lane:
            row = b.add(first, lane)
            start = self._at(targets[0], row, step)
            places = [b.gep(start, [self._whole(place)]) for place in range(self.width)]
            places += [b.gep(target, [row]) for target in targets[1:]]
            for number, place in enumerate(places):
                b.store(b.load(b.gep(numbers, [b.add(lane, self._whole(number * self.lanes))])), place)

    @contextmanager
    def _loop(self, end, step: int) -> "Iterator[ir.Value]":
        """Count from 0 to before ``end``."""
        b, counter = self.b, self._variable(self.int)
        head, body, done = (b.append_basic_block() for _ in range(3))
        b.store(self._whole(0), counter)
        b.branch(head)
        b.position_at_end(head)
        number = b.load(counter)
        b.cbranch(b.icmp_signed("<", number, end), body, done)
        b.position_at_end(body)
        yield number
        b.store(b.add(number, self._whole(step)), counter)
        b.branch(head)
        b.position_at_end(done)

    def _exp(self, x):
        """e^x for x <= 0, at least e^-87; NaN stays. With x = n ln 2 + f it is 2^n e^f."""
        b = self.b
        x = self._largest(self._constant(_LOWEST), x)
        shifted = self._fma(x, self._constant(1 / math.log(2.0)), self._constant(_MAGIC))
        f = self._fma(b.fsub(shifted, self._constant(_MAGIC)), self._constant(-math.log(2.0)), x)
        highest, *others = exponential_coefficients()
        power = self._constant(highest)
        for coefficient in others:
            power = self._fma(power, f, self._constant(coefficient))
        exponent = b.shl(b.bitcast(shifted, self.bits), self.ir.Constant(self.bits, [23] * self.lanes))
        return b.bitcast(b.add(b.bitcast(power, self.bits), exponent), self.vector)

    def _fma(self, x, y, z):
        name = f"llvm.fma.v{self.lanes}f32"
        function = self.module.globals.get(name)
        if function is None:
            function = self.ir.Function(self.module, self.ir.FunctionType(self.vector, [self.vector] * 3), name)
        return self.b.call(function, [x, y, z])

    def _largest(self, x, y):
        """The larger one, y if it is NaN."""
        return self.b.select(self.b.fcmp_ordered("<", y, x), x, y)

    def _least(self, x, y):
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def _at(self, start, number, step):
        return self.b.gep(start, [self.b.mul(number, step)])

    def _load(self, start, place: int):
        return self.b.load(self.b.gep(start, [self._whole(place)]))

    def _splat(self, x):
        nothing = self.ir.Constant(self.vector, self.ir.Undefined)
        one = self.b.insert_element(nothing, x, self._whole(0))
        return self.b.shuffle_vector(one, nothing, self.ir.Constant(self.bits, [0] * self.lanes))

    def _variable(self, kind, size: int | None = None):
        with self.b.goto_entry_block():
            return self.b.alloca(kind, size)

    def _set(self, variables: list, x: float) -> None:
        for variable in variables:
            self.b.store(self._constant(x), variable)

    def _constant(self, x: float):
        return self.ir.Constant(self.vector, [x] * self.lanes)

    def _whole(self, x: int):
        return self.ir.Constant(self.int, x)
