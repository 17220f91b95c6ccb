// Sums of token gradients over the COUNT sequences of one crop group, float32 [LENGTH (2 LENGTH), D], D = 4 QUADS: sums[t]
// of every sequence's token t, which holds the gradients of cls, registers and positions; with MASKED also
// sums[LENGTH + t]: the same over the sequences whose token t is masked, for the mask token.
// A workgroup owns COLUMN_LANES quads of one token. FLOPs: COUNT LENGTH D, with MASKED twice that.
// Bytes: those of the group's gradients and of sums.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> dtokens: array<Quad>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>;
const LENGTH: u32 = 1 + REGISTERS + PATCHES;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let c = group.x * COLUMN_LANES + index % COLUMN_LANES;
  let token = group.y;
  var all = vec4<f32>();
  var masked = vec4<f32>();
  if (c < QUADS) {
    for (var s = index / COLUMN_LANES; s < COUNT; s += ROW_LANES) {
      let g = unpack_quad(dtokens[(FIRST_ROW + s * LENGTH + token) * QUADS + c]);
      all += g;
      if (MASKED) {
        if (token > REGISTERS) {
          masked += select(vec4<f32>(), g, mask[s * PATCHES + token - 1u - REGISTERS] != 0u);
        }
      }
    }
  }
  let writes = c < QUADS && index < COLUMN_LANES;
  all = column_sum(index, all);
  if (writes) {
    sums[token * QUADS + c] = all;
  }
  if (MASKED) {
    masked = column_sum(index, masked);
    if (writes) {
      sums[(LENGTH + token) * QUADS + c] = masked;
    }
  }
}
