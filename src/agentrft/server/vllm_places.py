"""Where vLLM servers are that answer chats: what `--vllm` says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VllmPlace:
    """Where a base model is served.

    Attributes:
        url: of the server.
        model: as it calls the model.
    """

    url: str
    model: str

    @classmethod
    def parse(cls, text: str) -> "tuple[str, VllmPlace]":
        """A base model and its place, of `MODEL=URL`, or of `MODEL=URL#NAME` where the server calls it otherwise.

        Raises:
            ValueError: it is neither.
        """
        model, equals, rest = text.partition("=")
        url, _, name = rest.partition("#")
        if not equals or not model or not url.startswith(("http://", "https://")):
            raise ValueError(f"{text}: MODEL=URL is needed, such as Qwen/Qwen3-4B=http://127.0.0.1:8000")
        return model, cls(url, name or model)
