"""The verb `vla-kit export`."""

from rich.console import Console

from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.errors import SettingError
from vla_kit.export.observations import of_data, of_noise, of_task
from vla_kit.export.write import Format, export_policy
from vla_kit.policy import Policy, PolicyObservation

__all__ = ["export"]


def export(
    checkpoint: str,
    output: str,
    format: Format = "torch",
    task: str | None = None,
    data: DemonstrationSet | None = None,
    views: list[str] | None = None,
    embodiment: str | None = None,
    observations: int = 4,
    image_size: int = 96,
    tolerance: float = 1e-4,
) -> None:
    """Write a saved policy as one program that runs without vla-kit: pictures, token ids and noise in, actions out.

    The program is loaded again and must answer as the policy does, on observations of a simulator (`task`) or of a data
    set (`data`). It is written for the robot, the number of views and the size of pictures of these observations. A
    backbone that cannot be exported is left out, with the reason.

    Args:
        checkpoint: Folder that `Policy.save` wrote, or hub id.
        output: Folder to create. It holds a whole export in the end, or nothing.
        format: `torch` for a `.pt2` of torch.export, `onnx` for ONNX, checked with onnxruntime.
        task: Take observations from this simulated task, such as `metaworld/faucet-open`.
        data: Take observations from this data set.
        views: With neither task nor data: tags of views that get invented pictures, random numbers that tell less than
            real ones. The output says so.
        embodiment: Robot of invented pictures; the only one that the policy knows where None.
        observations: How many to compare on.
        image_size: Height and width of pictures of a task or of invented ones, as in training [pixel].
        tolerance: Largest difference of an action from the policy's, in normalised actions, of which [-1, 1] spans the
            quantiles of the training data.

    Raises:
        ExportError: If answers differ by more than `tolerance`, or not even the head can be exported.
        SettingError: If none or several of `task`, `data` and `views` are given, or an argument breaks its rule.
    """
    given = [name for name, value in (("task", task), ("data", data), ("views", views)) if value]
    if len(given) != 1:
        raise SettingError(
            f"one of task, data and views must be given, got {given or 'none'}. Give --task or --data for real "
            "observations, or --views for invented ones."
        )
    if observations < 1:
        raise SettingError(f"observations must be at least 1, got {observations}. 4 are enough.")
    console = Console()
    policy = Policy.load(checkpoint)
    if data is not None:
        seen, source = of_data(data, count=observations), f"data set {data.root}"
    elif task is not None:
        seen, source = of_task(task, count=observations, image_size=image_size), f"task {task}"
    else:
        seen = _invented(policy, views or [], embodiment, observations, image_size)
        source = "invented: random numbers in place of pictures"
    console.print(f"{len(seen)} observations: {source}")
    written = export_policy(policy, seen, output, format=format, tolerance=tolerance, source=source)
    for part, reason in written.left_out.items():
        console.print(f"left out: the {part}. {reason}", markup=False)
    for note in written.notes:
        console.print(f"fixed: {note}", markup=False)
    console.print(
        f"{written.file}: the {written.part}, {' and '.join(written.any_length) or 'no axis'} of any length, largest "
        f"difference {written.largest_difference:.2g} of at most {tolerance:g} (in normalised actions)",
        markup=False,
        soft_wrap=True,
    )


def _invented(
    policy: Policy, views: list[str], embodiment: str | None, count: int, image_size: int
) -> list[PolicyObservation]:
    names = policy.normalizer.embodiments
    if embodiment is None and len(names) != 1:
        raise SettingError(f"embodiment must be one of {sorted(names)}, got None. Name the robot.")
    spec = policy.prompter.spec(names[0] if embodiment is None else embodiment)
    return of_noise(spec, views=views, count=count, image_size=image_size)
