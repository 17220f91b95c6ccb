// Gradients of w[k] = g[k] v[k] / |v[k]|, with n = v[k] / |v[k]|: dg[k] = n . dw[k] and
// dv[k] = g[k] / |v[k]| (dw[k] - n dg[k]), for K rows of D = 4 QUADS values.
// A workgroup owns ROWS rows; v and dw stay in registers between the two passes (HOLD) or come again from the caches.
// FLOPs: 7 K D. Bytes: 4 (3 K D + 3 K).
@group(0) @binding(0) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> inverse_norms: array<f32>;
@group(0) @binding(3) var<storage, read> dw: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dv: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dg: array<f32>;

var<private> held_direction: array<vec4<f32>, HELD>;
var<private> held_dw: array<vec4<f32>, HELD>;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let source = min(row, K - 1u);
  let first = source * QUADS;
  let inverse = inverse_norms[source];
  var along = 0.0;
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      let direction = v[first + c] * inverse;
      let d = dw[first + c];
      if (HOLD) {
        held_direction[i] = direction;
        held_dw[i] = d;
      }
      along += dot(direction, d);
    }
  }
  along = row_sum(index, along);
  if (row >= K) {
    return;
  }
  let scale = g[row] * inverse;
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      var direction: vec4<f32>;
      var d: vec4<f32>;
      if (HOLD) {
        direction = held_direction[i];
        d = held_dw[i];
      } else {
        direction = v[first + c] * inverse;
        d = dw[first + c];
      }
      dv[first + c] = scale * (d - direction * along);
    }
  }
  if (lane == 0u) {
    dg[row] = along;
  }
}
