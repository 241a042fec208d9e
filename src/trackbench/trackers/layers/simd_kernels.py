"""Machine code for ``simd_attention``: softmax attention of short vectors, built for the processor at hand.

The queries of a register are its lanes, one register per number of a query, so that every step is one instruction for
all of them; ``Builder`` writes these steps down for LLVM. Source of the running maximum: FlashAttention
(arXiv:2205.14135). The exponential is 2^n e^f with a polynomial in f.
"""

import ctypes
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from llvmlite import ir

NOTHING = -3e38  # largest logit of no key
_TILE = 64  # keys whose logits exist at once
_DEGREE = 5  # of the polynomial for e^f, |f| <= ln(2) / 2: right to 1e-7, about the last bit of float32
_LOWEST = -87.0  # e^-87 is above the smallest normal number, 2^-126
_MAGIC = 1.5 * 2.0**23  # added to a small number, leaves the nearest whole one in the last bits


class Kernels(NamedTuple):
    """Compiled functions of ``Builder``; the code lives as long as ``engine``. Python's lock is free meanwhile."""

    dense: Callable[..., None]
    blocks: Callable[..., None]
    engine: object


@functools.cache
def kernels(width: int) -> Kernels:
    """Compile the functions for the processor at hand."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features()
    target = binding.Target.from_default_triple()
    machine = target.create_target_machine(binding.get_host_cpu_name(), features.flatten(), opt=3)
    builder = Builder(width, 16 if features.get("avx512f") else 8)
    module = binding.parse_assembly(str(builder.module))
    module.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kinds = [ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, *[ctypes.c_int64] * n, ctypes.c_float) for n in (9, 2)]
    addresses = map(engine.get_function_address, ("dense", "blocks"))
    return Kernels(*(kind(address) for kind, address in zip(kinds, addresses, strict=True)), engine)


@functools.cache
def exponential_coefficients() -> tuple[float, ...]:
    """Coefficients of a polynomial for e^f, |f| <= ln(2) / 2, highest first: fitted at Chebyshev points."""
    points = math.log(2.0) / 2 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    fitted = np.polynomial.Chebyshev.fit(points, np.exp(points), _DEGREE)
    return tuple(fitted.convert(kind=np.polynomial.Polynomial).coef[::-1].tolist())


class Builder:
    """Builds the functions of ``attend`` and ``attend_in_blocks``, which end with a state of each query.

    dense(q, k, v, state, B, Q, K, distances of sets and of rows of q, of k and of v, scale)
    blocks(rows, state, index, packed, count, size, scale): goes on from the states there are; packed: room for keys
        and values of one block
    state: (..., d + 2), sums of p times value, largest logit, sum of p = exp(logit - largest)
    width: numbers of a query; lanes: queries of a register
    """

    def __init__(self, width: int, lanes: int):
        from llvmlite import ir

        self.ir, self.width, self.lanes = ir, width, lanes
        self.float, self.int = ir.FloatType(), ir.IntType(64)
        self.vector, self.bits = ir.VectorType(self.float, lanes), ir.VectorType(ir.IntType(32), lanes)
        self.module = ir.Module(name="attention")
        numbers, indices = self.float.as_pointer(), self.int.as_pointer()
        self._function("dense", [numbers] * 4 + [self.int] * 9 + [self.float], self._dense)
        self._function("blocks", [numbers] * 2 + [indices, numbers, self.int, self.int, self.float], self._blocks)

    def _function(self, name: str, arguments: list, build: Callable) -> None:
        function = self.ir.Function(self.module, self.ir.FunctionType(self.ir.VoidType(), arguments), name=name)
        for argument, kind in zip(function.args, arguments, strict=True):
            if isinstance(kind, self.ir.PointerType):
                argument.add_attribute("noalias")
        self.b = self.ir.IRBuilder(function.append_basic_block())
        build(*function.args)
        self.b.ret_void()

    def _dense(self, q, k, v, state, sets, n_q, n_k, *steps_and_scale) -> None:
        *steps, scale = steps_and_scale
        nothing = [self._constant(0.0)] * self.width + [self._constant(NOTHING), self._constant(0.0)]
        with self._loop(sets, 1) as number:
            q, k, v = (self._at(p, number, step) for p, step in zip((q, k, v), steps[::2], strict=True))
            state = self._at(state, number, self.b.mul(n_q, self._whole(self.width + 2)))
            with self._loop(n_q, self.lanes) as first:
                rows = [self._at(q, row, steps[1]) for row in self._numbers(first, n_q)]
                found = self._attend(self._queries(rows, scale), (k, v), (steps[3], steps[5]), n_k, nothing)
                self._write(found, first, n_q, lambda row, start=state: self._state(start, row))

    def _blocks(self, rows, state, index, packed, count, size, scale) -> None:
        b, width = self.b, self.width
        pair = self.ir.VectorType(self.float, 2 * width).as_pointer()
        with self._loop(count, 1) as number:
            own = self._at(index, number, size)
            with self._loop(size, 1) as place:
                row = self._at(rows, b.load(b.gep(own, [place])), self._whole(3 * width))
                both = b.load(b.bitcast(b.gep(row, [self._whole(width)]), pair), align=4)
                b.store(both, b.bitcast(self._at(packed, place, self._whole(2 * width)), pair), align=4)
            with self._loop(size, self.lanes) as first:
                numbers = [b.load(b.gep(own, [place])) for place in self._numbers(first, size)]
                queries = self._queries([self._at(rows, n, self._whole(3 * width)) for n in numbers], scale)
                before = self._gathered([self._state(state, n) for n in numbers], width + 2)
                starts, steps = (packed, b.gep(packed, [self._whole(width)])), [self._whole(2 * width)] * 2
                found = self._attend(queries, starts, steps, size, before)
                self._write(found, first, size, lambda place: self._state(state, b.load(b.gep(own, [place]))))

    def _state(self, start, row):
        return self._at(start, row, self._whole(self.width + 2))

    def _numbers(self, first, end) -> list:
        """Numbers of the queries of the lanes from ``first`` on; beyond the end the last one again."""
        last = self.b.sub(end, self._whole(1))
        return [self._least(self.b.add(first, self._whole(lane)), last) for lane in range(self.lanes)]

    def _queries(self, rows: list, scale) -> list:
        return [self.b.fmul(part, self._splat(scale)) for part in self._gathered(rows, self.width)]

    def _gathered(self, rows: list, count: int) -> list:
        """Registers of the first ``count`` numbers of the rows of the lanes."""
        found = []
        for place in range(count):
            values = self.ir.Constant(self.vector, self.ir.Undefined)
            for lane, row in enumerate(rows):
                values = self.b.insert_element(values, self._load(row, place), self._whole(lane))
            found.append(values)
        return found

    def _attend(self, queries: list, starts: Sequence, steps: Sequence, n_k, before: list) -> list:
        """States of the lanes, in variables, after keys and values at ``starts``. before: registers of the states."""
        b, logits = self.b, self._variable(self.vector, _TILE)
        state, parts = ([self._variable(self.vector) for _ in before] for _ in range(2))
        for variable, value in zip(state, before, strict=True):
            b.store(value, variable)
        *_, peak, _ = state
        sums, parts = [*state[:-2], state[-1]], parts[1:]
        with self._loop(n_k, _TILE) as first:
            count, highest = self._least(b.sub(n_k, first), self._whole(_TILE)), b.load(peak)
            with self._loop(count, 1) as number:
                key = self._at(starts[0], b.add(first, number), steps[0])
                logit = b.fmul(queries[0], self._splat(self._load(key, 0)))
                for place in range(1, self.width):
                    logit = self._fma(queries[place], self._splat(self._load(key, place)), logit)
                b.store(logit, b.gep(logits, [number]))
                b.store(self._largest(b.load(peak), logit), peak)
            now = b.load(peak)
            for part in parts:  # sums of sums lose fewer bits than one long sum
                b.store(self._constant(0.0), part)
            with self._loop(count, 1) as number:
                value = self._at(starts[1], b.add(first, number), steps[1])
                p = self._exp(b.fsub(b.load(b.gep(logits, [number])), now))
                b.store(b.fadd(b.load(parts[-1]), p), parts[-1])
                for place, part in enumerate(parts[:-1]):
                    b.store(self._fma(p, self._splat(self._load(value, place)), b.load(part)), part)
            less = self._exp(b.fsub(highest, now))
            for whole, part in zip(sums, parts, strict=True):
                b.store(self._fma(b.load(whole), less, b.load(part)), whole)
        return state

    def _write(self, state: list, first, end, target: Callable) -> None:
        """Write the states of the queries from ``first`` on that exist. target: number of a query -> where to."""
        b, values = self.b, self._variable(self.vector, len(state))
        for place, variable in enumerate(state):
            b.store(b.load(variable), b.gep(values, [self._whole(place)]))
        numbers = b.bitcast(values, self.float.as_pointer())
        with self._loop(self._least(b.sub(end, first), self._whole(self.lanes)), 1) as lane:
            start = target(b.add(first, lane))
            for place in range(len(state)):
                number = b.load(b.gep(numbers, [b.add(lane, self._whole(place * self.lanes))]))
                b.store(number, b.gep(start, [self._whole(place)]))

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

    def _constant(self, x: float):
        return self.ir.Constant(self.vector, [x] * self.lanes)

    def _whole(self, x: int):
        return self.ir.Constant(self.int, x)
