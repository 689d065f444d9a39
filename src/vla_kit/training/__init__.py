"""Training with Lightning. Its modules load transformers, so import them by their full names.

`vla_kit.training.vla_module.VLAModule`, `vla_kit.training.demonstrations.DemonstrationDataModule`,
`vla_kit.training.text_to_action.TextToActionDataModule`, `vla_kit.training.warm_start.WarmStart`.
"""

from vla_kit.training.schedule import warmup_cosine

__all__ = ["warmup_cosine"]
