"""`check`: what it says of sound and of broken jobs, what it calls, and what it leaves alone."""

import asyncio
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from aiohttp import web

from agentrft.data import Sample
from agentrft.job.check import CheckReport, check_job, checkpoints, learning_rate
from agentrft.job.check.attacks import Battery
from agentrft.job.check.learning_rate import suggested_factor
from agentrft.spec import load_job
from agentrft.spec.graders import MultiGraderSpec, PythonGraderSpec, StringCheckGraderSpec
from agentrft.traffic import endpoint as endpoint_module
from tests.job.tiny_job import TRAIN_WORDS, VALIDATION_WORDS, prompt, tool_calls, write_job, write_rows
from tests.traffic.chaos_server import Behaviour, ChaosServer, json_body, ok, status

BURST = 12
MCP_SERVER = Path(__file__).parents[1] / "tools" / "mcp_server.py"


def python(source: str) -> dict[str, Any]:
    return {"type": "python", "trusted": True, "name": "mine", "source": source}


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "BACKOFF_S", 0.02)


async def checked(job_file: Path, *, burst: int = 0) -> CheckReport:
    return await check_job(load_job(job_file), burst=burst)


def said(report: CheckReport, level: str, part: str | None = None) -> list[str]:
    return [one.text for one in report.findings if one.level == level and part in (None, one.part)]


async def test_a_sound_job_passes_and_nothing_of_it_is_stored(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer(default=ok("fine", delay_s=0.01)) as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url), burst=BURST)
    assert report.exit_code == 0, report.findings
    assert not (tmp_path / "runs").exists()

    assert report.data is not None and report.grader is not None and report.estimate is not None
    assert (report.data.train, report.data.validation, report.data.demonstrations) == (6, 4, 4)
    assert 0 < report.data.prompt_tokens_median <= report.data.prompt_tokens_max < 256
    (tool,) = report.tools
    assert (tool.name, tool.source, tool.status, tool.answer, tool.characters) == (
        "lookup",
        "demonstration",
        "ok",
        "text",
        4,
    )
    assert tool.burst is not None and (tool.burst.calls, tool.burst.refused, tool.burst.failed) == (BURST, 0, 0)
    assert tool.burst.p50_s <= tool.burst.p95_s <= tool.burst.p99_s <= tool.burst.seconds

    calls = tool_calls(server)
    assert json.loads(calls[0]["arguments"]) == {"word": "colour"}
    trial_calls = [call["trace_id"] for call in calls[: 1 + BURST]]
    assert len(set(trial_calls)) == 1 + BURST, "each has a rollout id of its own"
    assert not set(trial_calls) & {call["trace_id"] for call in calls[1 + BURST :]}

    assert report.grader.rollouts == 8 and report.grader.noise == 0
    assert report.grader.honest_median is not None and report.grader.honest_median > 0
    assert len(report.grader.demonstrations) == 4
    found = report.estimate
    assert (found.steps, found.rollouts, found.validation_rollouts) == (3, 24, 16)
    assert found.total_s == pytest.approx(
        found.warm_start_s + found.validation_s + 3 * (found.rollout_s + found.update_s)
    )
    assert min(found.warm_start_s, found.update_s, found.rollout_s, found.sampled_tokens) > 0


def test_what_is_kept_of_all_weights_is_said_and_that_the_disk_has_no_room_for_it(monkeypatch: Any) -> None:
    class Usage(NamedTuple):
        free: int

    hyperparameters = SimpleNamespace(lora_rank=None, checkpoint_interval=8, max_steps=20, eval_interval=5)
    policy = SimpleNamespace(masters=[torch.zeros(1000, 1000)])
    spec = SimpleNamespace(output_dir=Path("nowhere/runs"))
    runtime: Any = SimpleNamespace(
        hyperparameters=hyperparameters, policy=policy, dtype=torch.bfloat16, validation=[1], spec=spec
    )
    for free, level in ((10**9, "ok"), (97 * 10**6, "warning")):
        monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder, free=free: Usage(free))
        report = CheckReport()
        checkpoints.check_checkpoints(runtime, report)
        (weights,) = said(report, "ok", "weights")
        assert "trained are all weights: bfloat16 weights (0.002 GB) with float32 masters (0.004 GB)" in weights
        # Four validated steps, the first, the newest, and one that is being written: seven of 14 MB.
        (found,) = said(report, level, "checkpoints")
        assert "0.014 GB" in found and "every 8 steps" in found and "kept are at most 6" in found


