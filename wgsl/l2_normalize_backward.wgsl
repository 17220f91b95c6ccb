// dx = (dy - y (y . dy)) / norm with y = x / norm, for the rows FROM to FROM + R - 1 of x; where the norm is below EPS,
// y was x / EPS and dx = dy / EPS. The other rows of the N get 0. With ADD, the gradient so far is added: dx += sum.
// A workgroup owns ROWS rows of x; x and dy stay in registers between the two passes (HOLD) or come again from the caches.
// FLOPs: 6 R D. Bytes: R D times the sum of an element's in x and in dy, N D times that in dx (twice with ADD), and 4 R.
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<Result>;
@group(0) @binding(3) var<storage, read> sum: array<Quad>;
@group(0) @binding(4) var<storage, read_write> dx: array<Quad>;

var<private> held_x: array<Quad, HELD>;
var<private> held_dy: array<Result, HELD>;

@compute @workgroup_size(ROW_THREADS)
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
    for (var i = 0u; i < STEPS; i++) {
      let c = lane + i * LANES;
      if (c < QUADS) {
        let x_quad = x[row * QUADS + c];
        let dy_quad = dy[made * QUADS + c];
        if (HOLD) {
          held_x[i] = x_quad;
          held_dy[i] = dy_quad;
        }
        along += dot(unpack_quad(x_quad) * scale, unpack_result(dy_quad));
      }
    }
    along *= f32(norm > EPS);
  }
  along = row_sum(index, along);
  if (row >= N) {
    return;
  }
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      var d = vec4<f32>();
      if (live) {
        var x_quad: Quad;
        var dy_quad: Result;
        if (HOLD) {
          x_quad = held_x[i];
          dy_quad = held_dy[i];
        } else {
          x_quad = x[row * QUADS + c];
          dy_quad = dy[made * QUADS + c];
        }
        d = scale * (unpack_result(dy_quad) - unpack_quad(x_quad) * scale * along);
      }
      if (ADD) {
        d += unpack_quad(sum[row * QUADS + c]);
      }
      dx[row * QUADS + c] = pack_quad(d);
    }
  }
}
