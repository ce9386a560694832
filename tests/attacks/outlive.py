"""Outlive or outgrow: processes, memory, disk, output, time."""

from tests.attacks.attack import Attack, attacks


def when_called(body: str) -> str:
    return "def ring_all_reduce(tensor):\n    " + body.replace("\n", "\n    ") + "\n    return tensor\n"


ATTACKS = attacks(
    a_daemon="""
import os
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    import time
    while True: time.sleep(1)
""",
    a_daemon_when_called=when_called("import os, time\nif os.fork() == 0:\n    os.setsid()\n    while True: time.sleep(1)"),
    a_daemon_that_ignores_signals="""
import os, signal
if os.fork() == 0:
    for n in range(1, 65):
        try: signal.signal(n, signal.SIG_IGN)
        except (OSError, ValueError): pass
    while True: pass
""",
    a_daemon_thread="import threading, time\nthreading.Thread(target=lambda: time.sleep(10**6)).start()",
    a_subprocess_in_a_new_session="import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)",
    a_fork_bomb="import os\nwhile True:\n    try: os.fork()\n    except OSError: break\n",
    a_thread_bomb="""
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    except RuntimeError: break
""",
    memory_without_end="x = []\nwhile True: x.append(bytearray(50_000_000))",
    memory_without_end_when_called=when_called("x = []\nwhile True: x.append(torch.ones(10_000_000))"),
    memory_at_once="x = bytearray(10**13)",
    disk_without_end="""
i = 0
while True:
    open(f"/scratch/f{i}", "wb").write(bytes(20_000_000)); i += 1
""",
    shared_memory_without_end="""
i = 0
while True:
    open(f"/dev/shm/f{i}", "wb").write(bytes(20_000_000)); i += 1
""",
    files_without_end="i = 0\nwhile True:\n    open(f'/scratch/f{i}', 'w').close(); i += 1",
    folders_without_bottom="import os\nfor i in range(100_000):\n    os.mkdir('d'); os.chdir('d')",
    output_without_end="while True: print('x' * 10_000)",
    output_of_small_pieces="import sys\nfor i in range(300_000): sys.stdout.write('x')",
    output_below_python="import os\nwhile True: os.write(1, b'x' * 65536)",
    displays_without_end="from IPython.display import display, HTML\nfor i in range(20_000): display(HTML('<b>x</b>' * 100))",
    an_error_of_a_hundred_megabytes="raise ValueError('x' * 100_000_000)",
    a_traceback_without_end="def f(n):\n    try: raise ValueError(n)\n    except ValueError as e:\n        if n: f(n - 1)\n        raise\nf(300)",
    descriptors_without_end="import os\nx = []\nwhile True: x.append(os.open('/dev/null', 0))",
    a_result_of_a_gigabyte=when_called("return torch.ones(300_000_000)"),
    many_results=when_called("return [tensor] * 300_000"),
    holds_the_interpreter=when_called("sum(range(10**11))"),
)
SLOW = [
    ("a_loop_without_end", "while True: pass"),
    ("a_loop_that_ignores_interrupts", "while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
    ("an_import_that_never_ends", "import time\ntime.sleep(10**6)"),
    ("a_call_that_never_ends", when_called("while True: pass")),
    ("a_sleep_when_called", when_called("import time\ntime.sleep(10**6)")),
    ("only_one_rank_never_ends", when_called("while dist.get_rank() == 1: pass\ndist.barrier()")),
]
ATTACKS += [Attack(name, code, wall_s=4.0) for name, code in SLOW]
