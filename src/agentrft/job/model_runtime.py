"""The model of a job, with what reads and writes its tokens, and the thread that computes with it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from agentrft.chat import ChatCodec, load_codec
from agentrft.job.notices import Notices
from agentrft.job.references import ModelReference
from agentrft.learner import Policy
from agentrft.learner.optimizer import PolicyOptimizer
from agentrft.models import resolve_model
from agentrft.models.load import dtype_on, load_tokenizer_and_texts
from agentrft.models.ready import ready_model
from agentrft.spec import BaseJobSpec

T = TypeVar("T")


class ModelRuntime:
    """What jobs of every method run with. Making one loads nothing yet: who inherits checks its data first.

    Attributes:
        notices: what is reported while things are put together, and by endpoints on their own; `listen` to them.
        policy: the trained weights.
        executor: one thread for all that computes, an engine with a model of its own aside: OpenMP gives each calling
            thread a pool of its own, and several pools on the same cores make each other sleep between any two
            operations.
    """

    policy: Policy

    def __init__(self, spec: BaseJobSpec) -> None:
        self._spec = spec
        self.notices = Notices()
        self.source = resolve_model(spec.model)
        self.device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        self.dtype = dtype_on(self.device, spec.dtype)
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrft-compute")

    def read_tokenizer(self) -> None:
        """Have `tokenizer` and `codec`.

        Raises:
            UserError: they cannot be read, or the template has no such variables.
        """
        tokenizer, texts = load_tokenizer_and_texts(self.source)
        if texts:
            self.notices("info", f"{', '.join(texts)}: written as text, as the model never learned these tokens.")
        variables = self._spec.chat_template_kwargs
        self.codec: ChatCodec = load_codec(tokenizer, self.source.path_or_id, template_kwargs=variables)
        self.tokenizer = tokenizer

    def load(self, device: torch.device | None = None) -> PreTrainedModel:
        """The model with nothing to be trained yet. Call it where it is computed with: `at_once`.

        Args:
            device: where it goes to; None for the job's.
        """
        model = ready_model(self.source, self.dtype, device or self.device)
        if self._spec.deterministic:
            torch.use_deterministic_algorithms(True)
        return model

    def at_once(self, work: Callable[[], T]) -> T:
        """Run work in the thread that computes, and wait for it."""
        return self.executor.submit(work).result()

    async def compute(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run heavy work beside the event loop, in the one thread that computes."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work, *arguments)

    async def learn(self, learner: PolicyOptimizer, work: Callable[..., T], *arguments: Any) -> T:
        """Run work of a learner as `compute` does, and tell where its passes had to become smaller."""
        before = learner.passes_halved
        found = await self.compute(work, *arguments)
        if learner.passes_halved > before:
            self.notices(
                "warning",
                f"an update ran out of memory: its passes have at most {learner.most_tokens} tokens from now on, which "
                "takes longer and gives the same. A resumed job begins with larger ones again.",
            )
        return found

    async def begin_with(self, weights: ModelReference) -> None:
        """Load weights of an earlier job into the policy, as its version 0.

        Raises:
            UserError: they are gone, or do not fit the job's model.
        """
        await self.compute(weights.apply, self.policy)
        self.policy.version = 0

    async def close(self) -> None:
        self.executor.shutdown(wait=True)
