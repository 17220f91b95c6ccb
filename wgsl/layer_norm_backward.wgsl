// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), g = dy * weight: layer-norm's input gradient for N rows of D = 4 QUADS.
// With GATHER, y held only some rows of x: inverse[n] is the row of y made from row n, or NONE (dx is then 0).
// With ADD, the gradient that reached x elsewhere is added in the same pass: dx += sum.
// A workgroup owns ROWS rows of x; x and dy stay in registers between the two passes (HOLD) or come again from the caches.
// For R rows of y, FLOPs: 12 R D. Bytes: (2 R + N) D times an element's, N D more with ADD, 4 D + 8 R, 4 N with GATHER.
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> inverse: array<u32>;
@group(0) @binding(4) var<storage, read> dy: array<Quad>;
@group(0) @binding(5) var<storage, read> sum: array<Quad>;
@group(0) @binding(6) var<storage, read_write> dx: array<Quad>;

const ONES = vec4<f32>(1.0);
var<private> held_x: array<Quad, HELD>;
var<private> held_dy: array<Quad, HELD>;

@compute @workgroup_size(ROW_THREADS)
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
  var s = vec2<f32>();
  var g_sum = vec4<f32>();
  var gx_sum = vec4<f32>();
  if (kept) {
    s = statistics[made];
    for (var i = 0u; i < STEPS; i++) {
      let c = lane + i * LANES;
      if (c < QUADS) {
        let x_quad = x[source * QUADS + c];
        let dy_quad = dy[made * QUADS + c];
        if (HOLD) {
          held_x[i] = x_quad;
          held_dy[i] = dy_quad;
        }
        let g = unpack_quad(dy_quad) * weight[c];
        g_sum += g;
        gx_sum += g * (unpack_quad(x_quad) - s.x) * s.y;
      }
    }
  }
  let g_mean = row_sum(index, dot(g_sum, ONES)) / (4.0 * QUADS);
  let gx_mean = row_sum(index, dot(gx_sum, ONES)) / (4.0 * QUADS);
  if (row >= N) {
    return;
  }
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      var d = vec4<f32>();
      if (kept) {
        var x_quad: Quad;
        var dy_quad: Quad;
        if (HOLD) {
          x_quad = held_x[i];
          dy_quad = held_dy[i];
        } else {
          x_quad = x[row * QUADS + c];
          dy_quad = dy[made * QUADS + c];
        }
        let xhat = (unpack_quad(x_quad) - s.x) * s.y;
        d = s.y * (unpack_quad(dy_quad) * weight[c] - g_mean - xhat * gx_mean);
      }
      if (ADD) {
        d += unpack_quad(sum[row * QUADS + c]);
      }
      dx[row * QUADS + c] = pack_quad(d);
    }
  }
}
