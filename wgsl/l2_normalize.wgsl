// y[r] = x[FROM + r] / max(norm, EPS) for R rows of D values; saves the norms [R] for the backward pass.
// A workgroup owns ROWS rows. FLOPs: 3 R D. Bytes: 4 (2 R D + R).
// include lib/rows.wgsl
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let source = (FROM + min(row, R - 1u)) * D;
  var squares = 0.0;
  for (var c = lane; c < D; c += LANES) {
    squares += x[source + c] * x[source + c];
  }
  let norm = sqrt(row_sum(index, squares));
  if (row >= R) {
    return;
  }
  let scale = 1.0 / max(norm, EPS);
  for (var c = lane; c < D; c += LANES) {
    y[row * D + c] = x[source + c] * scale;
  }
  if (lane == 0u) {
    norms[row] = norm;
  }
}
