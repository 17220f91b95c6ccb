// Cross-entropy and its gradient for a tile of ROWS student rows: loss[r] = w CE(t, s) with CE(t, s) = -sum_k t_k
// log_softmax(s / TAU)_k and, with lib/cross_entropy_gradient.wgsl, dlogits[r] = upstream[term] w / TAU (mass softmax(s /
// TAU) - t), mass the sum of t. s: K logits; t: target row (r + shift) mod target_rows; w = weights[r], which like the
// loss belongs to a larger set of rows. A row of weight 0 gives exactly 0, whatever its logits hold.
// A workgroup owns one row and reads it twice, the second time for the gradient. First each lane keeps its maximum m, sum
// exp(z - m), sum t (m - z) and sum t: all terms are positive, so nothing cancels. Two quads are under way at once.
// FLOPs: 18 ROWS K (11 for the loss alone). Bytes: 4 K (ROWS + target rows) and the gradient's.
// include lib/wide_rows.wgsl
struct LossTile {
  rows: u32,
  // Rows of the set before this tile.
  before: u32,
  term: u32,
  target_rows: u32,
  target_shift: u32,
}
@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> targets: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(TILE) var<storage, read> tile: LossTile;
const INVERSE_TAU = 1.0 / TAU;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= tile.rows) {
    return;
  }
  let s = row * QUADS;
  let weight = weights[tile.before + row];
  if (weight == 0.0) {
    if (index == 0u) {
      loss[tile.before + row] = 0.0;
    }
    if (GRADIENT) {
      for (var q = index; q < QUADS; q += WIDTH) {
        store_gradient(s + q, vec4<f32>(0.0));
      }
    }
    return;
  }
  let t = (row + tile.target_shift) % tile.target_rows * QUADS;
  var largest = max_of_four(logits[s + min(index, QUADS - 1u)]) * INVERSE_TAU;
  var sum = 0.0;
  var cross = 0.0;
  var mass = 0.0;
  for (var q = index; q < QUADS; q += 2u * WIDTH) {
    let inside = q + WIDTH < QUADS;
    let next = min(q + WIDTH, QUADS - 1u);
    let z = logits[s + q] * INVERSE_TAU;
    let z_next = logits[s + next] * INVERSE_TAU;
    let p = targets[t + q];
    let p_next = select(vec4<f32>(0.0), targets[t + next], inside);
    // Past the end of the row the last quad stands in: it cannot change the maximum.
    let larger = max(largest, max(max_of_four(z), max_of_four(z_next)));
    let e_next = select(vec4<f32>(0.0), exp(z_next - larger), inside);
    cross += mass * (larger - largest) + dot(p, larger - z) + dot(p_next, larger - z_next);
    sum = sum * exp(largest - larger) + dot(exp(z - larger) + e_next, vec4<f32>(1.0));
    mass += dot(p + p_next, vec4<f32>(1.0));
    largest = larger;
  }
  let row_largest = wide_max(index, largest);
  let log_sum = log(wide_sum(index, sum * exp(largest - row_largest)));
  let row_cross = wide_sum(index, cross + mass * (row_largest - largest));
  let row_mass = wide_sum(index, mass);
  if (index == 0u) {
    loss[tile.before + row] = weight * (row_cross + row_mass * log_sum);
  }
  if (GRADIENT) {
    let scale = upstream_of(tile.term) * weight * INVERSE_TAU;
    for (var q = index; q < QUADS; q += WIDTH) {
      let z = logits[s + q] * INVERSE_TAU;
      store_gradient(s + q, scale * (row_mass * exp(z - row_largest - log_sum) - targets[t + q]));
    }
  }
}
