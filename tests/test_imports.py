"""The light layers stay light: they load neither transformers nor lightning nor any other heavy library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "vla_kit"
LIGHT = ["__init__", "errors", "shapes", "protocols", "actions", "flow", "embodiment", "heads", "losses"]
FOLDERS = ["backbones", "data", "metrics", "envs", "policy", "training", "evaluation", "serving"]
ALLOWED = {"einops", "jaxtyping", "numpy", "roma", "torch", "vla_kit"}
SIMULATORS = ["dm_control", "glfw", "gym_aloha", "gymnasium", "libero", "metaworld", "mujoco", "robosuite"]
HEAVY = [
    *SIMULATORS,
    *("accelerate", "av", "datasets", "huggingface_hub", "jsonargparse", "lightning", "matplotlib", "pandas", "peft"),
    *("PIL", "pyarrow", "pytorch_lightning", "rich", "safetensors", "scipy", "timm", "tokenizers", "torchmetrics"),
    *("torchvision", "transformers", "msgpack", "prometheus_client", "websockets"),
]

PROGRAM = """
import importlib, sys
sys.path.insert(0, {source!r})
sys.modules.update(dict.fromkeys({blocked!r}))  # importing a name that is None raises ImportError
import torch
for name in {modules!r}:
    for loaded in [key for key in sys.modules if key.split(".")[0] == "vla_kit"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"import {{name}} fails where heavy libraries are missing: {{error}}")
"""


def _files(names: list[str]) -> list[Path]:
    roots = [PACKAGE / name if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py" for name in names]
    return [file for root in roots for file in (sorted(root.rglob("*.py")) if root.is_dir() else [root])]


def _module(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _import_without(blocked: list[str], modules: list[str]) -> None:
    program = PROGRAM.format(source=str(SOURCE), blocked=blocked, modules=modules)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_light_module_imports_alone_and_without_heavy_libraries():
    modules = [_module(file) for file in _files(LIGHT)]
    assert "vla_kit.actions.masked" in modules
    _import_without(HEAVY, modules)


def test_every_folder_imports_without_transformers_lightning_and_simulators():
    """What a folder re-exports is light; heavy files are named in full by their users."""
    present = [name for name in FOLDERS if (PACKAGE / name).is_dir()]
    _import_without(
        [*SIMULATORS, "lightning", "timm", "torchmetrics", "transformers"], [f"vla_kit.{x}" for x in present]
    )


@pytest.mark.parametrize("file", _files(LIGHT), ids=_module)
def test_light_modules_name_only_allowed_libraries(file: Path):
    """Also where the import stands inside a function and would not run at import time."""
    named = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named.add((node.module or "").split(".")[0])
    assert named - set(sys.stdlib_module_names) <= ALLOWED


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=_module)
def test_packages_only_re_export(file: Path):
    """A package's `__init__` has a docstring, imports and `__all__`, and does nothing else."""
    docstring, *body = ast.parse(file.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr), "a package needs a docstring"
    names = {"__all__", "__version__"}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        assigned = {getattr(target, "id", "") for target in targets} <= names
        assert isinstance(node, ast.ImportFrom) or assigned, f"line {node.lineno} must be an import or __all__"


def test_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
