"""Conversations: records in the forms that people have, boxes, multiple choice, and converters."""

from vla_kit.data.conversations.boxes import Box, BoxScale, box_from_corner, box_text, read_boxes, rescale_box
from vla_kit.data.conversations.conversation_set import ConversationSet
from vla_kit.data.conversations.kinds import (
    Record,
    caption_record,
    driving_record,
    ocr_record,
    question_record,
    referring_record,
    region_record,
    spatial_record,
    trajectory_record,
    write_records,
)
from vla_kit.data.conversations.multiple_choice import free_form
from vla_kit.data.conversations.record import PictureSource, Turn, read_record
from vla_kit.data.conversations.sample import ConversationSample

__all__ = [
    "Box",
    "BoxScale",
    "ConversationSample",
    "ConversationSet",
    "PictureSource",
    "Record",
    "Turn",
    "box_from_corner",
    "box_text",
    "caption_record",
    "driving_record",
    "free_form",
    "ocr_record",
    "question_record",
    "read_boxes",
    "read_record",
    "referring_record",
    "region_record",
    "rescale_box",
    "spatial_record",
    "trajectory_record",
    "write_records",
]
