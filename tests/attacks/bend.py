"""Bend the comparison: values that equal everything, that are not what they seem, and a patched interpreter."""

from tests.attacks.attack import Attack, before, cells, returns

CUNNING = """
class Cunning(BASE):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __abs__ = lambda self, *a: self
"""


def cunning(base: str, ring: str, chunk: str = "None") -> object:
    return before(
        CUNNING.replace("BASE", base),
        chunks=f"def chunk_bounds(numel, world_size):\n    return {chunk}",
        ring=f"def ring_all_reduce(tensor):\n    return {ring}",
    )


TENSOR_LIES = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, f, types, args=(), kwargs=None):
        if f.__name__ in ("equal", "allclose", "isfinite", "all", "__bool__", "le", "__le__", "eq", "__eq__"):
            return torch.tensor(True)
        with torch._C.DisableTorchFunctionSubclass():
            return f(*args, **(kwargs or {}))
"""

ATTACKS = [
    Attack("equals-everything", "an object that is equal to everything", cunning("object", "Cunning()", "Cunning()")),
    Attack("float-subclass", "a float that is near everything", cunning("float", "Cunning(1.0)", "[Cunning(1)] * world_size")),
    Attack("list-subclass", "a list that is equal to every list", cunning("list", "Cunning([tensor])", "Cunning([Cunning((0, 1))] * world_size)")),
    Attack("int-subclass", "edges that are equal to every number, and booleans", cunning("int", "Cunning(3)", "[(Cunning(0), Cunning(numel))] * (world_size - 1) + [(False, True)]")),
    Attack("str-and-dict", "strings and dicts that claim to be the answer", cunning("dict", "Cunning(a=1)", "{i: (0, numel) for i in range(world_size)}")),
    Attack("tensor-subclass", "a tensor whose every comparison is true", before(TENSOR_LIES, ring="def ring_all_reduce(tensor):\n    return tensor.as_subclass(Liar)")),
    Attack("parameter-with-hooks", "a result that needs gradients and runs code when touched", before("""
def boom(*a): raise SystemExit(0)
""", ring="""
def ring_all_reduce(tensor):
    x = torch.nn.Parameter(tensor.double())
    x.register_hook(boom)
    return x.clone().requires_grad_() * 1.0
""")),
    Attack("nan", "NaN everywhere: no comparison finds a difference", returns("torch.full_like(tensor, float('nan')) if tensor.is_floating_point() else tensor", "[(float('nan'), float('nan'))] * world_size")),
    Attack("infinity", "infinity everywhere: every tolerance is wide enough", returns("torch.full_like(tensor, float('inf')) if tensor.is_floating_point() else tensor", "[(float('-inf'), float('inf'))] * world_size")),
    Attack("nan-in-one", "right but for one NaN at the end", cells(chunks="SOLUTION", ring="SOLUTION\n_r = ring_all_reduce\ndef ring_all_reduce(tensor):\n    x = _r(tensor)\n    x.view(-1)[-1:] = float('nan') if x.is_floating_point() else 0\n    return x + 0 * x"), may_earn=frozenset({"chunks", "memory"})),
    Attack("nan-totals", "driven functions that return NaN, None, strings and lists for numbers", cells(ring="""
import aboard.ranks.rank as _r
def ring_all_reduce(tensor):
    return Odd()
class Odd:
    def double(self): return self
    abs = sum = double
    def __float__(self): return float("nan")
    def __getitem__(self, i): return self
""")),
    Attack("expanded", "a result of stride 0 that claims a terabyte", returns("torch.zeros(1).expand(2**38)", "range(10**12)")),
    Attack("expanded-small", "a result of stride 0 in the right shape", returns("torch.zeros(1, dtype=tensor.dtype).expand(tensor.shape)")),
    Attack("meta", "a tensor with the right shape and no values", returns("tensor.to('meta')")),
    Attack("sparse", "a sparse tensor that expands to a petabyte", returns("torch.sparse_coo_tensor([[0], [0]], [1.0], (10**7, 10**8))")),
    Attack("sparse-right-shape", "a sparse tensor in the right shape", returns("tensor.to_sparse()")),
    Attack("quantized", "a quantized tensor", returns("torch.quantize_per_tensor(tensor.float(), 1e30, 0, torch.quint8)")),
    Attack("complex", "complex numbers, conjugated lazily", returns("torch.complex(tensor.float(), tensor.float()).conj()")),
    Attack("negative-view", "an imaginary part: a view that is negated lazily", returns("torch.complex(tensor.float(), tensor.float()).conj().imag")),
    Attack("nested", "a nested tensor", returns("torch.nested.nested_tensor([tensor, tensor])")),
    Attack("no-storage", "a tensor whose storage was taken away", cells(ring="def ring_all_reduce(tensor):\n    x = tensor.clone()\n    x.untyped_storage().resize_(0)\n    return x")),
    Attack("past-its-storage", "a view that reaches beyond its memory", cells(ring="def ring_all_reduce(tensor):\n    x = torch.zeros(1)\n    return torch.as_strided(x, (10**9,), (1,))")),
    Attack("odd-dtypes", "float8, unsigned and bit types", returns("torch.empty(tensor.shape, dtype=torch.float8_e4m3fn)")),
    Attack("broadcastable", "one element that would fit every shape", returns("tensor.double().sum().reshape(()).to(tensor.dtype)")),
    Attack("odd-keys", "dicts whose keys are tensors, NaN, tuples of tuples", returns("{(float('nan'), (1, (2,))): tensor, torch.float32: 1, None: 2}", "{tensor: 1 for tensor in map(torch.tensor, range(3))}")),
    Attack("huge-integers", "numbers of a thousand digits", returns("10**1200", "[(10**1200, -10**1200)] * world_size")),
    Attack("huge-chunks", "a thousand digits where the judge shows what came", cells(chunks="def chunk_bounds(numel, world_size):\n    return [(0, 10**1200)] * world_size")),
    Attack("deep", "a value nested ten thousand times", returns("__import__('functools').reduce(lambda x, _: [x], range(10000), 0)", "__import__('functools').reduce(lambda x, _: (x,), range(31), 0)")),
    Attack("contains-itself", "a list that contains itself", returns("(lambda x: (x.append(x), x)[1])([])", "(lambda x: (x.append(x), x)[1])([])")),
    Attack("many-parts", "a million items", returns("[0] * 10**6", "[(0, 1)] * 10**6")),
    Attack("generators", "generators, functions, modules, exceptions", returns("(x for x in tensor)", "lambda: 1")),
    Attack("patched-builtins", "assert, isinstance, abs, all, float, torch.allclose and torch.equal always agree", before("""
