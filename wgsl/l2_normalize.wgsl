// y[r] = x[FROM + r] / max(norm, EPS) for R rows of D = 4 QUADS values; saves the norms [R] for the backward pass.
// A workgroup owns ROWS rows; a row stays in registers between the two passes (HOLD) or comes again from the caches.
// FLOPs: 3 R D. Bytes: R D times the sum of an element's in x and in y, and 4 R.
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> y: array<Result>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;

var<private> held: array<Quad, HELD>;

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let lane = index % LANES;
  let first = (FROM + min(row, R - 1u)) * QUADS;
  var squares = 0.0;
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      let quad = x[first + c];
      if (HOLD) {
        held[i] = quad;
      }
      let v = unpack_quad(quad);
      squares += dot(v, v);
    }
  }
  let norm = sqrt(row_sum(index, squares));
  if (row >= R) {
    return;
  }
  let scale = 1.0 / max(norm, EPS);
  for (var i = 0u; i < STEPS; i++) {
    let c = lane + i * LANES;
    if (c < QUADS) {
      var quad: Quad;
      if (HOLD) {
        quad = held[i];
      } else {
        quad = x[first + c];
      }
      y[row * QUADS + c] = pack_result(unpack_quad(quad) * scale);
    }
  }
  if (lane == 0u) {
    norms[row] = norm;
  }
}
