"""Two optimiser steps on batches of which each lacks something, on one process or on two; a script.

Arguments: strategy (`alone`, `ddp` or `fsdp`) and the file for the weights. One process takes two batches per step,
which two processes take as one batch each.
"""

import sys

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, Dataset

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.data import Collate, Sample
from vla_kit.data.conversations import ConversationSample
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.flow import Euler, UniformTime
from vla_kit.heads import DiTHead
from vla_kit.losses import FlowMatchingLoss, JointLoss
from vla_kit.protocols import Conversation, Message, Picture
from vla_kit.training.sharding import ShardedStrategy
from vla_kit.training.vla_module import VLAModule

STEPS = [("robots", "words"), ("silent", "both"), ("pictures", "robots")]


class FixedNoise(FlowMatchingLoss):
    """The same noise for every batch, whoever trains."""

    def __call__(self, field, actions, context, *, generator=None):
        return super().__call__(field, actions, context, generator=torch.Generator().manual_seed(0))


def image(seed):
    return torch.randint(256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def robot(seed):
    actions = torch.rand(4, 2, generator=torch.Generator().manual_seed(seed))
    return Sample(
        embodiment="arm",
        instruction="push the block",
        views={"cam": image(seed)},
        actions=actions,
        valid=torch.ones(4, dtype=torch.bool),
        dataset="arm",
        episode=0,
        frame=seed,
    )


def talk(*asked, said="a block"):
    messages = [Message(role="user", content=asked)]
    messages += [Message(role="assistant", content=(said,))] if said else []
    return ConversationSample(conversation=Conversation(messages=tuple(messages)), dataset="talk", index=0)


BATCHES = {
    "robots": [robot(0), robot(1)],
    "words": [talk("what is it?"), talk("and that, over there?", said="a cup")],
    "silent": [talk("hello", said="")],
    "pictures": [talk(Picture(pixels=image(2)), "what is it?")],
    "both": [talk(Picture(pixels=image(3)), "what is it?"), robot(4)],
}


class Batches(Dataset):
    def __init__(self, collate, rank, world_size):
        names = [name for step in STEPS for name in (step if world_size == 1 else step[rank : rank + 1])]
        self.batches = [collate(BATCHES[name]) for name in names]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, item):
        return self.batches[item]


class Joint(VLAModule):
    """Reads its batches by rank."""

    def train_dataloader(self):
        def prepare(samples):
            return self.prepare(samples, with_labels=True)

        collate = Collate(prepare, prompter=self.prompter, channels=self.channels)
        return DataLoader(
            Batches(collate, self.trainer.global_rank, self.trainer.world_size), batch_size=None, sampler=None
        )


def untied(corpus):
    """A backbone whose language head has weights of its own, which a batch without language leaves alone."""
    backbone = tiny_qwen3_vl(
        corpus=corpus, view_tags=["cam"], image_size=32, hidden=32, vision_layers=2, text_layers=2, vocabulary_size=320
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone.model.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(320, 32))
    return backbone


def main(strategy, place):
    torch.manual_seed(0)
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)])
    arm = EmbodimentSpec("arm", robot_tag="Arm", rate_hz=10, chunk_size=4, action_space=space, arms="single")
    normalizer = QuantileNormalizer()
    normalizer.add("arm", QuantileStats(q01=torch.zeros(2), q99=torch.ones(2)), space)
    module = Joint(
        backbone=untied(["push the block"]),
        head=DiTHead(context_width=32, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=16),
        prompter=EmbodimentPrompter([arm]),
        normalizer=normalizer,
        flow_loss=FixedNoise(UniformTime(), draws=2),
        loss=JointLoss(action_weight=1.0, language_weight=0.5),
        solver=Euler(steps=2),
        backbone_learning_rate=1e-3,
        head_learning_rate=1e-3,
        backbone_warmup_steps=0,
        head_warmup_steps=0,
        final_learning_rate=1.0,
    )
    alone = strategy == "alone"
    strategies = {"alone": "auto", "ddp": DDPStrategy(find_unused_parameters=True), "fsdp": ShardedStrategy()}
    trainer = Trainer(
        accelerator="cpu",
        devices=1 if alone else 2,
        strategy=strategies[strategy],
        max_steps=len(STEPS),
        accumulate_grad_batches=2 if alone else 1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module)
    weights = {
        name: (entry.full_tensor() if hasattr(entry, "full_tensor") else entry).detach()
        for name, entry in module.named_parameters()
    }
    if trainer.is_global_zero:
        torch.save(weights, place)


if __name__ == "__main__":
    main(*sys.argv[1:])