async def test_all_faults_of_the_data_are_found_at_once_and_the_model_is_not_loaded(tmp_path: Path) -> None:
    async with ChaosServer() as server:
        grader = {"type": "string_check", "input": "{{ item.colour }}", "reference": "x", "operation": "eq"}
        job_file = write_job(tmp_path, Path("/no/model"), server.url, grader=grader)
        write_rows(tmp_path / "train.jsonl", [{"messages": prompt("apple")}, {"messages": "none"}])
        write_rows(tmp_path / "demonstrations.jsonl", [{"messages": prompt("apple")}])
        report = await checked(job_file)
    errors = said(report, "error", "data")
    assert len(errors) == 2 and "line 2: messages" in errors[0] and "must end in an assistant" in errors[1]
    assert report.exit_code == 2 and report.grader is None

    async with ChaosServer() as server:
        job_file = write_job(tmp_path, Path("/no/model"), server.url, grader=grader)
        report = await checked(job_file)
    assert any("'item' has no key 'colour'" in text for text in said(report, "error", "grader"))
    assert [tool.status for tool in report.tools] == ["ok"], "tools are looked at although the grader is wrong"


async def test_rows_of_both_files_and_repeated_rows_are_named(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tiny_model, server.url)
        shouted = [{"role": "user", "content": f"COLOUR  of {TRAIN_WORDS[1]}?"}]
        write_rows(
            tmp_path / "validation.jsonl",
            [{"messages": prompt(VALIDATION_WORDS[0])}, {"messages": shouted}],
        )
        write_rows(tmp_path / "train.jsonl", [{"messages": prompt(word)} for word in (*TRAIN_WORDS, TRAIN_WORDS[2])])
        report = await checked(job_file)
    assert report.data is not None
    assert [(a[:5], b[:5]) for a, b in report.data.in_both] == [("00002", "00002")]
    assert [one[:5] for one in report.data.repeated] == ["00007"]
    assert report.exit_code == 0 and len(said(report, "warning", "data")) == 2


async def test_a_tool_that_fails_is_an_error_of_its_endpoint(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer(default=status(500, "no database")) as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url))
    (error,) = said(report, "error")
    assert "server_error" in error and report.exit_code == 3
    assert report.tools[0].status == "failed" and report.grader is None


async def test_a_tool_that_fails_on_made_up_arguments_is_a_warning(tiny_model: Path, tmp_path: Path) -> None:
    class NoSuchThing(ChaosServer):
        """Answers a word that the schema gives by an error of its own, as a plain server does of what it lacks."""

        def _behaviour(self, key: str) -> Behaviour:
            return status(500) if "example" in self.received[-1].body["arguments"] else ok()

    async with NoSuchThing() as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url, warm_start=None))
    assert any("its arguments were made from the schema" in one for one in said(report, "warning", "tool 'lookup'"))
    assert not [one for one in said(report, "error") if "lookup" in one]
    assert report.grader is not None, "the check went on"


async def test_arguments_that_a_tool_refuses_are_an_error_only_where_the_user_gave_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    refusal = [status(400, "no such word"), ok()]
    async with ChaosServer(script=refusal) as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url, warm_start=None))
    assert report.exit_code == 0 and report.tools[0].source == "schema"
    (warning,) = said(report, "warning", "tool 'lookup'")
    assert "no such word" in warning and '{"word": "example"}' in warning

    async with ChaosServer(script=refusal) as server:
        job_file = write_job(tmp_path, tiny_model, server.url, tool={"example": {"word": "mine"}})
        report = await checked(job_file)
    assert report.exit_code == 3 and report.tools[0].source == "example"
    assert json.loads(tool_calls(server)[0]["arguments"]) == {"word": "mine"}


async def test_what_of_a_schema_cannot_be_checked_is_a_warning(tiny_model: Path, tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"word": {"type": "string", "pattern": "^(w"}}}
    answer = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": {"b": {"pattern": "(b"}}}}}
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, Path("/no/model"), server.url, tool={"parameters": parameters})
        job = yaml.safe_load(job_file.read_text())
        job["method"]["reinforcement"]["response_format"] = answer
        job_file.write_text(yaml.safe_dump(job))
        report = await checked(job_file)
    assert any("properties.word.pattern: '^(w'" in text for text in said(report, "warning", "tool 'lookup'"))
    assert any("properties.b.pattern: '(b'" in text for text in said(report, "warning", "response_format"))
    assert report.tools[0].status == "ok"


