"""The verb `vla-kit data caption`."""

import math
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock

from rich.console import Console

from vla_kit.data.captions._spending import Spending
from vla_kit.data.captions.annotate import CaptionStages
from vla_kit.data.captions.annotator import Annotator
from vla_kit.data.captions.begun_captions import BegunCaptions
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.looking import FrameChoice
from vla_kit.data.captions.motion_selection import MotionSelection
from vla_kit.data.captions.prompt_folder import PromptFolder
from vla_kit.data.captions.usage import AnnotationUsage, TokenPrices
from vla_kit.data.cleaning.column_roles import find_roles
from vla_kit.data.cleaning.decisions import Decisions
from vla_kit.data.readers.open import open_source
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["caption", "write_prompt_folder"]


def caption(
    root: str,
    annotator: Annotator | None = None,
    output: str | None = None,
    prompts: str | None = None,
    camera: str | None = None,
    other_cameras: list[str] | None = None,
    episodes: list[int] | None = None,
    decisions: str | None = None,
    selection: MotionSelection | None = None,
    frames: FrameChoice | None = None,
    rate_hz: float | None = None,
    attempts: int = 3,
    parallel: int = 4,
    prices: TokenPrices | None = None,
) -> CaptionLog:
    """Write fine-grained captions of the episodes of a data set.

    Nothing in the data set is changed. A folder is written: `captions.jsonl`, a line per episode with its caption and
    where it comes from, and `captions.json`, of what data set and by what settings. The same command again goes on
    where an earlier one was stopped, however it was.

    Args:
        root: Folder, file or hub id of a data set in any format that vla-kit reads.
        annotator: The model that looks, such as `vla_kit.data.captions.openai_annotator.OpenAIAnnotator`.
        output: Folder of captions; `captions/<name of the data set>` in the working directory where None.
        prompts: Folder with prompts of your own, see `vla-kit data prompts`.
        camera: Key of the camera that is described; the first where None.
        other_cameras: Keys of cameras for the third pass; all the others where None, and `[]` for none.
        episodes: Numbers of the episodes to caption; all where None.
        decisions: File of `vla-kit data clean`, whose dropped episodes are left out.
        selection: Which episodes of each task to keep, such as `{share: 0.05, gripper: [6]}`; all where None.
        frames: How densely and how large episodes are seen.
        rate_hz: Frames per second, where the data set does not know them or knows them wrongly.
        attempts: Answers at most per stage: an answer that cannot be used is asked for again, with what is wrong.
        parallel: Episodes at a time.
        prices: What a million tokens cost, such as `{input: 0.4, output: 1.2}`, to show what is spent.

    Returns:
        The folder with all its captions.

    Raises:
        SettingError: If there is no annotator, a setting is out of range, the rate is unknown, or `output` holds
            captions of other settings.
        AnnotatorError: If the model cannot be asked. What was captioned before is kept.
        DataError: If the data set cannot be opened, or some episodes could not be captioned, which the text names; the
            others are.
    """
    if annotator is None:
        raise SettingError(
            "annotator must be given, got none. Such as --annotator "
            "vla_kit.data.captions.openai_annotator.OpenAIAnnotator --annotator.model NAME --annotator.base_url URL."
        )
    if parallel < 1:
        raise SettingError(f"parallel must be at least 1, got {parallel}. Give the episodes at a time.")
    source, frames = open_source(root), frames or FrameChoice()
    rate = source.rate_hz if rate_hz is None else rate_hz
    if rate is None or not 0 < rate < math.inf:
        raise SettingError(f"rate_hz must be given for {source.location}, got {rate}. Give frames per second.")
    cameras = list(source.cameras)
    if not cameras:
        raise DataError(f"{source.location} must have a camera to write captions from, got none. Choose another set.")
    main = cameras[0] if camera is None else camera
    others = [key for key in cameras if key != main] if other_cameras is None else list(other_cameras)
    folder = Path(output) if output is not None else Path("captions") / re.sub(r"[^\w.-]+", "_", source.name)
    begun = BegunCaptions(folder / "begun")
    stages = CaptionStages(
        source=source,
        annotator=annotator,
        prompts=PromptFolder(prompts),
        camera=main,
        other_cameras=tuple(others),
        recorded_hz=rate,
        frames=frames,
        attempts=attempts,
        begun=begun,
        reading=Lock(),
    )
    log = CaptionLog.begin(folder, source, stages.settings())
    chosen = _chosen(source, episodes, decisions)
    if selection is not None:
        chosen = selection.choose(source, chosen, columns=find_roles(source).action)
    todo = [index for index in chosen if index not in log.records]
    failed: dict[int, str] = {}
    with Spending(f"Captioning {source.name}", total=len(todo), prices=prices) as spending:
        for index, done in _in_threads(stages, todo, parallel):
            if isinstance(done, CaptionRecord):
                log.append(done)
                spending.add(done.usage)
            else:
                failed[index] = str(done)
                spending.add(AnnotationUsage())
            begun.forget(index)  # a failed episode is looked at anew
    captioned = sum(index in log.records for index in chosen)
    Console().print(
        f"{captioned} of {len(chosen)} episodes have captions. This run: {spending}. Captions: {folder}. "
        f"Next: vla-kit data review {folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if failed:
        index, why = next(iter(sorted(failed.items())))
        raise DataError(
            f"{len(failed)} of {len(chosen)} episodes could not be captioned: {sorted(failed)[:8]}. Episode {index}: "
            f"{why} Run the same command again to try them once more."
        )
    return log


def write_prompt_folder(folder: str) -> None:
    """Write the prompts of captions and judges into a folder, for editing.

    Args:
        folder: Folder; it is made. Files that are there are not overwritten.
    """
    PromptFolder().write(folder)


def _chosen(source: EpisodeSource, episodes: Sequence[int] | None, decisions: str | None) -> list[int]:
    lengths = source.lengths
    chosen = range(len(lengths)) if episodes is None else sorted(set(episodes))
    if outside := [index for index in chosen if not 0 <= index < len(lengths)]:
        raise SettingError(
            f"episodes must lie in [0, {len(lengths)}) of {source.location}, got {outside[0]}. Choose them there."
        )
    dropped: frozenset[int] = frozenset()
    if decisions is not None:
        decided = Decisions.read(decisions)
        decided.check(source)
        dropped = decided.dropped
    return [index for index in chosen if lengths[index] and index not in dropped]


def _in_threads(
    stages: CaptionStages, episodes: Sequence[int], parallel: int
) -> Iterator[tuple[int, CaptionRecord | DataError | OSError]]:
    """Episodes with their captions, or with what is wrong with them, as they are ready.

    A few are begun ahead, so that an error which concerns all of them stops the rest.
    """
    waiting = iter(episodes)
    with ThreadPoolExecutor(parallel) as pool:
        running: dict[Future[CaptionRecord], int] = {}
        try:
            while True:
                for index in waiting:
                    running[pool.submit(stages.caption, index)] = index
                    if len(running) >= parallel:
                        break
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(done)
                    try:
                        result: CaptionRecord | DataError | OSError = done.result()
                    except (DataError, OSError) as error:
                        result = error
                    yield index, result
        finally:
            for future in running:
                future.cancel()
