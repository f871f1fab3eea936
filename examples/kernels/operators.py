"""The operators that a kernel is asked for: how PyTorch writes each, what it computes, and how C does.

In C an elementwise operator is an expression in the variable `v`, which holds what came before. `slow` is right and
takes longer; `wrong` are mistakes that people make: another operator, a sign, a case that is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# An operator's value: what came before, its constant (0 where it has none), and the other input.
Compute = Callable[[Tensor, float, Tensor], Tensor]


@dataclass(frozen=True)
class Operator:
    """One elementwise operator.

    Attributes:
        text: PyTorch's, with `{v}` for what came before and `{c}` for the constant.
        compute: its value.
        right: C for it, as quick as a short expression gets.
        slow: right, too, but in double precision or with a needless branch; empty where there is none.
        wrong: C that is not it.
        constants: what `{c}` may be; empty where it has none.
        infix: whether `text` needs brackets inside another infix operator.
        takes_other: whether it reads the other input: `z`, which is as large as `x`, or in rows `w`, which is one row.
    """

    text: str
    compute: Compute
    right: str
    slow: str = ""
    wrong: tuple[str, ...] = ()
    constants: tuple[float, ...] = ()
    infix: bool = False
    takes_other: bool = False


HALVES = (0.5, 1.5, 2.0, 3.0)
ELEMENTWISE: dict[str, Operator] = {
    "relu": Operator("torch.relu({v})", lambda v, c, z: v.relu(), "v>0?v:0", "fmax(v,0.0)", ("v<0?v:0", "v>0?v:-v")),
    "abs": Operator("torch.abs({v})", lambda v, c, z: v.abs(), "fabsf(v)", "v>0.0?v:-1.0*v", ("-v", "v>0?v:0")),
    "neg": Operator("-{v}", lambda v, c, z: -v, "-v", "-1.0*v", ("fabsf(v)",), infix=True),
    "square": Operator("torch.square({v})", lambda v, c, z: v.square(), "v*v", "pow(v,2.0)", ("v+v", "2*v")),
    "cube": Operator("torch.pow({v}, 3)", lambda v, c, z: v.pow(3), "v*v*v", "pow(v,3.0)", ("v*v", "3*v")),
    "exp": Operator("torch.exp({v})", lambda v, c, z: v.exp(), "expf(v)", "exp(v)", ("expf(-v)", "logf(v)")),
    "log": Operator("torch.log({v})", lambda v, c, z: v.log(), "logf(v)", "log(v)", ("expf(v)", "log2f(v)")),
    "log1p": Operator("torch.log1p({v})", lambda v, c, z: v.log1p(), "log1pf(v)", "log1p(v)", ("logf(v)", "expf(v)-1")),
    "expm1": Operator("torch.expm1({v})", lambda v, c, z: v.expm1(), "expm1f(v)", "expm1(v)", ("expf(v)", "expf(v-1)")),
    "sqrt": Operator("torch.sqrt({v})", lambda v, c, z: v.sqrt(), "sqrtf(v)", "pow(v,0.5)", ("v*v", "1/sqrtf(v)")),
    "rsqrt": Operator("torch.rsqrt({v})", lambda v, c, z: v.rsqrt(), "1/sqrtf(v)", "pow(v,-0.5)", ("sqrtf(v)", "1/v")),
    "reciprocal": Operator(
        "torch.reciprocal({v})", lambda v, c, z: v.reciprocal(), "1/v", "pow(v,-1.0)", ("-v", "1-v"), infix=False
    ),
    "sin": Operator("torch.sin({v})", lambda v, c, z: v.sin(), "sinf(v)", "sin(v)", ("cosf(v)", "-sinf(v)")),
    "cos": Operator("torch.cos({v})", lambda v, c, z: v.cos(), "cosf(v)", "cos(v)", ("sinf(v)", "-cosf(v)")),
    "tanh": Operator("torch.tanh({v})", lambda v, c, z: v.tanh(), "tanhf(v)", "tanh(v)", ("tanf(v)", "atanf(v)")),
    "atan": Operator("torch.atan({v})", lambda v, c, z: v.atan(), "atanf(v)", "atan(v)", ("tanf(v)", "tanhf(v)")),
    "sigmoid": Operator(
        "torch.sigmoid({v})",
        lambda v, c, z: v.sigmoid(),
        "1/(1+expf(-v))",
        "1/(1+exp(-v))",
        ("1/(1+expf(v))", "1/(1-expf(-v))"),
    ),
    "silu": Operator(
        "F.silu({v})", lambda v, c, z: F.silu(v), "v/(1+expf(-v))", "v/(1+exp(-v))", ("1/(1+expf(-v))", "v/(1+expf(v))")
    ),
    "softplus": Operator(
        "F.softplus({v})",
        lambda v, c, z: F.softplus(v),
        "v>20?v:log1pf(expf(v))",
        "v>20?v:log(1+exp(v))",
        ("logf(1+expf(v))", "expf(v)"),
    ),
    "logsigmoid": Operator(
        "F.logsigmoid({v})",
        lambda v, c, z: F.logsigmoid(v),
        "(v<0?v:0)-log1pf(expf(-fabsf(v)))",
        "(v<0?v:0)-log1p(exp(-fabs(v)))",
        ("-logf(1+expf(-v))", "logf(1+expf(-v))"),
    ),
    "gelu": Operator(
        "F.gelu({v})",
        lambda v, c, z: F.gelu(v),
        "0.5f*v*(1+erff(v*0.70710678f))",
        "0.5*v*(1+erf(v*0.70710678118654752))",
        ("0.5f*v*(1+tanhf(v))", "v/(1+expf(-1.702f*v))"),
    ),
    "softsign": Operator(
        "F.softsign({v})",
        lambda v, c, z: F.softsign(v),
        "v/(1+fabsf(v))",
        "v/(1.0+fabs(v))",
        ("v/(1+v)", "fabsf(v)/(1+v)"),
    ),
    "elu": Operator(
        "F.elu({v})", lambda v, c, z: F.elu(v), "v>0?v:expm1f(v)", "v>0?v:exp(v)-1.0", ("v>0?v:expf(v)", "expf(v)-1")
    ),
    "relu6": Operator(
        "F.relu6({v})", lambda v, c, z: F.relu6(v), "v<0?0:v>6?6:v", "fmin(fmax(v,0.0),6.0)", ("v>6?6:v", "v>0?v:0")
    ),
    "hardtanh": Operator(
        "F.hardtanh({v})",
        lambda v, c, z: F.hardtanh(v),
        "v<-1?-1:v>1?1:v",
        "fmin(fmax(v,-1.0),1.0)",
        ("v>1?1:v", "v<0?0:v>1?1:v"),
    ),
    "hardsigmoid": Operator(
        "F.hardsigmoid({v})",
        lambda v, c, z: F.hardsigmoid(v),
        "v<-3?0:v>3?1:v/6+0.5f",
        "fmin(fmax(v/6.0+0.5,0.0),1.0)",
        ("v/6+0.5f", "v<0?0:v>1?1:v"),
    ),
    "hardswish": Operator(
        "F.hardswish({v})",
        lambda v, c, z: F.hardswish(v),
        "v<-3?0:v>3?v:v*(v+3)/6",
        "v*fmin(fmax(v+3.0,0.0),6.0)/6.0",
        ("v*(v+3)/6", "v<0?0:v>3?v:v*v/6"),
    ),
    "tanhshrink": Operator(
        "F.tanhshrink({v})", lambda v, c, z: F.tanhshrink(v), "v-tanhf(v)", "v-tanh(v)", ("tanhf(v)-v", "tanhf(v)")
    ),
    "leaky_relu": Operator(
        "F.leaky_relu({v}, {c})",
        lambda v, c, z: F.leaky_relu(v, c),
        "v>0?v:{c}f*v",
        "v>0?v:{c}*v",
        ("v>0?v:0", "v>0?v:-{c}f*v"),
        (0.1, 0.2, 0.01),
    ),
    "add": Operator(
        "{v} + {c}", lambda v, c, z: v + c, "v+{c}f", "v+{c}", ("v*{c}f", "v-{c}f"), (0.5, 1.5, 3.0), infix=True
    ),
    "sub": Operator(
        "{v} - {c}", lambda v, c, z: v - c, "v-{c}f", "v-{c}", ("{c}f-v", "v+{c}f"), (0.25, 0.75, 1.25), infix=True
    ),
    "from": Operator(
        "{c} - {v}", lambda v, c, z: c - v, "{c}f-v", "{c}-v", ("v-{c}f", "v+{c}f"), (0.5, 1.5, 2.0), infix=True
    ),
    "mul": Operator("{v} * {c}", lambda v, c, z: v * c, "v*{c}f", "v*{c}", ("v+{c}f", "v/{c}f"), HALVES, infix=True),
    "div": Operator(
        "{v} / {c}", lambda v, c, z: v / c, "v/{c}f", "v/{c}", ("v*{c}f", "{c}f/v"), (1.5, 3.0, 5.0), infix=True
    ),
    "into": Operator(
        "{c} / {v}", lambda v, c, z: c / v, "{c}f/v", "{c}/v", ("v/{c}f", "v*{c}f"), (1.5, 3.0), infix=True
    ),
    "at_least": Operator(
        "torch.clamp({v}, min={c})",
        lambda v, c, z: v.clamp(min=c),
        "v<{c}f?{c}f:v",
        "fmax(v,{c})",
        ("v>{c}f?{c}f:v", "v<{c}f?0:v"),
        (-0.5, 0.1, 0.5),
    ),
    "at_most": Operator(
        "torch.clamp({v}, max={c})",
        lambda v, c, z: v.clamp(max=c),
        "v>{c}f?{c}f:v",
        "fmin(v,{c})",
        ("v<{c}f?{c}f:v", "v>{c}f?0:v"),
        (0.25, 0.6, 0.9),
    ),
    "plus_z": Operator(
        "{v} + {z}", lambda v, c, z: v + z, "v+{z}", "1.0*v+{z}", ("v*{z}", "v-{z}"), infix=True, takes_other=True
    ),
    "minus_z": Operator(
        "{v} - {z}", lambda v, c, z: v - z, "v-{z}", "1.0*v-{z}", ("v+{z}", "{z}-v"), infix=True, takes_other=True
    ),
    "times_z": Operator(
        "{v} * {z}", lambda v, c, z: v * z, "v*{z}", "1.0*v*{z}", ("v+{z}", "v/{z}"), infix=True, takes_other=True
    ),
    "max_z": Operator(
        "torch.maximum({v}, {z})",
        lambda v, c, z: torch.maximum(v, z),
        "v>{z}?v:{z}",
        "fmax(v,{z})",
        ("v<{z}?v:{z}",),
        takes_other=True,
    ),
    "min_z": Operator(
        "torch.minimum({v}, {z})",
        lambda v, c, z: torch.minimum(v, z),
        "v<{z}?v:{z}",
        "fmin(v,{z})",
        ("v>{z}?v:{z}",),
        takes_other=True,
    ),
}
