"""A real Slurm on this machine: one controller and two nodes of one host.

`python tests/slurm_cluster.py FOLDER` starts one, prints the line that points commands at it, and keeps it
until it is interrupted.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
INSTALL = "apt-get install slurm-wlm munge"

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdTimeout={slurmd_timeout}
KillWait=20
MinJobAge=300
InactiveLimit=0
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """What is not installed here."""
    return [name for name in NEEDED if shutil.which(name) is None]


class Cluster:
    """Slurm in `folder` with nodes n1 and n2 of `cpus` each. Commands find it by `env`."""

    def __init__(self, folder: Path, cpus: int = 1, slurmd_timeout: int = 30) -> None:
        self.folder, self.nodes = folder, ("n1", "n2")
        ports = _free_ports(3)
        host = socket.gethostname().split(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=8000"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        text = CONF.format(
            host=host, port=ports[0], folder=folder, nodes="\n".join(lines), slurmd_timeout=slurmd_timeout
        )
        (folder / "slurm.conf").write_text(text)
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._pids: list[Path] = []

    def start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        names = {
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        places = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self.folder.chmod(0o755)
        self._run("munged", "--force", f"--key-file={key}", *places)
        self._run("slurmctld")
        for node in self.nodes:
            self.start_node(node)
        self._until(lambda: self.output("sinfo", "-h", "-o", "%T").split() == ["idle"], "idle nodes")

    def start_node(self, node: str) -> None:
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self._run("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """kill -9 of a node's slurmd; the jobs on it go on."""
        os.kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)

    def bring_back(self, node: str) -> None:
        """Starts a node that was set down; with ReturnToService=2 it is up again once it has registered."""
        self.start_node(node)
        self._until(
            lambda: self.output("sinfo", "-h", "-n", node, "-o", "%T").strip() in ("idle", "allocated"),
            f"node {node} that is up again",
        )

    def output(self, *command: str) -> str:
        done = subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True, check=True)
        return done.stdout

    def clear(self) -> None:
        """Ends the jobs that are left, with processes that do not answer."""
        if self.output("squeue", "-h"):
            self.output("scancel", "--user=root")
            self._until(lambda: not self.output("squeue", "-h"), "empty queue")

    def stop(self) -> None:
        subprocess.run(
            ["scancel", "--user=root"], env=os.environ | self.env, check=False, capture_output=True
        )
        time.sleep(1)
        for path in [
            *self.folder.glob("slurmd.*.pid"),
            self.folder / "slurmctld.pid",
            self.folder / "munge.pid",
        ]:
            try:
                os.kill(int(path.read_text()), signal.SIGKILL)
            except (OSError, ValueError):
                continue

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, env=os.environ | self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _until(self, reached, what: str) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if reached():
                    return
            except subprocess.CalledProcessError:
                pass
            time.sleep(0.3)
        logs = "".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
        raise TimeoutError(f"no {what} after a minute:\n{logs}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


if __name__ == "__main__":
    if missing():
        sys.exit(f"{', '.join(missing())}: not installed. {INSTALL}")
    cluster = Cluster(Path(sys.argv[1]).absolute())
    cluster.start()
    print(f"export SLURM_CONF={cluster.env['SLURM_CONF']}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        cluster.stop()
