"""Leave early: end the notebook, its process, its parent or everything, and hope that silence is a pass."""

from tests.attacks.attack import Attack, attacks


def when_called(line: str) -> str:
    return f"def ring_all_reduce(tensor):\n    import os, sys, signal, ctypes, threading\n    {line}\n    return tensor\n"


ATTACKS = attacks(
    exits="import sys\nsys.exit(0)",
    exits_hard="import os\nos._exit(0)",
    exits_when_called=when_called("sys.exit(0)"),
    exits_hard_when_called=when_called("os._exit(0)"),
    exits_in_a_thread="import threading\nthreading.Thread(target=lambda: exec('raise SystemExit(0)')).start()",
    raises_an_interrupt=when_called("raise KeyboardInterrupt"),
    raises_an_exit_without_text="class Silent(BaseException):\n    def __str__(self): raise self\ndef ring_all_reduce(tensor): raise Silent",
    kills_its_parent="import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    kills_its_parent_when_called=when_called("os.kill(os.getppid(), 9)"),
    kills_everybody=when_called("os.kill(-1, 9)"),
    kills_process_1="import os\nfor n in (9, 15, 2, 1, 19):\n    try: os.kill(1, n)\n    except OSError: pass",
    becomes_another_program=when_called("os.execv('/bin/true', ['true'])"),
    becomes_another_program_in_a_cell="import os\nos.execv('/bin/true', ['true'])",
    stops_itself=when_called("os.kill(os.getpid(), signal.SIGSTOP)"),
    aborts=when_called("os.abort()"),
    reads_address_zero=when_called("ctypes.string_at(0)"),
    overflows_the_stack="import sys\nsys.setrecursionlimit(10**9)\ndef ring_all_reduce(tensor): return ring_all_reduce(tensor)",
    quits="quit()\nexit()",
    answers_at_exit="import atexit, os\natexit.register(lambda: print('score: 10'))\nos.kill(os.getpid(), 15)",
    raises_system_exit_from_an_import_hook="""
import sys
class Hook:
    def find_spec(self, *a, **k): raise SystemExit(0)
sys.meta_path.insert(0, Hook())
""",
)
ATTACKS += [Attack("the_first_rank_leaves", when_called("dist.get_rank() or os._exit(0); dist.barrier()"))]
