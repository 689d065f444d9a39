"""Fine-grained captions: a schema, annotators, stages, review and use. The verbs are in files of their own."""

from vla_kit.data.captions.annotate import CaptionStages
from vla_kit.data.captions.annotator import Annotator, AnnotatorAnswer, AnnotatorMessage
from vla_kit.data.captions.ask import ask
from vla_kit.data.captions.begun_captions import BegunCaptions
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_mix import CaptionMix, MixedInstructions
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.caption_reviews import CaptionReview, CaptionReviews, usable_captions
from vla_kit.data.captions.fine_caption import DIMENSIONS, CaptionDimensions, CaptionStep, FineCaption
from vla_kit.data.captions.looking import FrameChoice
from vla_kit.data.captions.motion_selection import MotionSelection
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.prompt_folder import PROMPT_FIELDS, PromptFolder
from vla_kit.data.captions.usage import AnnotationUsage, TokenPrices

__all__ = [
    "DIMENSIONS",
    "PROMPT_FIELDS",
    "AnnotationUsage",
    "Annotator",
    "AnnotatorAnswer",
    "AnnotatorMessage",
    "BegunCaptions",
    "CaptionDimensions",
    "CaptionLog",
    "CaptionMix",
    "CaptionOutline",
    "CaptionRecord",
    "CaptionReview",
    "CaptionReviews",
    "CaptionStages",
    "CaptionStep",
    "FineCaption",
    "FrameChoice",
    "MixedInstructions",
    "MotionSelection",
    "PromptFolder",
    "TokenPrices",
    "ask",
    "usable_captions",
]
