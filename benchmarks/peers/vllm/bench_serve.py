"""`vllm bench serve` as it is, and the prompts that it makes of a seed: run in vLLM's environment.

    python bench_serve.py prompts MODEL SEED COUNT INPUT OUTPUT   # token ids of each, as JSON
    python bench_serve.py serve OPTIONS…                          # what `vllm bench serve` takes

CPU builds come under another package name, with which the `vllm` command does not start.
"""

import json
import sys


def write_prompts(model: str, seed: int, count: int, input_tokens: int, output_tokens: int) -> None:
    from vllm.benchmarks.datasets import RandomDataset
    from vllm.tokenizers import get_tokenizer

    tokenizer = get_tokenizer(model)
    made = RandomDataset(random_seed=seed).sample(
        tokenizer, num_requests=count, input_len=input_tokens, output_len=output_tokens
    )
    print(json.dumps([tokenizer.encode(request.prompt) for request in made]))


def bench(options: list[str]) -> None:
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    main(parser.parse_args(options))


if __name__ == "__main__":
    if sys.argv[1] == "prompts":
        write_prompts(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        bench(sys.argv[2:])
