// w[k] = g[k] v[k] / |v[k]| for K rows of D = 4 QUADS values: the last layer of the head; saves 1 / |v[k]| [K] for the
// backward pass. A row of zeros stays zero.
// A workgroup owns ROWS rows; a row stays in registers between the two passes (HOLD) or comes again from the caches.
// FLOPs: 3 K D. Bytes: K D times 4 and an element's of w, and 8 K.
@group(0) @binding(0) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<Result>;
@group(0) @binding(3) var<storage, read_write> inverse_norms: array<f32>;

var<private> held: array<vec4<f32>, HELD>;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let first = min(row, K - 1u) * QUADS;
  var squares = 0.0;
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      let values = v[first + c];
      if (HOLD) {
        held[i] = values;
      }
      squares += dot(values, values);
    }
  }
  squares = row_sum(index, squares);
  if (row >= K) {
    return;
  }
  var inverse = 0.0;
  if (squares > 0.0) {
    inverse = 1.0 / sqrt(squares);
  }
  let scale = g[row] * inverse;
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      var values: vec4<f32>;
      if (HOLD) {
        values = held[i];
      } else {
        values = v[first + c];
      }
      w[first + c] = pack_result(values * scale);
    }
  }
  if (lane == 0u) {
    inverse_norms[row] = inverse;
  }
}
