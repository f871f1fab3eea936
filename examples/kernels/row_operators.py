"""Operators over a row: reductions to one number, and norms that keep the row.

In C each is a loop over `v`, the elements of a row as the operators before it made them, and `b`, the row of the output
where the operator keeps it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5


@dataclass(frozen=True)
class Reduction:
    """From a row to a number.

    Attributes:
        text, compute: PyTorch's, over the last dimension.
        begin: C before the loop.
        step: C for each element `v`.
        end: C for the result, an expression.
        wrong_end: an expression that is not it.
        wrong_begin: a beginning that is right only for some rows.
    """

    text: str
    compute: Callable[[Tensor], Tensor]
    begin: str
    step: str
    end: str
    wrong_end: str
    wrong_begin: str = ""


REDUCTIONS: dict[str, Reduction] = {
    "sum": Reduction("torch.sum({v}, dim=1)", lambda v: v.sum(1), "float s=0;", "s+=v;", "s", "s/n"),
    "mean": Reduction("torch.mean({v}, dim=1)", lambda v: v.mean(1), "float s=0;", "s+=v;", "s/n", "s"),
    "amax": Reduction(
        "torch.amax({v}, dim=1)", lambda v: v.amax(1), "float s=-INFINITY;", "s=v>s?v:s;", "s", "-s", "float s=0;"
    ),
    "amin": Reduction(
        "torch.amin({v}, dim=1)", lambda v: v.amin(1), "float s=INFINITY;", "s=v<s?v:s;", "s", "-s", "float s=0;"
    ),
    "norm": Reduction("torch.norm({v}, dim=1)", lambda v: v.norm(dim=1), "float s=0;", "s+=v*v;", "sqrtf(s)", "s"),
    "sum_of_squares": Reduction(
        "torch.sum(torch.square({v}), dim=1)", lambda v: v.square().sum(1), "float s=0;", "s+=v*v;", "s", "sqrtf(s)"
    ),
    "norm_1": Reduction(
        "torch.norm({v}, p=1, dim=1)", lambda v: v.abs().sum(1), "float s=0;", "s+=fabsf(v);", "s", "s/n"
    ),
}


@dataclass(frozen=True)
class Norm:
    """From a row to a row.

    Attributes:
        text, compute: PyTorch's, over the last dimension.
        first: C after the row `b` is written, to find what it is scaled by.
        then: C for each element, an expression in `v=b[j]`.
        careless: `first` and `then` of somebody who forgets a case: large values, or the epsilon.
    """

    text: str
    compute: Callable[[Tensor], Tensor]
    first: str
    then: str
    careless: tuple[str, str]


def _rms_norm(v: Tensor) -> Tensor:
    return v / torch.sqrt(v.square().mean(1, keepdim=True) + EPSILON)


LARGEST = "float m=-INFINITY,s=0;for(int j=0;j<n;j++)m=b[j]>m?b[j]:m;"
SMALLEST = "float m=INFINITY,s=0;for(int j=0;j<n;j++)m=b[j]<m?b[j]:m;"
MEAN = "float m=0,s=0;for(int j=0;j<n;j++)m+=b[j];m/=n;"
SQUARES = "float s=0;for(int j=0;j<n;j++)s+=b[j]*b[j];"
EXPONENTIALS = "float s=0;for(int j=0;j<n;j++)s+=expf(b[j]);"
NORMS: dict[str, Norm] = {
    "softmax": Norm(
        "torch.softmax({v}, dim=1)",
        lambda v: torch.softmax(v, 1),
        LARGEST + "for(int j=0;j<n;j++){b[j]=expf(b[j]-m);s+=b[j];}s=1/s;",
        "v*s",
        (EXPONENTIALS, "expf(v)/s"),
    ),
    "softmin": Norm(
        "F.softmin({v}, dim=1)",
        lambda v: F.softmin(v, 1),
        SMALLEST + "for(int j=0;j<n;j++){b[j]=expf(m-b[j]);s+=b[j];}s=1/s;",
        "v*s",
        ("float s=0;for(int j=0;j<n;j++)s+=expf(-b[j]);", "expf(-v)/s"),
    ),
    "log_softmax": Norm(
        "torch.log_softmax({v}, dim=1)",
        lambda v: torch.log_softmax(v, 1),
        LARGEST + "for(int j=0;j<n;j++){b[j]-=m;s+=expf(b[j]);}s=logf(s);",
        "v-s",
        (EXPONENTIALS + "s=logf(s);", "v-s"),
    ),
    "layer_norm": Norm(
        "F.layer_norm({v}, (n,))",
        lambda v: F.layer_norm(v, (v.shape[1],), eps=EPSILON),
        MEAN + "for(int j=0;j<n;j++)s+=(b[j]-m)*(b[j]-m);s=1/sqrtf(s/n+1e-5f);",
        "(v-m)*s",
        (MEAN + "for(int j=0;j<n;j++)s+=b[j]*b[j];s=1/sqrtf(s/n);", "(v-m)*s"),
    ),
    "rms_norm": Norm(
        "F.rms_norm({v}, (n,), eps=1e-5)",
        _rms_norm,
        SQUARES + "s=1/sqrtf(s/n+1e-5f);",
        "v*s",
        (SQUARES + "s=1/sqrtf(s);", "v*s"),
    ),
    "normalize": Norm(
        "F.normalize({v}, dim=1)",
        lambda v: F.normalize(v, dim=1),
        SQUARES + "s=sqrtf(s);s=1/(s>1e-12f?s:1e-12f);",
        "v*s",
        (SQUARES, "v/s"),
    ),
}
