// w[k] = g[k] v[k] / |v[k]| for K rows of D values: the last layer of the head; saves 1 / |v[k]| [K] for the backward
// pass. A row of zeros stays zero. A workgroup owns ROWS rows. FLOPs: 3 K D. Bytes: 4 (2 K D + 2 K).
// include lib/rows.wgsl
@group(0) @binding(0) var<storage, read> v: array<f32>;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> inverse_norms: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let source = min(row, K - 1u) * D;
  var squares = 0.0;
  for (var c = lane; c < D; c += LANES) {
    squares += v[source + c] * v[source + c];
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
  for (var c = lane; c < D; c += LANES) {
    w[row * D + c] = v[source + c] * scale;
  }
  if (lane == 0u) {
    inverse_norms[row] = inverse;
  }
}
