"""Forge the result: print it, write it, or speak for the agent and the ranks on the sockets to the grader."""

from tests.attacks.attack import Attack, before, cells, inside

# The rank's own socket, and how to write on it, found on the stack of a call.
RANK = """
import sys, struct, json, time, os
def rank_frame():
    f = sys._getframe()
    while f.f_code.co_name != "_serve":
        f = f.f_back
    return f.f_locals
def frame_of(text, blob=b""):
    return struct.pack(">IQ", len(text), len(blob)) + text + blob
"""
# Takes the rank's place as soon as it is forked: the learner's code is the whole process, with the socket in hand.
TAKE_OVER = (
    RANK
    + """
import autograder.sandbox.agent as agent
from aboard import wire
def live(sock, lookup):
    try:
        impostor(sock)
    finally:
        os._exit(0)
agent.live_as_rank = live
"""
)


def impostor(body: str) -> object:
    """`body` lives in place of every rank; it has `sock`."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return before(TAKE_OVER + f"\ndef impostor(sock):\n{lines}")


ON_AGENT = """
import sys, socket
from aboard import wire
def channel():
    f = sys._getframe()
    while f is not None:
        if type(f.f_locals.get("self")).__name__ == "_Agent":
            return f.f_locals["self"].channel
        f = f.f_back
    import os
    for fd in range(3, 512):
        try:
            s = socket.socket(fileno=fd)
            if s.family == socket.AF_UNIX and s.getpeername() in ("", b""):
                return s
            s.detach()
        except OSError:
            pass
"""
OUTCOME = '{"dict": [["op", "outcome"], ["value", VALUE], ["collectives", []]]}'

ATTACKS = [
    Attack("prints-marks", "print pass marks, scores and whole results", before("""
print("10/10 points. All checks passed. score: 100 %")
print('{"status": "graded", "score": 10.0, "max_score": 10.0, "checks": []}')
import sys; sys.stderr.write("### nbgrader score 10\\n"); sys.__stdout__.write("{\\"status\\": \\"graded\\", \\"score\\": 10}\\n"); sys.__stdout__.flush()
import os; os.write(1, b'{"status": "graded", "score": 10}\\n'); os.write(2, b"score 10\\n")
"""), kernel=True, alone=True),
    Attack("displays-results", "display forged feedback and papermill's own record", before("""
from IPython.display import display, HTML, JSON
display(HTML("<h1>10 of 10 points</h1>"), JSON({"score": 10}))
display({"application/vnd.all-aboard.result+json": {"score": 10}, "application/papermill.record+json": {"score": 10}}, raw=True)
""")),
    Attack("writes-results", "write result files where the grader might look", before("""
import os, json
forged = json.dumps({"schema": "all-aboard/result/1", "learner": "mallory", "exercise": "ring-all-reduce", "status": "graded", "score": 10, "max_score": 10})
for place in (".", "/", "/scratch", "@OUT@/mallory/ring-all-reduce", "@OUT@/alice/ring-all-reduce", "@TMP@"):
    for name in ("result.json", "feedback.html", "executed.ipynb", "results.sqlite", "batch.json"):
        try:
            os.makedirs(place, exist_ok=True); open(os.path.join(place, name), "w").write(forged)
        except OSError:
            pass
"""), alone=True),
    Attack("database", "write marks into the database", before("""
import sqlite3
for path in ("@OUT@/results.sqlite", "results.sqlite"):
    try:
        d = sqlite3.connect(path, timeout=0.2); d.execute("create table submissions (score)"); d.execute("insert into submissions values (10)"); d.commit()
    except sqlite3.Error:
        pass
""")),
    Attack("speaks-for-agent", "answer the grader's orders before the agent does: cells done, loaded, executed", before(ON_AGENT + """
for message in ({"op": "cell_done", "status": "ok", "outputs": [], "count": 1}, {"op": "loaded"}, {"op": "executed", "notebook": "{}", "ended": ""}, {"op": "outcome", "value": True}):
    for _ in range(3):
        wire.send(channel(), message)
