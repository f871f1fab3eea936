"""The doors that JSON and text from outside come through, but for the API's: each is given inputs, and says which of
them did something other than being taken or refused in words.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import yaml
from aiohttp import web
from hypothesis import strategies as st
from transformers import AutoTokenizer

from agentrft import wire
from agentrft.chat import load_codec
from agentrft.data import load_demonstrations, load_samples
from agentrft.data.templates import TemplateError, render_template
from agentrft.errors import UserError
from agentrft.graders import GraderFailure, GraderSample, check_templates
from agentrft.graders.endpoint import EndpointGrader
from agentrft.graders.score_model import ScoreModelGrader
from agentrft.graders.string_check import StringCheckGrader
from agentrft.graders.trace import count_repeated
from agentrft.job.secrets import stored_spec
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.rollout import Rollout
from agentrft.rollout.calls import CallRules, judge_calls
from agentrft.spec import load_job
from agentrft.spec.graders import EndpointGraderSpec, ScoreModelGraderSpec, StringCheckGraderSpec
from agentrft.store.artifacts import read_rollouts, rollout_row, write_rollouts
from agentrft.tools import fits_schema
from agentrft.tools.wire import read_answer, read_plain_answer
from agentrft.traffic import Answer, Fault
from tests.strangers.odd_documents import odd_bytes, odd_documents

TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": '{"word": "a"}'}}
USER = {"role": "user", "content": "Colour of apple?"}
ROWS: list[Any] = [
    {"messages": [USER], "answer": "red", "price": 1.5, "tags": ["a", {"b": 2}]},
    {"messages": [{"role": "user", "name": "ann", "content": [{"type": "text", "text": "Hi"}]}], "answer": "red"},
    {"messages": [{"role": "system", "content": "Be short."}, USER], "tools": [TOOL], "answer": {"code": "A01"}},
    {
        "messages": [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "fine"},
            {"role": "assistant", "content": "red"},
        ]
    },
]
GRADER = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
SIMILARITY = {
    "type": "text_similarity",
    "name": "close",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "evaluation_metric": "bleu",
}
TEMPLATE_GRADER = StringCheckGraderSpec(**GRADER)
JOBS: list[Any] = [
    {
        "model": "smollm2-135m",
        "training_file": "train.jsonl",
        "metadata": {"team": "a"},
        "model_failed_reward": 0.0,
        "method": {
            "type": "reinforcement",
            "reinforcement": {
                "tools": [{"name": "lookup", "server_url": "http://127.0.0.1:9/lookup", "headers": {"X-Key": "k"}}],
                "grader": GRADER,
                "hyperparameters": {"batch_size": 2, "learning_rate_multiplier": 1.5, "compute_multiplier": "auto"},
            },
        },
    },
    {
        "model": "smollm2-135m",
        "training_file": "train.jsonl",
        "warm_start": {"training_file": "demonstrations.jsonl", "n_epochs": 2},
        "alarms": {},
        "method": "rft",
        "rft": {
            "grader": {
                "type": "multi",
                "name": "both",
                "graders": {
                    "exact": GRADER,
                    "close": {**GRADER, "type": "text_similarity", "evaluation_metric": "bleu"},
                },
                "calculate_output": "0.5 * exact + 0.5 * close",
            }
        },
    },
]
# YAML reads JSON, too; these it reads besides.
YAML_FRAGMENTS = [
    *(".inf", "-.inf", ".nan", "&a [*a]", "*missing", "2020-13-45", "2020-01-01", "0o17", "1_000", "1:30", "~", "yes"),
    *(
        "!!binary aGk=",
        "!!set {a}",
        "!!bool maybe",
        "!!int ''",
        "!!float x",
        "!!python/object:os.system x",
        "!!omap [a]",
    ),
    *("!!timestamp x", "!unknown x", "{<<: 1}", "{? [a] : b}", "{1: 2}", "{null: 1}", "[a, *a]", "'\\ud83d'", "%YAML"),
]
SCORES: list[Any] = [
    {"score": 0.5},
    {"score": 1, "reason": "good", "sub_scores": {"a": 0.5}},
    {"score": 0.25, "reason": {"why": "close"}},
]
VERDICT = '{"steps": [{"description": "d", "conclusion": "c"}], "result": 0.5}'
COMPLETIONS: list[Any] = [
    {"choices": [{"message": {"role": "assistant", "content": VERDICT}}], "usage": {"total_tokens": 15}},
    {"choices": [{"message": {"content": None, "refusal": "no"}}], "usage": None},
]
TOOL_ANSWERS: list[Any] = [
    {"type": "function_call_output", "call_id": "call_1", "output": "four"},
    {"output": {"hits": [{"code": "A01", "score": 1.5}]}},
    {"hits": [1, 2]},
    {"error": "no such word"},
]
ANSWERS: list[Any] = [{"code": "A01", "k": [1, 2.5]}, "plain", 5, [{"name": "x"}]]
CONTENT_TYPES = ["application/json", "text/plain", "application/json; charset=latin-1", "", "text/html; charset=x"]


@dataclass(frozen=True)
class Door:
    """One way in.

    Attributes:
        inputs: what strangers send through it.
        run: returns what went wrong, each with its input; is given a folder of its own.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    run: Callable[[Sequence[Any], Path], list[str]]


