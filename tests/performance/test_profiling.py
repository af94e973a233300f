"""The time of a trace, divided among the parts."""

import re

import numpy as np

from bert_jax.performance import profiling

SHORT = """HloModule jit_train

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %a = f32[8]{0} add(%p, %p), @norm/add
  %b = f32[2]{0} slice(%a), slice={[0:2]}, @norm/attention/slice
  ROOT %c = f32[8]{0} multiply(%a, %a), ~norm/mul
}

%fused.1 (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  %d = f32[2]{0} dot(%q, %q), @norm/feed_forward/abi,iu->abu/dot_general
  ROOT %e = f32[8]{0} add(%q, %q), @norm/add
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0), #state.params['attention']
  %mixed = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused, @norm/mul
  %product = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused.1, @norm/add
  %copy = f32[8]{0} copy(%product)
  %loop = f32[8]{0} while(%copy), condition=%never, body=%nothing, $optimizer/while
  ROOT %last = f32[8]{0} add(%x, %x), $add
}
"""
# Names as JAX writes them: forward, backward, outside of the gradient, of an argument.
NAMES = {"@": "jit(train)/jvp(head)/", "~": "jit(train)/transpose(jvp(head))/", "$": "jit(train)/"}
PROGRAM = re.sub(
    r"([@~$#])(\S+)",
    lambda found: f'metadata={{op_name="{NAMES.get(found[1], "")}{found[2]}"}}',
    SHORT,
)


def test_an_instruction_belongs_to_its_innermost_scope_and_a_fusion_to_its_products():
    parts = profiling.instruction_parts(PROGRAM)
    assert parts["mixed"] == {"norm": 24 / 26, "attention": 2 / 26}
    assert parts["product"] == parts["copy"] == {"feed_forward": 1.0}
    assert parts["last"] == parts["x"] == {profiling.OTHER: 1.0}
    assert parts["loop"] == {}


def test_spans_that_overlap_share_their_time():
    spans = np.array([[0, 10], [5, 15], [5, 6], [20, 21], [20, 20]], float)
    expected = [5 + 1 / 3 + 4 / 2, 5 + 1 / 3 + 4 / 2, 1 / 3, 1, 0]
    np.testing.assert_allclose(profiling._credits(spans), expected)
