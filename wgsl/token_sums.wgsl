// Sums of token gradients over the COUNT sequences of one crop group, in order.
// sums[t][d], t < LENGTH: of every sequence's token t, which holds the gradients of cls, registers and positions;
// with MASKED also sums[LENGTH + t][d]: the same over the sequences whose token t is masked, for the mask token.
// An invocation owns one column d of one token. FLOPs: COUNT LENGTH D. Bytes: 4 (COUNT + 1) LENGTH D.
@group(0) @binding(0) var<storage, read> dtokens: array<f32>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;
const LENGTH: u32 = 1 + REGISTERS + PATCHES;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= LENGTH * D) {
    return;
  }
  let token = i / D;
  var all = 0.0;
  var masked = 0.0;
  for (var s = 0u; s < COUNT; s++) {
    let g = dtokens[(FIRST_ROW + s * LENGTH) * D + i];
    all += g;
    if (MASKED) {
      if (token > REGISTERS) {
        masked += select(0.0, g, mask[s * PATCHES + token - 1u - REGISTERS] != 0u);
      }
    }
  }
  sums[i] = all;
  if (MASKED) {
    sums[LENGTH * D + i] = masked;
  }
}