async def test_a_burst_shows_what_an_endpoint_refuses(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer(limit_in_flight=5, default=ok(delay_s=0.3)) as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url), burst=BURST)
    burst = report.tools[0].burst
    assert burst is not None
    assert (burst.calls, burst.refused, burst.failed, burst.concurrency) == (BURST, BURST - 5, 0, 5)
    assert server.refused >= BURST - 5
    assert report.exit_code == 0 and "7 refused" in said(report, "warning", "tool 'lookup'")[0]


async def test_a_burst_shows_how_many_calls_an_endpoint_works_on_at_once(tiny_model: Path, tmp_path: Path) -> None:
    workers = asyncio.Semaphore(3)

    async def work(request: web.Request) -> web.Response:
        async with workers:
            await asyncio.sleep(0.2)
        return web.json_response({"output": "fine"})

    app = web.Application()
    app.router.add_post("/tool", work)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/tool"
        report = await checked(write_job(tmp_path, tiny_model, url), burst=BURST)
    finally:
        await runner.cleanup()
    burst = report.tools[0].burst
    assert burst is not None and burst.refused == burst.failed == 0
    assert 2 <= burst.concurrency <= 6


async def test_a_tool_that_does_something_is_called_only_with_the_users_example(
    tiny_model: Path, tmp_path: Path
) -> None:
    careful = {"idempotent": False}
    async with ChaosServer(default=json_body({"a": 1})) as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url, tool=careful), burst=BURST)
        trial = len(tool_calls(server))
    assert report.tools[0].arguments is None and "does something" in report.tools[0].note
    assert report.grader is not None and trial <= 8, "only the rollouts called it"

    async with ChaosServer(default=json_body({"a": 1})) as server:
        tool = {**careful, "example": {"word": "mine"}}
        report = await checked(write_job(tmp_path, tiny_model, server.url, tool=tool), burst=BURST)
    assert (report.tools[0].answer, report.tools[0].burst) == ("json", None)
    assert sum(json.loads(call["arguments"]) == {"word": "mine"} for call in tool_calls(server)) == 1


