"""What a model thinks is counted, turn by turn, in the record of its rollout."""

from agentrft.chat import load_codec
from agentrft.report import summarise
from tests.chat.conftest import QWEN3_MARKUP, QWEN3_SPECIAL, with_tokens
from tests.job.scripted import Write, roll_out
from tests.traffic.chaos_server import ChaosServer, ok


async def test_a_rollout_has_the_reasoning_tokens_of_each_turn() -> None:
    write = Write()
    tokenizer = with_tokens(write.tokenizer, QWEN3_SPECIAL, QWEN3_MARKUP)
    codec = load_codec(tokenizer, "Qwen/Qwen3-0.6B")

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    thought = ids("<think>\nI had better look it up.\n</think>")
    call = ids('\n\n<tool_call>\n{"name": "lookup", "arguments": {"word": "apple"}}\n</tool_call><|im_end|>')
    async with ChaosServer(default=ok("a fruit")) as server:
        rollout, _ = await roll_out(write, [thought + call, ids("red<|im_end|>")], server, codec=codec)
    assert (rollout.outcome, rollout.output_text) == ("graded", "red")
    assert [turn.reasoning_tokens for turn in rollout.turns] == [len(thought), 0]
    assert summarise([rollout]).reasoning_tokens_mean == len(thought)
