"""What becomes of each shell block of the documents: it is run, or it stands under words that say what it needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Runs:
    """Run as it stands there, in a folder of its own with the environment of `make setup`.

    Attributes:
        minutes: it takes minutes, so `make test-docs` runs it.
        inside: a folder of the repository, a copy of which is the folder.
        left_out: beginnings of commands that another test runs.
        background: beginnings of commands that run until they are stopped; the next one begins once they are up.
        first: commands that come before, which the text around says in words.
    """

    minutes: bool = False
    inside: str | None = None
    left_out: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    first: tuple[str, ...] = ()


@dataclass(frozen=True)
class Follows:
    """Run after the block of another place, in the same shell: a page that goes step by step."""

    place: str


@dataclass(frozen=True)
class Needs:
    """Not run, because it needs what its section names in these words.

    Attributes:
        instead: the test that does the same another way; empty where there is none, with the reason beside it.
    """

    words: str
    instead: str


DIST = "tests/dist/test_package.py"
RECIPES = "tests/deploy/test_cluster_recipes.py"
PLANS: dict[str, Runs | Follows | Needs] = {
    # `make test` is what runs this; the quickstart's own test shortens it.
    "README.md#five-minutes": Needs("Python 3.11 or newer and two CPU cores", "tests/examples/test_quickstart.py"),
    "README.md#your-own-agent": Runs(minutes=True),
    "README.md#from-openais-fine-tuning-api": Runs(),
    # The targets are what CI and contributors run; `test_documents` holds that each is there.
    "CONTRIBUTING.md#working-on-agentrft": Needs("make setup", "tests/docs/test_documents.py"),
    "README.md#see-why-it-changed": Needs("agentrft dashboard", "tests/dashboard/test_report_file.py"),
    "docs/dashboard.md#pages-that-say-how-a-job-goes-and-why-its-model-changed": Needs(
        "With `runs` being the folder of your jobs", "tests/dashboard/test_report_file.py"
    ),
    "docs/benchmarks.md#benchmarks": Needs("Peers are installed into environments of their own", ""),  # hours
    "docs/benchmarks.md#on-a-gpu": Needs("A machine with one H100", "tests/benchmarks/test_gpu_check.py"),
    "docs/engines.md#chats-through-vllm": Needs("lets a vLLM server answer", "tests/server/test_inference_chat.py"),
    "docs/engines.md#vllm": Needs("A server that is there already", "tests/vllm/test_real_server.py"),
    "docs/getting-started.md#install": Needs("Python 3.11 or newer", "tests/dist/test_package.py"),
    "docs/getting-started.md#a-project": Runs(minutes=True),
    "docs/getting-started.md#look-before-you-train": Follows("docs/getting-started.md#a-project"),
    "docs/getting-started.md#look-before-you-train-1": Follows("docs/getting-started.md#look-before-you-train"),
    "docs/getting-started.md#train": Follows("docs/getting-started.md#look-before-you-train-1"),
    "docs/getting-started.md#what-changed": Follows("docs/getting-started.md#train"),
    "docs/graders.md#trying-it": Runs(first=("agentrft init here", "cd here")),
    "docs/plan.md#before-renting-gpus": Runs(first=("agentrft init here", "cd here")),
    "docs/plan.md#after-a-job": Needs("beside what was measured", "tests/cli/test_plan.py"),
    "docs/tools.md#before-the-first-step": Needs("with its endpoints up", "tests/job/test_check.py"),
    "docs/integrations.md#traces-opentelemetry": Needs(
        "With OpenTelemetry's own variables set", "tests/tracing/test_rollout_spans.py"
    ),
    "docs/job.md#before-training-agentrft-check": Needs("agentrft check", "tests/job/test_check.py"),
    "docs/migrate-from-openai.md#the-change": Runs(left_out=("pip install",)),
    "docs/server.md#a-server-for-a-team": Runs(left_out=("pip install",)),
    "docs/server.md#files-in-a-bucket": Needs("With a bucket, its credentials", "tests/server/test_artifacts.py"),
    "docs/deploy.md#the-package": Needs("made in a checkout", DIST),
    "docs/deploy.md#the-package-1": Needs("On the machine, as root", DIST),
    "docs/deploy.md#a-service": Needs("As root, with systemd", "tests/deploy/test_service.py"),
    "docs/deploy.md#tls": Needs("As root", "tests/deploy/test_proxy.py"),
    "docs/deploy.md#a-container": Needs("With podman", "tests/deploy/test_container.py"),
    "docs/scale.md#several-machines": Needs("ssh reaches without a password", RECIPES),
    "docs/scale.md#several-machines-1": Needs("SLURM", RECIPES),
    "docs/scale.md#several-machines-2": Needs("Kubernetes", RECIPES),
    "docs/deploy.md#several-servers-a-database-and-a-bucket": Needs("with Docker", "tests/deploy/test_compose.py"),
    "docs/deploy.md#backup-and-restore": Needs("stop the server", "tests/deploy/test_backup.py"),
    "docs/deploy.md#backup-and-restore-1": Needs("on this machine or another one", "tests/deploy/test_backup.py"),
    "docs/deploy.md#upgrade": Needs("With systemd", "tests/store/test_migrations.py"),
    "examples/medical_coding/README.md#run-it": Runs(
        minutes=True,
        inside="examples/medical_coding",
        left_out=("cd examples/medical_coding",),
        background=("python server.py",),
    ),
    "examples/file_planning/README.md#run-it": Needs(
        "after `make setup`, which these commands need", "tests/examples/file_planning/test_job.py"
    ),
    "examples/file_planning/README.md#the-data": Needs(
        "reads the history of a git repository", "tests/examples/file_planning/test_mine.py"
    ),
    "examples/kernels/README.md#run-it": Needs(
        "It takes gcc with binutils, and bubblewrap", "tests/examples/kernels/test_job.py"
    ),
    "examples/medical_notes/README.md#run-it": Needs(
        "the server in a terminal of its own", "tests/examples/medical_notes/test_job.py"
    ),
    # Training takes long; the test is the same job with a tiny model.
    "examples/finance/README.md#run-it": Needs("make setup", "tests/examples/finance/test_training.py"),
    "examples/finance/README.md#how-the-hack-is-found": Needs(
        "no model", "tests/examples/finance/test_hack_is_found.py"
    ),
    "examples/finance/README.md#real-filings": Needs("CC BY 4.0", "tests/examples/finance/test_imported.py"),
    # README.md's "Your own agent" runs this project.
    "src/agentrft/cli/templates/project/README.md#an-agent-that-looks-things-up": Needs(
        "tool_server.py", "tests/docs/test_commands.py"
    ),
}
