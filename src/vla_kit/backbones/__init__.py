"""Backbones: observations in, context tokens out.

Every file here needs a heavy library, so nothing is re-exported; name a backbone in full, as in
`vla_kit.backbones.tiny.tiny_qwen3_vl`.
"""

__all__: list[str] = []