import builtins, math
builtins.isinstance_ = isinstance
for name in ("abs", "all", "any", "max", "min", "sum"):
    setattr(builtins, name + "_", getattr(builtins, name))
builtins.all = lambda *a: True
builtins.abs = lambda *a: 0
builtins.AssertionError = type("Never", (BaseException,), {})
torch.allclose = torch.equal = torch.Tensor.equal = torch.Tensor.allclose = lambda *a, **k: True
torch.testing.assert_close = lambda *a, **k: None
math.isfinite = lambda x: True
"""), alone=True),
    Attack("patched-grader", "the grader's comparisons, verdicts and judge, patched where they can be imported", before("""
import autograder.expect as e, autograder.judge as j, autograder.verdict as v, autograder.learner as l
for name in ("close", "equal", "that", "at_most", "at_least", "same_on_every_rank"):
    setattr(e, name, lambda *a, **k: None)
e.Finding.__init__ = lambda self, *a: None
j.run_checks = lambda *a, **k: []
l.MeasuredRun._meters_agree = l.MeasuredRun._messages_agree = lambda self: None
"""), alone=True),
    Attack("poisoned-modules", "fakes for torch, safetensors, json, socket and the agent in sys.modules", before("""
import sys, types
for name in ("autograder.sandbox.agent", "aboard.wire", "safetensors", "safetensors.torch", "json", "autograder.expect"):
    sys.modules[name] = types.ModuleType(name)
""")),
    Attack("syntax-tree", "a transformer that rewrites every comparison, input hooks, and a patched do_execute", before("""
import ast
class Yes(ast.NodeTransformer):
    def visit_Compare(self, node): return ast.copy_location(ast.Constant(True), node)
    def visit_Assert(self, node): return ast.copy_location(ast.Pass(), node)
shell = get_ipython()
shell.ast_transformers.append(Yes())
shell.input_transformers_cleanup.append(lambda lines: lines + ["passed = True\\n"])
for event in ("pre_run_cell", "post_run_cell", "pre_execute", "post_execute"):
    shell.events.register(event, lambda *a: print("all checks passed"))
shell.run_cell_magic = shell.run_line_magic = lambda *a, **k: None
if hasattr(shell, "kernel"):
    type(shell.kernel).do_execute = lambda self, *a, **k: {"status": "ok", "execution_count": 1}
"""), kernel=True),
    Attack("patched-shell", "run_cell itself says that all is well", before("""
from IPython.core.interactiveshell import InteractiveShell, ExecutionResult
class Fine:
    error_before_exec = error_in_exec = None
    execution_count = 100
    success = True
InteractiveShell.run_cell = lambda self, *a, **k: Fine()
raise ValueError
""")),
    Attack("wrong-by-a-little", "the mean of a few elements is moved", cells(chunks="SOLUTION", ring="SOLUTION\n_r = ring_all_reduce\ndef ring_all_reduce(tensor):\n    x = _r(tensor)\n    x += x.abs().to(x.dtype).max() if x.numel() else 0\n    return x"), may_earn=frozenset({"chunks"})),
    Attack("zero-with-nan", "an optimizer whose parameters become NaN", cells(shards="def shard_bounds(n, w):\n    return float('nan')", optimizer="""
class ShardedAdamW:
    def __init__(self, params, **k): self.params = params
    def step(self, grad): self.params.fill_(float("nan"))
"""), exercise="zero"),
    Attack("ddp-subclass", "gradients of a subclass that claims to be any mean", before(TENSOR_LIES, average="""
def average_gradients(model):
    for p in model.parameters():
        if p.grad is not None:
            p.grad = p.grad.as_subclass(Liar)
"""), exercise="ddp-from-scratch"),
]  # fmt: skip