def unforeseen(given: Any, error: BaseException | None = None, what: str = "") -> str:
    """A fault, in a few lines."""
    shown = ascii(given)
    text = what or "".join(traceback.format_exception(error)[-3:])
    return f"{shown[:300]}{'…' if len(shown) > 300 else ''}\n{text}"


def _each(check: Callable[[Any, Path], None]) -> Callable[[Sequence[Any], Path], list[str]]:
    def run(inputs: Sequence[Any], folder: Path) -> list[str]:
        faults = []
        for given in inputs:
            try:
                try:
                    check(given, folder)
                except UserError as error:
                    str(error).encode()
            except Exception as error:  # the point of the test: nothing else may be raised
                faults.append(unforeseen(given, error))
        return faults

    return run


def _read_rows(line: bytes, folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_bytes(line)
    for load in (load_samples, load_demonstrations):
        try:
            samples = load(path)
        except UserError as error:
            str(error).encode()
            continue
        for sample in samples:
            wire.dump([sample.messages, sample.tools, sample.item]).encode()
        check_templates(TEMPLATE_GRADER, samples)


def _read_job(data: bytes, folder: Path) -> None:
    path = folder / "job.yaml"
    path.write_bytes(data)
    wire.dump(stored_spec(load_job(path), path)).encode()


def _read_tool_answer(given: tuple[bytes, int, str], _: Path) -> None:
    body, status, content_type = given
    answer = Answer(status, {"Content-Type": content_type}, body)
    for read in (read_answer, read_plain_answer):
        reading = read(answer)
        (reading.message if isinstance(reading, Fault) else reading.output).encode()


async def _answering(
    bodies: Sequence[bytes], ask: Callable[[str, str], Awaitable[None]], *, at_once: int = 16
) -> list[str]:
    """Ask a server on loopback that answers with `bodies`, each once by its trace id."""
    queue = dict(enumerate(bodies))

    async def handle(request: web.Request) -> web.Response:
        number = int(request.headers["X-Trace-Id"].removeprefix("trace_"))
        return web.Response(body=queue[number], content_type="application/json")

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/{tail:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    faults: list[str] = []
    places = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with places:
            try:
                await ask(url, f"trace_{number}")
            except GraderFailure as failure:
                str(failure).encode()
            except Exception as error:  # the point of the test: nothing else may be raised
                faults.append(unforeseen(queue[number], error))

    try:
        await asyncio.gather(*(one(number) for number in queue))
    finally:
        await runner.cleanup()
    return faults


def _ask_graders(make: Callable[[str], Any]) -> Callable[[Sequence[bytes], Path], list[str]]:
    async def run(bodies: Sequence[bytes]) -> list[str]:
        graders: dict[str, Any] = {}

        async def ask(url: str, trace_id: str) -> None:
            grader = graders.setdefault(url, None) or make(url)
            graders[url] = grader
            grade = await grader.grade(GraderSample("red"), item={"answer": "red"}, trace_id=trace_id)
            wire.dump([grade.score, grade.sub_scores, grade.reason, grade.usage]).encode()

        try:
            return await _answering(bodies, ask)
        finally:
            for grader in graders.values():
                await grader.close()

    return lambda bodies, _: asyncio.run(run(bodies))


def _endpoint_grader(url: str) -> EndpointGrader:
    spec = EndpointGraderSpec(type="endpoint", name="mine", url=url, retries=0, max_concurrency=64)
    return EndpointGrader(spec, backoff_s=0.0001)


def _judge(url: str) -> ScoreModelGrader:
    spec = ScoreModelGraderSpec(
        type="score_model",
        name="judge",
        model="m",
        input=[{"role": "user", "content": "{{ sample.output_text }}"}],
        base_url=url,
        retries=0,
        max_concurrency=64,
    )
    return ScoreModelGrader(spec, backoff_s=0.0001)


def _read_model_answers(texts: Sequence[str], folder: Path) -> list[str]:
    """What the agent writes: graded by templates, read as calls, kept in Parquet, and read again."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    codec = load_codec(tokenizer, "smollm2-135m")
    prompt_ids = codec.prompt_ids([USER], [TOOL])
    grader = StringCheckGrader(TEMPLATE_GRADER)
    schemas = {"lookup": TOOL["function"]["parameters"]}
    faults, rows = [], []
    for text in texts:
        try:
            # What a tokenizer decodes has a UTF-8 form.
            text = wire.clean_text(text)
            sampled_ids = tokenizer.encode(text, add_special_tokens=False)
            said = codec.parse(sampled_ids, prompt_ids, [TOOL], new_call_id=lambda: "call_1")
            judge_calls(CallRules(), said.tool_calls, Counter(), schemas)
            sample = GraderSample(said.content, said.message.get("tool_calls", []), [USER, said.message])
            value = sample.as_template_value()
            wire.dump(value).encode()
            for template in ("{{ sample.output_json }}", "{{ sample.output_json.k[0] }}", "{{ sample.output_text }}"):
                try:
                    render_template(template, item={}, sample=value)
                except TemplateError as error:
                    str(error).encode()
            fits_schema(said.content, {"type": "object", "properties": {"code": {"type": "string"}}})
            count_repeated((call.name or "", call.arguments or "") for call in said.tool_calls)
            asyncio.run(grader.grade(sample, item={"answer": text}, trace_id="trace_1"))
            rollout = Rollout("trace_1", 1, "1", 1, 0, "graded", [], [USER, said.message], row_starts=[0])
            rollout.output_text = text
            rows.append(rollout_row(rollout.as_dict(), phase="train"))
        except GraderFailure as failure:
            str(failure).encode()
        except Exception as error:  # the point of the test: nothing else may be raised
            faults.append(unforeseen(text, error))
    path = folder / "rollouts.parquet"
    try:
        write_rollouts(path, rows)
        if len(read_rollouts(path)) != len(rows):
            faults.append("rollouts were lost in Parquet")
    except (ValueError, TypeError, RecursionError, pyarrow.ArrowException) as error:
        faults.append(unforeseen("all answers of this batch", error))
    return faults


def _call_text(document: str) -> str:
    return f'<tool_call>\n{{"name": "lookup", "arguments": {document}}}\n</tool_call>'


def _block_yaml(text: str) -> str:
    """The same document as people write it, where it is JSON."""
    try:
        return yaml.safe_dump(wire.parse(text, lossy=True), allow_unicode=True)
    except ValueError:
        return text


_answers = odd_documents(ANSWERS)
DOORS = [
    Door("rows", odd_bytes(odd_documents(ROWS, one_line=True)), _each(_read_rows)),
    Door(
        "job file",
        odd_bytes(odd_documents(JOBS, extra=YAML_FRAGMENTS) | odd_documents(JOBS).map(_block_yaml)),
        _each(_read_job),
    ),
    Door(
        "tool answers",
        st.tuples(
            odd_bytes(odd_documents(TOOL_ANSWERS)),
            st.sampled_from([200, 200, 200, 201, 400, 404, 413, 422]),
            st.sampled_from(CONTENT_TYPES),
        ),
        _each(_read_tool_answer),
    ),
    Door("endpoint graders", odd_bytes(odd_documents(SCORES)), _ask_graders(_endpoint_grader)),
    Door("judges", odd_bytes(odd_documents(COMPLETIONS)), _ask_graders(_judge)),
    Door("the model's answers", _answers | _answers.map(_call_text) | st.text(max_size=60), _read_model_answers),
]