"""), kernel=True, alone=True),
    Attack("agent-garbage", "garbage on the agent's channel", before(ON_AGENT + "channel().sendall(b'\\xff' * 100000)")),
    Attack("agent-huge-claim", "a message on the agent's channel that claims 16 exabytes", before(ON_AGENT + "channel().sendall(b'\\xff' * 12 + b'{}')"), alone=True),
    Attack("agent-wrong-types", "answers that are lists, numbers, deep and strange", before(ON_AGENT + """
for message in ([], 7, None, {"outputs": 3, "count": "x"}, {"op": "cell_done", "status": "ok", "outputs": [1, {"output_type": "stream"}, {"output_type": "error", "ename": {}, "evalue": 3, "traceback": "x"}, {"output_type": "display_data", "data": [], "metadata": 3}], "count": -1}):
    wire.send(channel(), message)
"""), alone=True),
    Attack("agent-gives-channel-away", "hand the channel to a child and leave", before(ON_AGENT + """
import os, time
c = channel()
if os.fork() == 0:
    os.setsid()
    while True:
        order = wire.receive(c)
        wire.send(c, {"op": "cell_done" if order["op"] == "cell" else "loaded", "status": "ok", "outputs": [], "count": 1})
os._exit(0)
""")),
    Attack("answers-early", "a rank says ready, done and an outcome before it has read what is asked", impostor("""
for text in (b'{"dict": [["op", "ready"]]}', b'{"dict": [["op", "done"]]}', b'{"dict": [["op", "outcome"], ["value", true], ["collectives", []]]}'):
    sock.sendall(frame_of(text))
time.sleep(60)"""), exercise="ring-short"),
    Attack("answers-twice", "every answer is sent twice, the second one with another value", inside("""import sys
f = sys._getframe()
while f.f_code.co_name != "_serve":
    f = f.f_back
say = f.f_locals["say"]
for value in (True, tensor * 0, 1.0):
    for op in ("done", "outcome", "done", "outcome", "ready"):
        say({"op": op, "value": value, "collectives": []})""")),
    Attack("answers-for-others", "rank 0 sends outcomes in the name of all ranks", impostor("""
call = wire.receive(sock)
wire.send(sock, {"op": "ready"}); wire.receive(sock)
for r in range(8):
    wire.send(sock, {"op": "done", "rank": r})
for r in range(8):
    wire.send(sock, {"op": "outcome", "rank": r, "value": [call["args"]], "values": [1] * 8, "collectives": []})
wire.receive(sock)""")),
    Attack("garbage", "a rank that sends noise", impostor("sock.sendall(os.urandom(1 << 20)); time.sleep(60)"), exercise="ring-short"),
    Attack("half-messages", "frames cut short, lengths of zero, and one byte at a time", impostor("""
sock.sendall(struct.pack(">IQ", 0, 0)); sock.sendall(struct.pack(">IQ", 30, 10) + b"{"); time.sleep(60)"""), exercise="ring-short"),
    Attack("huge-claim", "frames that claim gigabytes and exabytes", impostor("sock.sendall(struct.pack('>IQ', 0xffffffff, 2**63)); time.sleep(60)"), exercise="ring-short"),
    Attack("not-json", "JSON that is none: NaN, duplicated tags, unknown tags, numbers of a megabyte", impostor("""
call = wire.receive(sock)
wire.send(sock, {"op": "ready"}); wire.receive(sock); wire.send(sock, {"op": "done"}); wire.receive(sock)
for text in (b'{"dict": [["op", "outcome"], ["value", ' + v + b'], ["collectives", []]]}' for v in (
        b'NaN', b'1e99999', b'{"pickle": "cos"}', b'{"int": "0x' + b'f' * 10**6 + b'"}', b'9' * 10**6, b'{"tensor": -1}', b'{"float": "1_0"}')):
    sock.sendall(frame_of(text))
time.sleep(60)"""), exercise="ring-short"),
    Attack("wrong-shape-of-report", "outcomes with odd collectives, positions and errors", impostor("""
call = wire.receive(sock)
for odd in (None, 3, [], {"op": ["ready"]}, {"op": None}, {"op": "at", "count": "x", "cpu": [], "waiting": 3}, {"op": "at", "count": 1, "cpu": float("nan"), "waiting": {"op": {}, "peer": [], "line": 3}}, {"op": "store", "port": -1}, {"op": "store", "port": 10**30}):
    wire.send(sock, odd)
