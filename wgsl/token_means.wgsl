// out[s, c] = mean over TOKENS rows of x[s LENGTH + FIRST + t, c]: the mean patch token of each of COUNT sequences.
// x [COUNT LENGTH, D]; every sequence is FIRST tokens that do not count (CLS, registers), then the patches.
// A workgroup owns 64 columns of one sequence, an invocation one of them; it adds its rows in order.
// FLOPs: COUNT TOKENS D. Bytes: 4 COUNT (TOKENS + 1) D.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
const BLOCKS: u32 = (D + 63) / 64;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let block = group.y * groups.x + group.x;
  let sequence = block / BLOCKS;
  let column = block % BLOCKS * 64u + lane;
  if (sequence >= COUNT || column >= D) {
    return;
  }
  var at = (sequence * LENGTH + FIRST) * D + column;
  var sum = 0.0;
  for (var t = 0u; t < TOKENS; t++) {
    sum += x[at];
    at += D;
  }
  out[sequence * D + column] = sum / f32(TOKENS);
}
