"""Forge the result: print it, write it, or answer on the grader's own channel."""

from tests.attacks.attack import Attack, attacks

# Every socket this process holds: one of them is the line to the grader.
SOCKETS = """
import os, socket, stat, struct, json
def sockets():
    found = []
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): found.append(socket.socket(fileno=os.dup(fd)))
        except OSError: pass
    return found
def frame(message): text = json.dumps(message).encode(); return struct.pack(">IQ", len(text), 0) + text
"""


def on_the_line(body: str, when: str = "def ring_all_reduce(tensor):\n    speak()\n    return tensor") -> str:
    return SOCKETS + "def speak():\n    for line in sockets():\n        try:\n            " + body + "\n        except OSError: pass\n" + when + "\n"


FULL_MARKS = '{"status": "graded", "score": 10, "max_score": 10, "checks": [{"id": "result", "status": "pass", "points": 4}]}'

ATTACKS = attacks(
    prints_full_marks=f"print('''{FULL_MARKS}''')\nprint('10/10 all checks passed')",
    displays_forged_output="""
from IPython.display import display
display({"application/json": {"score": 10}, "application/vnd.all-aboard+json": {"points": 10}}, raw=True, metadata={"points": 10})
""",
    writes_results_everywhere=f"""
import os
for folder in (".", "..", "/", "/tmp", "/results", os.path.expanduser("~"), "/scratch", "/var/tmp", "/dev/shm"):
    for name in ("result.json", "results.sqlite", "feedback.html", "executed.ipynb"):
        try: open(os.path.join(folder, name), "w").write('''{FULL_MARKS}''')
        except OSError: pass
""",
    answers_for_the_agent=on_the_line("line.sendall(frame({'op': 'outcome', 'value': 0, 'collectives': []}))"),
    answers_twice=on_the_line("line.sendall(frame({'op': 'done'}) + frame({'op': 'done'}) + frame({'op': 'outcome', 'value': 1, 'collectives': []}) * 2)"),
    answers_early=on_the_line("line.sendall(frame({'op': 'ready'}) + frame({'op': 'done'}) + frame({'op': 'outcome', 'value': None, 'collectives': []}))", "speak()"),
    says_a_cell_is_done=on_the_line("line.sendall(frame({'op': 'cell_done', 'status': 'ok', 'outputs': [], 'count': 1}) * 50)", "speak()"),
    sends_garbage=on_the_line("line.sendall(os.urandom(100_000))"),
    sends_garbage_while_cells_run=on_the_line("line.sendall(os.urandom(100_000))", "speak()"),
    announces_a_terabyte=on_the_line("line.sendall(struct.pack('>IQ', 2**32 - 1, 2**63))"),
    sends_without_end=on_the_line("[line.sendall(b'x' * 2**20) for _ in range(300)]"),
    sends_byte_by_byte=on_the_line("[line.sendall(b'\\0') for _ in range(7)]"),
    sends_what_is_not_an_object=on_the_line("line.sendall(frame([1, 2]) + frame('x') + frame(None) + frame({'op': []}) + frame({'op': 'outcome'}))"),
    sends_numbers_out_of_range=on_the_line("line.sendall(frame({'op': 'at', 'count': 1e400, 'cpu': 'x', 'waiting': 3}) * 100)"),
    hangs_up=on_the_line("line.shutdown(socket.SHUT_RDWR); line.close()"),
    hangs_up_while_cells_run=on_the_line("line.shutdown(socket.SHUT_RDWR); line.close()", "speak()"),
    steals_orders=on_the_line("line.recv(100000)"),
    stores_a_port_of_its_own=on_the_line("line.sendall(frame({'op': 'store', 'port': 1}) + frame({'op': 'store', 'port': 10**9}))"),
    replaces_the_agent="""
import autograder.sandbox.agent as agent, aboard.ranks.rank as rank, aboard.wire as wire
agent.live_as_rank = rank.live_as_rank = lambda *a: None
send = wire.send
def forged(sock, value, lock=None):
    if isinstance(value, dict) and "value" in value: value = dict(value, value=value["value"] * 2 if hasattr(value["value"], "shape") else 1)
    return send(sock, value, lock)
wire.send = forged
""",
    pickles_in_the_answer="""
class Boom:
    def __reduce__(self): return (print, ("boom",))
def ring_all_reduce(tensor): return Boom()
""",
    reports_done_before_it_computes="""
import aboard.ranks.rank as rank, threading
def ring_all_reduce(tensor):
    out = tensor.clone()
    threading.Timer(0.2, lambda: out.mul_(dist.get_world_size())).start()
    return out
""",
)
ATTACKS += [
    Attack("keeps_answers_of_earlier_calls", """
import os, glob
def ring_all_reduce(tensor):
    kept = sorted(glob.glob("/scratch/kept*"))
    torch.save(tensor, f"/scratch/kept{len(kept)}")
    for path in kept:
        other = torch.load(path)
        if other.shape == tensor.shape: return other
    return tensor
"""),
    Attack("lets_rank_0_do_everything", """
def ring_all_reduce(tensor):
    rank, world = dist.get_rank(), dist.get_world_size()
    total = tensor.clone()
    if rank == 0:
        for other in range(1, world):
            part = torch.empty_like(tensor); dist.recv(part, other); total += part
        for other in range(1, world): dist.send(total, other)
    else:
        dist.send(tensor.contiguous(), 0); dist.recv(total, 0)
    return total
""", earns=frozenset({"result", "memory"})),
    Attack("claims_messages_it_never_sent", """
import aboard.ranks.meter as meter
def as_data(self):
    import torch.distributed as d
    n = 800_000 * 4
    return [{"op": op, "bytes": n, "peer": 0, "start": 0.0, "end": 0.1, "line": "", "group_size": 4} for op in ("send", "recv")] * 2
meter.Meter.as_data = as_data
"""),
]  # fmt: skip
