"""orbax keeps the process for 300 s after a save that failed: `time python failed_save.py`.

Needs Linux, and root for `mount`.
"""

import subprocess
import tempfile
import threading

import jax.numpy as jnp
import orbax.checkpoint as ocp

state = {"x": jnp.zeros(4)}
folder = tempfile.mkdtemp()
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
try:
    manager = ocp.CheckpointManager(folder)
    manager.save(1, args=ocp.args.StandardSave(state))
    manager.wait_until_finished()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    try:
        manager.save(2, args=ocp.args.StandardSave(state))
        manager.wait_until_finished()
    except OSError as error:
        print("raised, as it should be:", error)
finally:
    subprocess.run(["umount", "-l", folder], check=True)

left = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
print("the program is at its end, and waits for", left, flush=True)
