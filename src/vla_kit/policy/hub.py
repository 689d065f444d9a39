"""Policies on the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from vla_kit.errors import CheckpointError, SettingError
from vla_kit.policy.folder import FILES

__all__ = ["fetch_policy", "upload_policy"]

_REFUSALS = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)


def fetch_policy(repo_id: str, *, revision: str | None = None) -> Path:
    """Fetch the files of a policy, and no others, into the hub's cache.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag or commit.

    Returns:
        The folder.

    Raises:
        CheckpointError: If there is no such repository, or neither a connection nor a copy in the cache.
    """
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))
    except _REFUSALS as error:
        raise CheckpointError(
            f"folder must be a folder or a policy of the hub, got {repo_id!r}: no such folder here, and the hub says "
            f"{_first_line(error)!r}. Check the path, the name and the revision; private ones need `hf auth login`."
        ) from error


def upload_policy(
    folder: Path, repo_id: str, *, private: bool | None = None, token: str | None = None, message: str
) -> str:
    """Make the repository where it is missing, and upload a folder as one commit.

    Args:
        folder: What `Policy.save` wrote.
        repo_id: `owner/name`.
        private: Whether a new repository is private; the owner's default where None.
        token: Token with the right to write; that of `hf auth login` where None.
        message: Message of the commit.

    Returns:
        Address of the commit.

    Raises:
        CheckpointError: If the folder is not there, or the hub refuses.
        SettingError: If the message is empty.
    """
    if not folder.is_dir():  # said before a repository is made for it
        raise CheckpointError(f"folder must be one that Policy.save wrote, got {folder}, which is none. Save it first.")
    if not message.strip():
        raise SettingError(f"message must hold words, got {message!r}. Say what the commit brings.")
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    except _REFUSALS as error:
        raise CheckpointError(
            f"repo_id must be a repository that you may write to, got {repo_id!r}: {_first_line(error)}. "
            "Log in with `hf auth login`, or give a token."
        ) from error
    return str(commit.commit_url)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")
