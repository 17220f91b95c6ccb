// dx = (dy - y (y . dy)) / norm with y = x / norm, for the rows FROM to FROM + R - 1 of x; where the norm is below EPS,
// y was x / EPS and dx = dy / EPS. The other rows of the N get 0. With ADD, the gradient so far is added: dx += sum.
// A workgroup owns ROWS rows of x. FLOPs: 6 R D. Bytes: 4 (2 R D + N D), and 4 N D more with ADD.
// include lib/rows.wgsl
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read> sum: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  // Rows before FROM wrap around to large numbers, so one comparison finds both ends.
  let made = row - FROM;
  let live = row < N && made < R;
  var scale = 0.0;
  var along = 0.0;
  if (live) {
    let norm = norms[made];
    scale = 1.0 / max(norm, EPS);
    if (norm > EPS) {
      for (var c = lane; c < D; c += LANES) {
        along += x[row * D + c] * scale * dy[made * D + c];
      }
    }
  }
  along = row_sum(index, along);
  if (row >= N) {
    return;
  }
  for (var c = lane; c < D; c += LANES) {
    var d = 0.0;
    if (live) {
      d = scale * (dy[made * D + c] - x[row * D + c] * scale * along);
    }
    if (ADD) {
      d += sum[row * D + c];
    }
    dx[row * D + c] = d;
  }
}
