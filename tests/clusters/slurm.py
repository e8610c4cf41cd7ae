"""A Slurm cluster of two nodes on this machine, as any user: no root, no change of the system.

Needs slurmctld, slurmd and munged (on Debian and Ubuntu, apt-get install slurm-wlm).
"""

import contextlib
import os
import pathlib
import random
import re
import socket
import subprocess
import time
from collections.abc import Iterator

NODES = ("node1", "node2")
# One line per node would need host names of their own.
_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=30
ReturnToService=2
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{second}] CPUs={cpus}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "TIMEOUT"}


class Slurm:
    """Submits jobs to the cluster and waits for them."""

    def __init__(self, folder: pathlib.Path, env: dict[str, str]):
        self._folder = folder
        self._env = env

    def submit(self, script: str, *options: str, cwd: pathlib.Path) -> str:
        """Starts `script` with further options of sbatch; returns the number of the job."""
        path = self._folder / f"{random.randrange(10**9)}.sh"
        path.write_text(script)
        log = f"--output={self._folder}/job-%A.%a.log"
        out = self._call("sbatch", "--parsable", log, "--open-mode=append", *options, path, cwd=cwd)
        return out.strip()

    def wait(self, job: str, *states: str, timeout: float = 600) -> dict[str, str]:
        """Waits until a job has ended, or is in one of `states`; returns what Slurm knows of it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            facts = self.facts(job)
            if facts["JobState"] in (states or _ENDED):
                return facts
            time.sleep(0.5)
        raise AssertionError(f"job {job} is {self.facts(job)['JobState']}:\n{self.log(job)}")

    def facts(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        return dict(re.findall(r"(\w+)=(\S*)", self._call("scontrol", "show", "job", job)))

    def cancel(self, job: str, *options: str) -> None:
        """`scancel`."""
        self._call("scancel", *options, job)

    def log(self, job: str) -> str:
        """What the job printed, over all its starts."""
        return "".join(p.read_text() for p in sorted(self._folder.glob(f"job-{job}.*.log")))

    def _call(self, *command: object, cwd: pathlib.Path | None = None) -> str:
        done = subprocess.run(
            list(map(str, command)), env=self._env, cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def cluster(folder: pathlib.Path) -> Iterator[Slurm]:
    """Starts the daemons, and ends them."""
    first = random.randrange(20_000, 40_000)
    conf = folder / "slurm.conf"
    conf.write_text(
        _CONF.format(
            host=socket.gethostname().split(".")[0],
            user=os.environ.get("USER", "root"),
            folder=folder,
            port=first,
            first=first + 1,
            second=first + 2,
            cpus=os.cpu_count(),
        )
    )
    folder.chmod(0o755)  # munged wants its socket to be within everybody's reach
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(random.randbytes(128))
    key.chmod(0o600)
    env = os.environ | {
        "SLURM_CONF": str(conf),
        "JAX_NUM_CPU_DEVICES": "1",
        # The names of the nodes are not known to the system.
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{first + 3}",
    }
    paths = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    daemons = [["munged", "-F", f"--socket={folder}/munge.socket", *paths], ["slurmctld", "-D"]]
    for name in NODES:
        (folder / "spool" / name).mkdir(parents=True)
        daemons.append(["slurmd", "-D", "-N", name])
    sbin = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    with contextlib.ExitStack() as stack:
        for command in daemons:
            with (folder / f"{command[0]}.out").open("a") as out:
                daemon = subprocess.Popen(
                    command, env=env | {"PATH": sbin}, stdout=out, stderr=subprocess.STDOUT
                )
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            time.sleep(1)
        yield Slurm(folder, env)
