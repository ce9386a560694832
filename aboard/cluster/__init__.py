"""The miniature supercomputer: a real Slurm of several nodes on one machine, without root.

    shape.py     what the cluster is: nodes, cores, GPUs, partitions, limits; the default one, or a site's
    conf.py      shape → slurm.conf, gres.conf, job_submit.lua
    means.py     what this machine can do: which programs it has, and whether it grants namespaces
    links.py     nodes' interfaces, their rates, cuts
    keeper.py    process 1 of the cluster: sets everything up, obeys orders, and takes everything with it when it ends
    outside.py   `Cluster`: up, run commands in it, faults, down
    processes.py its processes, as they are seen from outside
    patience.py  how long to wait for a job where the machine is busy
    records.py   what Slurm knows of jobs and nodes, as tables
    commands.py  `aboard cluster`

Each node is a network and a host name of its own; files are everybody's, as on a parallel file system. All of it lives
in namespaces of one keeper process. When that ends, however it ends, the kernel ends all the rest.
"""

from aboard.cluster.outside import Cluster

__all__ = ["Cluster"]
