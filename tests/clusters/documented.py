"""The commands of docs/scaling.md, made small enough for two nodes of CPUs."""

import pathlib
import re
import sys
import time

from tests import runs

ROOT = pathlib.Path(__file__).parents[2]
_SMALLER = {
    r"--nodes=4": "--nodes=2",
    r"--ntasks-per-node=8": "--ntasks-per-node=1",
    r"--cpus-per-task=8": "--cpus-per-task=1",
    r"#SBATCH --gres=gpu:8\n": "",
    r"#SBATCH --signal=.*\n": "",
    r" --gpu-bind=none": "",
    r"mpirun -np 16": "mpirun -np 2",
    r"python main.py": f"{sys.executable} main.py",
    r"--config.data.dir=\S+ ": "",
}


def command(begins: str, workdir: pathlib.Path, *overrides: str) -> str:
    """The block of bash that begins so, for a run of digits in `workdir`."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    (text,) = (block for block in blocks if block.startswith(begins))
    fields = " ".join(f"--config.{override}" for override in overrides)
    own = {
        r"--config=\S+": f"--config=configs/digits.py:vasso {fields}",
        r"--workdir=\S+": f"--workdir={workdir}",
    }
    for pattern, replacement in (_SMALLER | own).items():
        text = re.sub(pattern, replacement, text)
    return text


def until_saved(workdir: pathlib.Path, steps: int) -> None:
    """Waits until a run has saved that many steps."""
    end = time.monotonic() + 300
    while not any(step >= steps for step in runs.steps_saved(workdir)):
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.2)
