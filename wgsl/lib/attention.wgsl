// Division of work of the attention kernels that pass scores through workgroup memory. A tile is four numbers: first and end
// row of a sequence, first and end of the at most 4 OWN rows that a workgroup owns in it, for UNITS heads; it walks the
// sequence in tiles of 4 MET rows. A head has OWN x MET invocations: (own, met) computes the 4 x 4 products of rows
// own + i OWN and met + j MET of the two tiles, then, of its own four rows, SHARE of the QUADS columns of the result:
// met + c MET.
// include lib/attention_layout.wgsl
const SHARE: u32 = (QUADS + MET - 1u) / MET;
const HEAD_GROUPS: u32 = (HEADS + UNITS - 1u) / UNITS;

struct Place {
  head: u32,
  own: u32,
  met: u32,
  // A spare invocation repeats the last head and writes nothing, so that all meet at every barrier.
  live: bool,
  // Where this head's part begins in a workgroup array with one element an invocation.
  base: u32,
}

fn place_of(index: u32, lane: u32) -> Place {
  let unit = lane / (OWN * MET);
  let head = index % HEAD_GROUPS * UNITS + unit;
  return Place(min(head, HEADS - 1u), lane / MET % OWN, lane % MET, head < HEADS, unit * (OWN * MET));
}

// rows[i] without an index into registers.
fn pick(rows: array<vec4<f32>, 4>, i: u32) -> vec4<f32> {
  return select(select(rows[0], rows[1], i == 1u), select(rows[2], rows[3], i == 3u), i > 1u);
}

// Products of four rows of qkv with four others: element j holds those of b[j] with a[0] to a[3].
fn products(a: array<u32, 4>, b: array<u32, 4>) -> array<vec4<f32>, 4> {
  var result = array<vec4<f32>, 4>();
  let quads = quads_of_head();
  for (var d = 0u; d < quads; d++) {
    let a0 = unpack_quad(qkv[a[0] + d]);
    let a1 = unpack_quad(qkv[a[1] + d]);
    let a2 = unpack_quad(qkv[a[2] + d]);
    let a3 = unpack_quad(qkv[a[3] + d]);
    for (var j = 0u; j < 4u; j++) {
      let other = unpack_quad(qkv[b[j] + d]);
      result[j] += vec4<f32>(dot(a0, other), dot(a1, other), dot(a2, other), dot(a3, other));
    }
  }
  return result;
}