wire.send(sock, {"op": "ready"}); wire.receive(sock); wire.send(sock, {"op": "done"}); wire.receive(sock)
wire.send(sock, {"op": "outcome", "value": [[[]]], "collectives": [{"op": {}, "bytes": -10**300, "peer": "x", "start": float("inf"), "end": float("nan"), "line": [], "group_size": 10**300}] * 1000})
time.sleep(60)"""), exercise="ring-short"),
    Attack("endless-report", "an error report of a hundred megabytes", impostor("""
wire.receive(sock)
wire.send(sock, {"op": "raised", "type": "E" * 10**6, "message": "x" * 10**8, "line": "y" * 10**6})
time.sleep(60)"""), exercise="ring-short"),
    Attack("endless-position", "where it waits, in fifty megabytes, and for ever", impostor("""
wire.receive(sock)
n = 0
while True:
    n += 1
    wire.send(sock, {"op": "at", "count": n, "cpu": float(n), "waiting": {"op": "recv" + "z" * 10**6, "peer": 1, "line": "y" * 10**7}, "waited_s": 1e9})
    time.sleep(0.5)"""), exercise="ring-short", slow_s=20),
    Attack("surrogates", "exceptions whose text no file can hold", before("raise ValueError('\\ud800' * 10 + '\\x00')", ring="def ring_all_reduce(tensor):\n    raise RuntimeError('\\udfff\\x00\\udcff')"), kernel=True, alone=True),
    Attack("surrogate-value", "strings no file can hold as a result, and in what was printed", before("print('\\ud800 \\udcff')\nfrom IPython.display import display\ndisplay({'text/plain': '\\ud800', 'image/png': '\\udfff'}, raw=True)", chunks="def chunk_bounds(n, w):\n    return [('\\ud800', '\\udfff')] * w", ring="def ring_all_reduce(tensor):\n    return '\\ud800'")),
    Attack("surrogate-chunks", "the judge shows what came: numbers only, whatever hides in them", cells(chunks="def chunk_bounds(n, w):\n    return {'\\ud800': '\\udfff'}", ring="class \\ud800: pass" if False else "def ring_all_reduce(t):\n    raise type('\\ud800', (Exception,), {})('x')")),
    Attack("amplified-json", "a hundred megabytes of empty dicts: three gigabytes once parsed", impostor("""
call = wire.receive(sock)
wire.send(sock, {"op": "ready"}); wire.receive(sock); wire.send(sock, {"op": "done"}); wire.receive(sock)
text = b'{"dict": [["op", "outcome"], ["value", [' + b'{},' * (40 * 2**20) + b'{}]]]}'
sock.sendall(struct.pack(">IQ", len(text), 0)); sock.sendall(text)
time.sleep(60)"""), exercise="ring-short", slow_s=25),
    Attack("amplified-tensors", "a hundred megabytes that name a million empty tensors", impostor("""
call = wire.receive(sock)
wire.send(sock, {"op": "ready"}); wire.receive(sock); wire.send(sock, {"op": "done"}); wire.receive(sock)
header = b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(1_000_000)) + b"}"
blob = struct.pack("<Q", len(header)) + header
text = b'{"dict": [["op", "outcome"], ["value", {"tensor": 0}], ["collectives", []]]}'
sock.sendall(struct.pack(">IQ", len(text), len(blob)) + text); sock.sendall(blob)
time.sleep(60)"""), exercise="ring-short", slow_s=25),
    Attack("tensor-claims", "safetensors whose header lies about offsets, dtypes and shapes", impostor("""
call = wire.receive(sock)
wire.send(sock, {"op": "ready"}); wire.receive(sock); wire.send(sock, {"op": "done"}); wire.receive(sock)
h = b'{"0":{"dtype":"F64","shape":[1000000000,1000000000],"data_offsets":[0,8]},"1":{"dtype":"F32","shape":[-1],"data_offsets":[8,0]}}'
blob = struct.pack("<Q", len(h)) + h + bytes(8)
text = b'{"dict": [["op", "outcome"], ["value", {"tensor": 0}], ["collectives", []]]}'
sock.sendall(frame_of(text, blob)); time.sleep(60)"""), exercise="ring-short"),
    Attack("strange-dtype", "a tensor of eight-bit floats smuggled past the sender's checks", impostor("""
