"""What runs on the miniature supercomputer beside the learner's scripts: the hub on the login node, and `train.py` in the job.

`HUB` and `TRAIN` are the texts of the two programs. Scripts share the hub's node and may write into any file there, so the
hub keeps to itself what it serves, what goes wrong and what it has sent, and obeys only who knows its key.
"""

HUB = r'''
import ctypes
import hashlib
import hmac
import http.server
import json
import os
import random

KEY = "the key"
ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: nobody else on this node looks into this process
plan, log, used = {"seed": 0, "sizes": {}, "damaged": "", "broken": ""}, [], set()


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves files made from a seed, with ranges, and remembers what it sent."""

    def do_GET(self):
        name = self.path.lstrip("/")
        body = contents(name)
        if body is None:
            return self.send_error(404)
        if name == plan["damaged"]:
            body = bytes([body[0] ^ 1]) + body[1:]
        first, status = 0, 200
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and asked[6:].split("-")[0].isdigit():
            first, status = int(asked[6:].split("-")[0]), 206
            if first >= len(body):
                return self.send_error(416)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        end = max(first, len(body) // 2) if name == plan["broken"] else len(body)
        if self.command == "GET":
            log.append([name, end - first])
            self.wfile.write(body[first:end])

    do_HEAD = do_GET

    def do_POST(self):
        """An order of the judge's: a path of number and signature, and what it wants. The answer is signed, too."""
        number, _, signature = self.path.lstrip("/").partition("/")
        order = self.rfile.read(int(self.headers.get("Content-Length", 0))).strip()
        if number in used or not hmac.compare_digest(signed(number, order), signature):
            return self.send_error(403)
        used.add(number)
        answer = json.dumps(obey(**json.loads(order))).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(signed("answer " + number, answer).encode() + b" " + answer)

    def log_message(self, *_):
        pass


def signed(number, text):
    return hmac.new(KEY.encode(), number.encode() + b" " + text, "sha256").hexdigest()


def obey(new=None, plant=None):
    """Take up a new plan, with which what was sent is forgotten; put beginnings of files into a folder; tell what was sent."""
    if new is not None:
        plan.clear()
        plan.update(new)
        log.clear()
    if plant is not None:
        os.makedirs(plant["folder"], exist_ok=True)
        for name, size in plant["sizes"].items():
            with open(os.path.join(plant["folder"], name), "wb") as file:
                file.write(contents(name)[:size])
    return log


def contents(name):
    if name == "SHA256SUMS":
        return "".join(f"{hashlib.sha256(contents(one)).hexdigest()}  {one}\n" for one in plan["sizes"]).encode()
    if name not in plan["sizes"]:
        return None
    return random.Random(f"{KEY}/{plan['seed']}/{name}").randbytes(plan["sizes"][name])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Hub)
with open("hub-up.txt", "w") as file:
    file.write("up")
server.serve_forever()
'''

TRAIN = r'''
"""A stand-in for a training: it looks for its model as the Hugging Face libraries do, and writes a cache as many tools do.

It first waits until the judge has seen it, who asks the kernel which processes run this, where, and with which variables.
"""
import hashlib
import json
import os
import socket
import sys
import time
import urllib.request

PATIENCE_S, SEEN_S = 3.0, 10.0


def say(kind, **said):
    name = f"{START}/{kind}-{os.environ.get('SLURM_JOB_ID', 0)}-{socket.gethostname()}-{os.getpid()}.json"
    with open(name + ".part", "w") as file:
        json.dump(said, file)
    os.replace(name + ".part", name)


def ask_the_hub():
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/SHA256SUMS", timeout=1).read()
            return
        except (OSError, KeyError):
            time.sleep(0.2)


def whole(path, checksum):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == checksum
    except OSError:
        return False


START = os.getcwd()
deadline = time.monotonic() + SEEN_S
while not os.path.exists(f"seen-{socket.gethostname()}-{os.getpid()}") and time.monotonic() < deadline:
    time.sleep(0.02)
with open("needs.json") as file:
    needs = json.load(file)
home = os.path.expanduser("~")
model = os.environ.get("HF_HOME") or os.path.join(home, ".cache", "huggingface")
offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
cache = os.environ.get("XDG_CACHE_HOME", "")
if not os.path.isabs(cache):
    cache = os.path.join(home, ".cache")
own = f"run-{os.environ.get('SLURM_JOB_ID', 0)}-{os.environ.get('SLURM_PROCID', 0)}"
os.makedirs(own, exist_ok=True)
os.chdir(own)

if not offline:
    print("asking the hub for newer files", flush=True)
    ask_the_hub()
missing = [name for name, checksum in needs["files"].items() if not whole(os.path.join(model, name), checksum)]
if missing:
    say("lacks", names=missing)
    sys.exit(f"{missing[0]} is not in {model}, and the hub does not answer")
inside = os.path.join(os.path.realpath(cache), "").startswith(os.path.join(os.path.realpath(needs["home"]), ""))
try:
    if inside:  # also for a user whom no permission holds back
        raise PermissionError(f"read-only: {cache}")
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, own), "w") as file:
        file.write("compiled")
except OSError as error:
    say("unwritten", why=str(error), inside=inside)
    sys.exit(f"the cache cannot be written: {error}")
say("done")
'''