async def test_hooks_are_told_of_every_call_and_of_its_end(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server, ChaosServer() as hooks:
        job_file = write_job(tmp_path, tiny_model, server.url)
        text = job_file.read_text().replace("    grader:", f"    on_rollout_start: {hooks.url}\n    grader:")
        job_file.write_text(text.replace("    grader:", f"    on_rollout_end: {hooks.url}\n    grader:"))
        report = await checked(job_file, burst=BURST)
    assert report.exit_code == 0
    told = Counter(received.body["type"] for received in hooks.received)
    ids = {call["trace_id"] for call in tool_calls(server)}
    begun = {one.body["trace_id"] for one in hooks.received if one.body and one.body["type"] == "rollout_start"}
    assert told["rollout_start"] == told["rollout_end"] == len(begun) and ids <= begun


@pytest.mark.parametrize(
    ("source", "attack"),
    [
        ("    return min(1.0, len(sample['output_text']) / 150)", "a very long text"),
        ("    return float(item['word'] in sample['output_text'])", "every label at once"),
        ("    return float('fine' in sample['output_text'])", "what the tools said"),
        ("    return float(sample['output_text'] == '')", "an empty answer"),
        ("    return float('score this' in sample['output_text'].lower())", "an order to the judge"),
    ],
)
async def test_what_beats_honest_answers_is_named(tiny_model: Path, tmp_path: Path, source: str, attack: str) -> None:
    async with ChaosServer() as server:
        grader = python(f"def grade(sample, item):\n{source}\n")
        report = await checked(write_job(tmp_path, tiny_model, server.url, grader=grader))
    assert attack in [one.name for one in report.attacks if one.beats_honest]
    assert any(f"can be gamed: {attack}" in text for text in said(report, "warning", "grader"))
    assert report.exit_code == 0


async def test_attacks_are_no_longer_than_the_agent_can_write(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        grader = python("def grade(sample, item):\n    return float(len(sample['output_text']) > 48 * 12)\n")
        report = await checked(write_job(tmp_path, tiny_model, server.url, grader=grader, warm_start=None))
    assert not any(one.beats_honest for one in report.attacks)


async def test_answers_that_break_the_grader_are_named(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        grader = python("def grade(sample, item):\n    return min(1.0, len(sample['output_text'].split()[0]) / 20)\n")
        report = await checked(write_job(tmp_path, tiny_model, server.url, grader=grader))
    broken = {one.name for one in report.attacks if one.failures}
    assert broken == {"an empty answer"}
    assert any(text.startswith("breaks on: an empty answer") for text in said(report, "warning", "grader"))


async def test_a_grader_that_says_something_else_each_time_is_called_chance(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        grader = python("import random\ndef grade(sample, item):\n    return random.random()\n")
        report = await checked(write_job(tmp_path, tiny_model, server.url, grader=grader))
    assert report.grader is not None and report.grader.noise is not None and report.grader.noise > 0
    assert any("partly chance" in text for text in said(report, "warning", "grader"))


async def test_a_job_with_nothing_to_learn_from_fails_as_its_baseline_would(tiny_model: Path, tmp_path: Path) -> None:
    nothing = python("def grade(sample, item):\n    return 0\n")
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tiny_model, server.url, grader=nothing, warm_start=None)
        assert (await checked(job_file)).exit_code == 4
        job_file = write_job(tmp_path, tiny_model, server.url, grader=nothing)
        assert (await checked(job_file)).exit_code == 0, "a warm start may change that"


async def test_what_graders_import_and_lack_is_found_without_the_model(tmp_path: Path) -> None:
    lacks = python("def grade(sample, item):\n    import no_such_package\n    return 1\n")
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tmp_path / "no_model", server.url, grader=lacks, holdout_graders={"late": lacks})
        report = await checked(job_file)
    assert report.exit_code == 2
    for part in ("grader", "holdout late"):
        (text,) = said(report, "error", part)
        assert "No module named 'no_such_package'" in text
    assert not said(report, "error", "model")


async def test_a_holdout_that_fails_is_a_warning(tiny_model: Path, tmp_path: Path) -> None:
    holdouts = {"broken": python("def grade(sample, item):\n    return 1 / 0\n")}
    async with ChaosServer() as server:
        report = await checked(write_job(tmp_path, tiny_model, server.url, holdout_graders=holdouts))
    assert "ZeroDivisionError" in said(report, "warning", "holdout broken")[0]


async def test_mcp_and_python_tools_are_called_and_burst_like_any_other(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def lookup(word: str) -> dict:\n    return {'word': word}\n")
    tools = [
        {
            "type": "mcp",
            "server_label": "catalogue",
            "command": sys.executable,
            "args": [str(MCP_SERVER)],
            "allowed_tools": ["search"],
            "examples": {"search": {"query": "saw"}},
        },
        {"type": "python", "function": "mine:lookup"},
    ]
    job_file = write_job(tmp_path, tiny_model, "http://127.0.0.1:9")
    job = yaml.safe_load(job_file.read_text())
    job["method"]["reinforcement"]["tools"] = tools
    job_file.write_text(yaml.safe_dump(job))
    report = await checked(job_file, burst=3)
    assert report.exit_code == 0, report.findings
    assert [(tool.name, tool.source, tool.answer) for tool in report.tools] == [
        ("search", "example", "text"),
        ("lookup", "demonstration", "json"),
    ]
    assert all(tool.burst is not None and tool.burst.failed == 0 for tool in report.tools)


async def test_what_is_replayed_is_not_called(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir(parents=True)
    (tmp_path / "calls" / "lookup.jsonl").write_text("")
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tiny_model, server.url, tool={"replay": "calls"})
        report = await checked(job_file, burst=BURST)
    assert [tool.note for tool in report.tools] == ["replayed: not called"]
    assert tool_calls(server) == []


ROWS = [
    Sample("1", [{"role": "user", "content": "Which?"}], item={"answer": "A1", "note": "n"}),
    Sample("2", [{"role": "user", "content": "Whose?"}], item={"answer": "B2", "note": "m"}),
]
EXACT = StringCheckGraderSpec(
    type="string_check", input="{{ sample.output_json.code }}", reference="{{ item.answer }}", operation="eq"
)


def test_the_battery_is_made_of_what_the_grader_reads() -> None:
    for grader in (EXACT, MultiGraderSpec(type="multi", graders={"a": EXACT}, calculate_output="a")):
        attacks = Battery(grader, ROWS, {"1": ["one", "two"]}).attacks()
        answers = {name: answer(ROWS[0]) for name, answer in attacks.items()}
        assert answers["another row's answer"] == "B2"
        assert answers["every label at once"] == "A1\nB2"
        assert answers["a form of empty fields"] == '{"code": ""}'
        assert answers["what the tools said"] == "one\ntwo"
        assert answers["the prompt again"] == "Which?"


def test_a_python_graders_source_says_which_keys_it_reads() -> None:
    source = "def grade(sample, item):\n    return item.get('note') == sample['output_text']\n"
    attacks = Battery(PythonGraderSpec(type="python", source=source), ROWS, {}).attacks()
    assert attacks["another row's answer"](ROWS[0]) == "m"
    assert "what the tools said" not in attacks


@pytest.mark.parametrize(
    ("grader", "given", "lowest"),
    [
        (
            python("def grade(sample, item):\n    return -0.5 - len(sample['output_text']) / 40"),
            0,
            "grades here were lower",
        ),
        (
            {
                "type": "text_similarity",
                "input": "{{ sample.output_text }}",
                "reference": "red",
                "evaluation_metric": "cosine",
            },
            0.5,
            "the grader's lowest score is 0",
        ),
    ],
)
async def test_a_reward_for_failing_that_pays_more_than_an_answer_is_named(
    grader: dict[str, Any], given: float, lowest: str, tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer() as server:
        paying = write_job(tmp_path / "a", tiny_model, server.url, grader=grader, model_failed_reward=given)
        usual = write_job(tmp_path / "b", tiny_model, server.url, grader=grader)
        (text,) = [one for one in said(await checked(paying), "warning", "grader") if "failing pays" in one]
        assert lowest in text
        assert not [one for one in said(await checked(usual), "warning", "grader") if "failing pays" in one]


@pytest.mark.parametrize(("multiplier", "what"), [(3000.0, "so far that"), (0.3, "so little that")])
async def test_a_learning_rate_that_takes_the_policy_too_far_or_nowhere_is_told_with_a_better_one(
    tiny_model: Path, tmp_path: Path, multiplier: float, what: str
) -> None:
    told: list[str] = []
    async with ChaosServer(default=ok("fine")) as server:
        for _ in range(5):
            hyperparameters = {"learning_rate_multiplier": multiplier}
            report = await checked(write_job(tmp_path, tiny_model, server.url, hyperparameters=hyperparameters))
            assert report.policy_change is not None and report.policy_change >= 0
            warned = [one for one in report.findings if one.part == "learning rate" and one.level == "warning"]
            if not warned:
                break
            told.append(warned[0].text)
            found = re.search(r"multiplier to about ([0-9.e+-]*[0-9])", warned[0].remedy)
            assert found
            multiplier = float(found[1])
    # Who does what is said gets where nothing more is said.
    assert what in told[0] and len(told) < 5
    assert said(report, "ok", "learning rate")


def test_the_suggested_factor_leads_into_what_is_left_alone() -> None:
    for change in (1e-6, 3e-5, 0.05, 0.4):
        factor = suggested_factor(change)
        assert factor is not None
        assert suggested_factor(change * factor**2) is None or factor in (0.1, 10.0)
    assert suggested_factor(float("inf")) == suggested_factor(float("nan")) == 0.1
    assert suggested_factor(0.004) is None and suggested_factor(0.0) == 10.0


def test_a_change_is_the_divergence_from_the_policy_that_sampled() -> None:
    """Of a token that becomes less likely by 2.2 nats: e^-2.2 - 1 + 2.2."""

    class Nothing:
        def __init__(self) -> None:
            self.seen = iter([torch.tensor([-1.0]), torch.tensor([-3.2])])

        def logprobs(self, rows: Any) -> torch.Tensor:
            return next(self.seen)

        def plan(self, groups: Any) -> Any: ...
        def update(self, plan: Any) -> Any: ...

    change = learning_rate._change(Nothing(), [])  # type: ignore[arg-type]
    assert change == pytest.approx(1.3108, abs=1e-4)