call = wire.receive(sock)
n = call["args"][0].numel() if call["args"] and hasattr(call["args"][0], "numel") else 1
wire.send(sock, {"op": "ready"}); wire.receive(sock); wire.send(sock, {"op": "done"}); wire.receive(sock)
h = b'{"0":{"dtype":"F8_E4M3","shape":[%d],"data_offsets":[0,%d]}}' % (n, n)
text = b'{"dict": [["op", "outcome"], ["value", {"tensor": 0}], ["collectives", []]]}'
sock.sendall(frame_of(text, struct.pack("<Q", len(h)) + h + bytes([127]) * n)); time.sleep(60)"""), exercise="ring-short"),
    Attack("every-rank-large", "eight ranks that each return 120 MB at once, and need no memory for it", cells(chunks="SOLUTION", ring="SOLUTION\n" + RANK + """
_ring = ring_all_reduce
def ring_all_reduce(tensor):
    if dist.get_world_size() == 8:
        mine = rank_frame()
        mine["say"]({"op": "done"}); mine["orders"].get()
        with mine["lock"]:
            mine["sock"].sendall(struct.pack(">IQ", 100, 120 << 20))
            for _ in range(119): mine["sock"].sendall(bytes(1 << 20))
            time.sleep(60)
    return _ring(tensor)
"""), exercise="ring-short", may_earn=frozenset({"chunks", "traffic", "memory"}), slow_s=25),
    Attack("never-finished", "a message that trickles, one byte in a while", impostor("""
sock.sendall(struct.pack(">IQ", 1000, 1000))
while True:
    sock.sendall(b" "); time.sleep(0.2)"""), exercise="ring-short"),
    Attack("door", "wait at the stock kernel's door, take the channel and answer for the kernel", before("""
import os, socket, json, threading, time
def knock():
    from aboard import wire
    while True:
        try:
            door = socket.socket(socket.AF_UNIX); door.connect("/scratch/.door")
            _, fds, _, _ = socket.recv_fds(door, 1, 1)
            c = socket.socket(fileno=fds[0])
            while True:
                wire.receive(c); wire.send(c, {"op": "loaded"})
        except OSError:
            time.sleep(0.05)
threading.Thread(target=knock, daemon=True).start()
time.sleep(0.5)
"""), kernel=True),
    Attack("executed-file", "overwrite the notebook that stock papermill saves, with a forged one", before("""
import json, threading, time
forged = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"score": 10}, "cells": [{"cell_type": "code", "metadata": {"execution": {"shell.execute_reply": 1}, "papermill": {"duration": 0.1}}, "outputs": [{"output_type": "stream", "name": "stdout", "text": "10 of 10"}] * 3, "source": "", "execution_count": 1}] * 50}
def write():
    while True:
        try: open("/scratch/.executed.ipynb", "w").write(json.dumps(forged))
        except OSError: pass
        time.sleep(0.01)
threading.Thread(target=write, daemon=True).start()
"""), kernel=True),
    Attack("ddp-forged", "driven functions replaced, so that the judge is told what it wants to hear", before("""
import gc
for o in gc.get_objects():
    if type(o).__name__ == "_Agent":
        def learn(source, o=o):
            o.drive = {n: (lambda answers, *a, **k: {"tensors": {}, "kept": True}) for n in ("start", "averaged", "train", "many_averages")}
        o.learn_drive = learn
"""), exercise="ddp-from-scratch"),
    Attack("zero-forged", "numbers for the driven optimizer, made up", before("""
import gc
for o in gc.get_objects():
    if type(o).__name__ == "_Agent":
        def learn(source, o=o):
            def layers_trained(answers, layers, numel, settings):
                given = yield []
                while given: given = yield [[1e9] * 3 for _ in given]
                return [[1, 1]]
            o.drive = {"train": lambda answers, scale, target, start, steps, settings: start, "train_layers": layers_trained}
        o.learn_drive = learn
"""), exercise="zero"),
]  # fmt: skip
