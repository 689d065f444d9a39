"""LoRA through peft: train small matrices beside frozen weights, in every layer of the language model."""

from collections.abc import Sequence
from typing import Final, cast

from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from vla_kit.backbones.learned_rows import LearnedHead, LearnedRows
from vla_kit.backbones.vocabulary import known_view_tags
from vla_kit.embodiment.views import view_tokens
from vla_kit.errors import MissingExtraError, SettingError

try:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer
except ImportError as error:
    raise MissingExtraError("peft", extra="lora") from error

__all__ = ["ATTENTION_PROJECTIONS", "LINEAR_ATTENTION_PROJECTIONS", "MLP_PROJECTIONS", "add_lora", "merge_lora"]

ATTENTION_PROJECTIONS: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Of full attention: every layer of most families, one in four of Qwen3.5."""

LINEAR_ATTENTION_PROJECTIONS: Final = ("in_proj_qkv", "in_proj_z", "out_proj")
"""Of the gated linear attention of Qwen3.5, but for the two that give one number per head."""

MLP_PROJECTIONS: Final = ("gate_proj", "up_proj", "down_proj")
"""Of the feed-forward part of a layer."""


def add_lora(
    backbone: nn.Module,
    *,
    rank: int = 16,
    alpha: int = 32,
    dropout: float = 0.0,
    targets: Sequence[str] = (*ATTENTION_PROJECTIONS, *LINEAR_ATTENTION_PROJECTIONS),
) -> nn.Module:
    """Freeze the model of a backbone and put trainable LoRA matrices beside projections of its language model.

    The first outputs are those of the model without LoRA. The vision tower and the embeddings are frozen and get no
    adapters, but for the boundary tokens of views, which a pretrained model does not know: their rows learn.

    Args:
        backbone: `QwenVLBackbone` or `ImageTextBackbone`; changed in place.
        rank: Rank of the update of each projection.
        alpha: The update is scaled by `alpha / rank`.
        dropout: Share of the inputs of the adapters that is dropped in training.
        targets: Names of the projections. The default reaches every layer of every family here: the full attention
            and, in Qwen3.5, the gated linear attention that three layers of four have instead. Each layer uses those
            that it has. Add `MLP_PROJECTIONS` to reach the rest of the weights.

    Returns:
        The backbone itself, so that a YAML file may name this function as its class_path.

    Raises:
        SettingError: If the model has LoRA already, `rank` or `alpha` is below 1, `dropout` is not in [0, 1), or a
            layer of the language model has no projection of `targets`.

    Examples:
        >>> from vla_kit.backbones.tiny import tiny_qwen3_5
        >>> backbone = tiny_qwen3_5(corpus=["push"], view_tags=["ego"], hidden=32, vision_layers=1, text_layers=4)
        >>> backbone = add_lora(backbone, rank=2)
        >>> sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
        2176

    Source:
        LoRA, arXiv 2106.09685. Qwen-VLA trains all weights; rank and scale are ours.
    """
    for argument, value in (("rank", rank), ("alpha", alpha)):
        if value < 1:
            raise SettingError(f"{argument} must be at least 1, got {value}. Raise it.")
    if not 0 <= dropout < 1:
        raise SettingError(f"dropout must lie in [0, 1), got {dropout}. Use 0 for none.")
    model = cast(PreTrainedModel, backbone.model)
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise SettingError("backbone must have no LoRA yet, got one with LoRA. Call merge_lora first.")
    names = {id(module): name for name, module in model.named_modules()}
    found: list[str] = []
    for index, layer in enumerate(model.get_decoder().layers):
        here = [
            names[id(module)]
            for name, module in layer.named_modules()
            if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in targets
        ]
        if not here:
            linear = {
                name.rsplit(".", 1)[-1] for name, module in layer.named_modules() if isinstance(module, nn.Linear)
            }
            raise SettingError(
                f"targets must name a projection of every layer, got {list(targets)} and none for layer {index}. "
                f"Choose from {sorted(linear)}."
            )
        found += here
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=found), model)
    _learn_view_tokens(model, cast(Tokenizer, backbone.tokenizer))
    return backbone


def merge_lora(backbone: nn.Module) -> nn.Module:
    """Add the updates of `add_lora` to the weights and remove the adapters, in place.

    The result has the parameters of a backbone that never had LoRA; they stay frozen.

    Args:
        backbone: What `add_lora` returned.

    Returns:
        The backbone itself.

    Raises:
        SettingError: If there is no LoRA.

    Examples:
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> backbone = tiny_qwen3_vl(corpus=["push"], view_tags=["ego"], hidden=32, vision_layers=1)
        >>> names = backbone.state_dict().keys()
        >>> merge_lora(add_lora(backbone)).state_dict().keys() == names
        True
    """
    model = cast(PreTrainedModel, backbone.model)
    adapted = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer | LearnedRows | LearnedHead)
    ]
    if not adapted:
        raise SettingError("backbone must have LoRA, got one without. Nothing is to be merged.")
    for name, module in adapted:
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            _replace(model, name, module.get_base_layer())
        else:
            _replace(model, name, module.merge())
    return backbone


def _learn_view_tokens(model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Let the rows of all view tokens learn; a head that shares the embedding's matrix learns them too."""
    tokens = [token for tag in known_view_tags(tokenizer) for token in view_tokens(tag)]
    if not tokens:
        return
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    learned = LearnedRows(embedding, token_ids=sorted(cast(int, tokenizer.token_to_id(token)) for token in tokens))
    _replace(model, names[id(embedding)], learned)
    if head.weight is embedding.weight:
        _replace(model, names[id(head)], LearnedHead(head, embedding=learned))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
