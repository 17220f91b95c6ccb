// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * weight: layer-norm's input gradient for N rows of D.
// With GATHER, y held only some rows of x: inverse[n] is the row of y made from row n, or NONE (dx is then 0).
// With ADD, the gradient that reached x elsewhere is added in the same pass: dx += sum.
// A workgroup owns ROWS rows of x. FLOPs: 12 N D. Bytes: 4 (3 N D + D), and 4 N D more with ADD.
// include lib/rows.wgsl
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> inverse: array<u32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read> sum: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let source = min(row, N - 1u);
  var made = source;
  if (GATHER) {
    made = inverse[source];
  }
  let kept = made != NONE;
  var s = vec2<f32>(0.0, 0.0);
  var g_sum = 0.0;
  var gx_sum = 0.0;
  if (kept) {
    s = statistics[made];
    for (var c = lane; c < D; c += LANES) {
      let g = dy[made * D + c] * weight[c];
      g_sum += g;
      gx_sum += g * (x[source * D + c] - s.x) * s.y;
    }
  }
  let g_mean = row_sum(index, g_sum) / f32(D);
  let gx_mean = row_sum(index, gx_sum) / f32(D);
  if (row >= N) {
    return;
  }
  for (var c = lane; c < D; c += LANES) {
    var d = 0.0;
    if (kept) {
      let xhat = (x[source * D + c] - s.x) * s.y;
      d = s.y * (dy[made * D + c] * weight[c] - g_mean - xhat * gx_mean);
    }
    if (ADD) {
      d += sum[source * D + c];
    }
    dx[source * D + c] = d;
  }
}
