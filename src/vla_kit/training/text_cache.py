"""A frozen backbone that reads each sentence once while a run lasts."""

from pathlib import Path

from lightning.pytorch import Callback, Trainer

from vla_kit.backbones.text_cache import CachedTextBackbone
from vla_kit.errors import SettingError
from vla_kit.training.vla_module import VLAModule

__all__ = ["TextCache"]


class TextCache(Callback):
    """Puts a `CachedTextBackbone` around the backbone of a module while it is trained without pictures.

    For text to action with `freeze: [backbone]`, behind any backbone. It belongs to the run, not to the model: a
    checkpoint is that of a run without it, and the next stage knows nothing of it.

    Args:
        folder: Where the states are kept. Runs with the same backbone may share it; delete it at will.

    Raises:
        SettingError: If `folder` is empty.

    Examples:
        >>> TextCache("cache/text").folder.as_posix()
        'cache/text'
    """

    def __init__(self, folder: str = "cache/text") -> None:
        if not folder:
            raise SettingError("folder must name a place of its own, got ''. Use cache/text.")
        self.folder = Path(folder)

    def setup(self, trainer: Trainer, pl_module: VLAModule, stage: str) -> None:  # type: ignore[override]  # of VLAModule alone
        """Put it there when training begins."""
        if stage == "fit":
            pl_module.backbone = CachedTextBackbone(pl_module.backbone, folder=self.folder)

    def teardown(self, trainer: Trainer, pl_module: VLAModule, stage: str) -> None:  # type: ignore[override]  # of VLAModule alone
        """Take it away."""
        if isinstance(pl_module.backbone, CachedTextBackbone):
            pl_module.backbone = pl_module.backbone.backbone

    def on_exception(self, trainer: Trainer, pl_module: VLAModule, exception: BaseException) -> None:  # type: ignore[override]  # of VLAModule alone
        """Take it away when the run fails."""
        self.teardown(trainer, pl_module, "exception")
