"""Models on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoseg.errors import ModelError

__all__ = ["download", "download_file"]

PATTERNS = ["card.json", "config.json", "model.onnx", "model.safetensors", "README.md"]


def download(repo: str, revision: str | None = None) -> Path:
    """Download a model folder, or take it from the local cache; only the files of a model folder, never a pickle.

    The address and the cache follow huggingface_hub's environment variables (``HF_ENDPOINT``, ``HF_HOME``,
    ``HF_HUB_OFFLINE``, ``HF_TOKEN``).

    Raises:
        ModelError: It is not there, or the hub can't be reached and it is not in the cache.
    """
    with _told(repo, revision):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repo, revision=revision, allow_patterns=PATTERNS))


def download_file(repo: str, revision: str, name: str) -> Path:
    """Download one file at one revision, or take it from the local cache.

    Raises:
        ModelError: It is not there, or the hub can't be reached and it is not in the cache.
    """
    with _told(repo, revision):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repo, name, revision=revision))


@contextmanager
def _told(repo: str, revision: str | None) -> Iterator[None]:
    """Errors of the hub's client in words.

    Raises:
        ModelError: There was one.
    """
    try:
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise ModelError(f"{repo}: models on the hub need huggingface_hub; pip install 'geoseg[hub]'") from error
    try:
        yield
    except RepositoryNotFoundError as error:
        raise ModelError(f"{repo}: no such model on the hub, or it is private (set HF_TOKEN)") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{repo}: no revision {revision!r} on the hub") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(f"{repo}: the hub can't be reached, and the model is not in the cache") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{repo}: the hub answers with an error: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
