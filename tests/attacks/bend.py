"""Bend the comparison: values that are nothing and pass for everything, and patches to whatever might compare."""

from tests.attacks.attack import attacks


def returning(expression: str, before: str = "") -> str:
    return f"{before}\ndef ring_all_reduce(tensor):\n    return {expression}\n"


EQUAL = """
class Equal:
    def __eq__(self, other): return True
    __ne__ = __lt__ = __gt__ = lambda self, other: False
    __le__ = __ge__ = __eq__
    __hash__ = None
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    __sub__ = __rsub__ = __add__ = __float__ = __bool__ = lambda self, *a: 0
"""
TENSOR = """
class Smooth(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True) if function.__name__ in ("allclose", "equal", "all", "eq") else super().__torch_function__(function, types, args, kwargs or {})
"""

ATTACKS = attacks(
    an_object_equal_to_all=returning("Equal()", EQUAL),
    a_tensor_subclass_that_agrees=returning("tensor.as_subclass(Smooth)", TENSOR),
    a_list_that_has_every_length=returning(
        "Any()", "class Any(list):\n    def __len__(self): return 10**6\n    def __getitem__(self, i): return self\n"
    ),
    a_number_that_is_near_everything=returning(
        "Near(1)", "class Near(float):\n    def __sub__(self, o): return 0.0\n    __rsub__ = __sub__\n    def __abs__(self): return 0.0\n"
    ),
    all_not_a_number=returning("torch.full_like(tensor, float('nan')) if tensor.is_floating_point() else tensor"),
    all_infinite=returning("torch.full_like(tensor, float('inf')) if tensor.is_floating_point() else tensor"),
    one_element_seen_many_times=returning("torch.ones(1, dtype=tensor.dtype).expand(tensor.shape)"),
    a_tensor_without_storage=returning("tensor.to('meta')"),
    a_sparse_tensor=returning("tensor.reshape(-1).to_sparse()"),
    a_sparse_tensor_of_a_terabyte=returning(
        "torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (2**40,))"
    ),
    a_quantized_tensor=returning("torch.quantize_per_tensor(tensor.float().reshape(-1), 0.1, 0, torch.qint8)"),
    a_complex_tensor=returning("tensor.to(torch.complex64)"),
    a_conjugate_view=returning("tensor.to(torch.complex64).conj()"),
    a_nested_tensor=returning("torch.nested.nested_tensor([tensor.float().reshape(-1)])"),
    a_tensor_with_a_graph=returning("(tensor.double().requires_grad_() * 1)"),
    another_dtype=returning("tensor.to(torch.float16)"),
    a_truth_value=returning("True"),
    nothing=returning("None"),
    a_generator=returning("(x for x in tensor)"),
    a_module=returning("torch"),
    a_dict_with_odd_keys=returning("{(1, 2): tensor, None: tensor, 1.5: tensor}"),
    a_very_deep_list=returning("deep", "deep = []\nfor _ in range(100_000): deep = [deep]\n"),
    a_list_that_holds_itself=returning("loop", "loop = []\nloop.append(loop)\n"),
    ten_million_items=returning("[0] * 10_000_000"),
    a_number_of_a_million_digits=returning("1 << 3_000_000"),
    patched_comparisons="""
import builtins, math
torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True
torch.testing.assert_close = lambda *a, **k: None
builtins.all = builtins.any = builtins.isinstance = lambda *a: True
math.isclose = lambda *a, **k: True
torch.Tensor.__sub__ = lambda self, other: torch.zeros_like(self)
torch.Tensor.abs = lambda self: torch.zeros_like(self)
""",
    a_rewritten_syntax_tree="""
import ast
class Assertions(ast.NodeTransformer):
    def visit_Assert(self, node): return ast.Pass()
    def visit_Compare(self, node): return ast.copy_location(ast.Constant(True), node)
get_ipython().ast_transformers.append(Assertions())
""",
    a_hook_before_every_cell="""
def always(*a, **k): globals()["ring_all_reduce"] = lambda t: t * dist.get_world_size()
get_ipython().events.register("pre_run_cell", always)
get_ipython().run_cell = lambda *a, **k: None
""",
    another_torch="""
import sys, types
fake = types.ModuleType("torch"); fake.__getattr__ = lambda name: fake; sys.modules["torch"] = fake
""",
    another_grader="""
import sys, types
for name in list(sys.modules):
    if name.startswith(("autograder", "aboard", "safetensors", "json")): sys.modules[name] = types.ModuleType(name)
""",
)
