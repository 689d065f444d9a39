"""The ablation of the embodiment prompt: what a policy reads when nobody tells it which robot it drives."""

from jaxtyping import Float
from torch import Tensor

from vla_kit.embodiment import EmbodimentPrompter


class InstructionAlone(EmbodimentPrompter):
    """Knows the robots as `EmbodimentPrompter` does, for their action spaces, but writes the instruction only."""

    def __call__(
        self,
        embodiment: str,
        instruction: str,
        chunk_size: int | None = None,
        *,
        state: Float[Tensor, " size"] | None = None,
    ) -> str:
        """Repeat the instruction; robot, rate and length stay unsaid."""
        self.spec(embodiment)
        return instruction
