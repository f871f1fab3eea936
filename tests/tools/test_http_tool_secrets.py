"""Header values appear in no message, log line, repr or result (DESIGN invariant 8)."""

import logging
import traceback

import pytest

from agentrft.errors import AgentRFTError, UserError
from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolFailure, TrialCall
from tests.traffic.chaos_server import Behaviour, ChaosServer, hang, ok, raw, reset, status, truncated

SECRET = "sk-verysecret-0123"
HEADERS = {"Authorization": f"Bearer {SECRET}", "X-Tenant": "medical"}


def tool_at(url: str, headers: dict[str, str] = HEADERS, timeout_s: float = 5.0) -> HttpTool:
    spec = HttpToolSpec.model_validate(
        {"name": "search", "url": url, "headers": headers, "timeout_s": timeout_s, "retries": 1}
    )
    return HttpTool(spec, backoff_s=0.0001)


def everything_said(error: BaseException) -> str:
    parts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        parts += [repr(link), str(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


@pytest.mark.parametrize(
    "fault",
    [
        status(500, f"debug page: Authorization=Bearer {SECRET}"),
        status(429, f"key {SECRET} is over its quota", Retry_After="0"),
        status(307, Location=f"http://h.example/{SECRET}?key={SECRET}"),
        raw(b"\xff", status=200),
        hang(),
        reset(),
        truncated(),
    ],
)
async def test_no_failure_or_log_line_holds_a_header_value(fault: Behaviour, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="agentrft")
    async with ChaosServer(default=fault) as server:
        tool = tool_at(server.url, timeout_s=0.2 if fault.kind == "hang" else 5.0)
        said = [repr(tool)]
        with pytest.raises(ToolFailure) as failed:
            await tool.call(ToolCall("call_1", "search", "{}"), trace_id="trace_1", attempt=1, item={})
        said.append(everything_said(failed.value))
        try:
            await tool.probe(TrialCall(ToolCall("call_2", "search", "{}"), {}, is_example=True))
        except AgentRFTError as error:
            said.append(everything_said(error))
        await tool.close()
    assert caplog.text
    assert SECRET not in "\n".join(said) + caplog.text


async def test_a_secret_at_the_cut_of_a_long_message_does_not_show_by_half() -> None:
    for padding in range(270, 300):
        async with ChaosServer(default=status(500, "x" * padding + SECRET)) as server:
            tool = tool_at(server.url)
            with pytest.raises(ToolFailure) as failed:
                await tool.call(ToolCall("call_1", "search", "{}"), trace_id="trace_1", attempt=1, item={})
            await tool.close()
        assert "sk-v" not in str(failed.value)


@pytest.mark.parametrize("answer", [ok(f"your key is {SECRET}, medical"), status(400, f"{SECRET} is no key, medical")])
async def test_an_echoed_secret_is_taken_out_of_the_result_and_counted_but_ordinary_words_stay(
    answer: Behaviour,
) -> None:
    async with ChaosServer(default=answer) as server:
        tool = tool_at(server.url)
        result = await tool.call(ToolCall("call_1", "search", "{}"), trace_id="trace_1", attempt=1, item={})
        await tool.close()
    assert SECRET not in result.output
    assert "[redacted]" in result.output and "medical" in result.output
    assert tool.counters["redacted"] == 1


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({"X-Key": f"{SECRET}\n"}, "X-Key"),
        ({"Bad Name": SECRET}, "Bad Name"),
        ({"idempotency-key": SECRET}, "idempotency-key"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_by_name_without_its_value(headers: dict[str, str], part: str) -> None:
    with pytest.raises(UserError) as refused:
        tool_at("http://127.0.0.1:1/", headers)
    assert part in refused.value.cause
    assert SECRET not in everything_said(refused.value)


def test_credentials_in_both_the_url_and_the_headers_are_refused() -> None:
    with pytest.raises(UserError, match="Keep one of them"):
        tool_at(f"http://me:{SECRET}@127.0.0.1:1/")
