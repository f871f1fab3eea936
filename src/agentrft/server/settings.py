"""How a server was started."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What `agentrft serve` was told.

    Attributes:
        data_dir: of files, jobs, the database where it is SQLite, `models.yaml` and `secret.key`.
        database: the URL of PostgreSQL; None for SQLite.
        artifacts: the URL that files, rollouts and checkpoints are kept below; None for the data folder alone.
        needs_key: whether every request must carry an API key, also while there is none.
        key_on_loopback: whether they must, once a key was made, where `needs_key` does not say so.
        trusted_hosts: names beside those of loopback that a server may be asked by where it takes no key.
        organization: in the names of models.
        max_running_jobs: jobs that run at once here.
        max_running_evals: runs of evals that users made, at once here, beside the jobs.
        allowed_hosts: that tools and graders may be at; empty for all but link-local and metadata addresses.
        allowed_env: variables that jobs may read as `${NAME}`, or as a judge's `api_key_env`.
        allow_code: whether jobs may run Python functions, commands and graders without a sandbox in the server's name.
        webhook_url, webhook_secret: where ends of jobs are told, and what the telling is signed with.
        max_models: models with weights of their own that are kept loaded for chat.
        max_adapters: fine-tuned models that are kept loaded on each of them.
        vllm: base models that vLLM servers answer chats with, and the adapters on them, as MODEL=URL.
        vllm_seeds: whether these are asked with the seeds of requests.
        cluster: the address of the Ray cluster that jobs have their rollout workers in; None for the server's machine.
        max_rollout_workers: that a job may have.
    """

    data_dir: Path
    database: str | None = None
    artifacts: str | None = field(default=None, repr=False)
    needs_key: bool = False
    key_on_loopback: bool = True
    trusted_hosts: tuple[str, ...] = ()
    organization: str = "local"
    max_running_jobs: int = 1
    max_running_evals: int = 1
    allowed_hosts: tuple[str, ...] = ()
    allowed_env: tuple[str, ...] = ()
    allow_code: bool = False
    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    max_models: int = 4
    max_adapters: int = 32
    vllm: tuple[str, ...] = ()
    vllm_seeds: bool = False
    cluster: str | None = None
    max_rollout_workers: int = 8

    @property
    def files_dir(self) -> Path:
        return self.data_dir / "files"

    @property
    def jobs_dir(self) -> Path:
        return self.data_dir / "jobs"
