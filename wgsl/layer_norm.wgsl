// y[r] = (x[s] - mean) * rstd * weight + bias, with s = rows[r] (GATHER) or r: layer-norm of R rows of D = 4 QUADS values,
// biased variance in a second pass over the row, which stays in registers (HOLD) or is loaded again from the caches.
// Saves mean and rstd [R, 2] for the backward pass. A workgroup owns ROWS rows, a lane every LANES-th quad of one.
// FLOPs: 8 R D. Bytes: 2 R D times an element's, 8 D + 8 R, and 4 R more with GATHER.
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;
@group(0) @binding(5) var<storage, read_write> statistics: array<vec2<f32>>;

const ONES = vec4<f32>(1.0);
var<private> held: array<Quad, HELD>;

fn x_again(step: u32, at: u32) -> vec4<f32> {
  if (HOLD) {
    return unpack_quad(held[step]);
  }
  return unpack_quad(x[at]);
}

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  var source = min(row, R - 1u);
  if (GATHER) {
    source = rows[source];
  }
  let first = source * QUADS;
  var sum = vec4<f32>();
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      let quad = x[first + c];
      if (HOLD) {
        held[i] = quad;
      }
      sum += unpack_quad(quad);
    }
  }
  let mean = row_sum(index, dot(sum, ONES)) / (4.0 * QUADS);
  var squares = 0.0;
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      let d = x_again(i, first + c) - mean;
      squares += dot(d, d);
    }
  }
  let rstd = inverseSqrt(row_sum(index, squares) / (4.0 * QUADS) + EPS);
  if (row >= R) {
    return;
  }
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      y[row * QUADS + c] = pack_quad((x_again(i, first + c) - mean) * rstd * weight[c] + bias[c]);
    }
  }
  if (lane == 0u) {
    statistics[row] = vec2<f32>(mean, rstd);
  }
}
