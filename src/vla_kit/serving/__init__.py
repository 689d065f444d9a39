"""A policy as a service: what clients send becomes observations, and many clients share the policy's batches."""

from vla_kit.serving.batcher import Answer, Batcher
from vla_kit.serving.observation_keys import ObservationKeys, ObservationReader
from vla_kit.serving.served_policy import ServedPolicy, state_sizes

__all__ = ["Answer", "Batcher", "ObservationKeys", "ObservationReader", "ServedPolicy", "state_sizes"]
