// KoLeo over GROUPS groups of N unit rows x of D = 4 QUADS values: the nearest neighbour j of each row i in its group
// (largest dot product, i itself counting as -1; the lowest index among equals), d[i] = |x_i - x_j + EPS|, and the row's
// share of the loss, -log(d[i] + EPS) / N. neighbour, distance_to and loss: f32 [GROUPS N].
// A workgroup owns one row: 16 candidates at a time, 16 lanes each.
// FLOPs: 2 GROUPS N (N + 2) D. Bytes: 4 GROUPS N (D + 3).
const CANDIDATES = 16u;
const LANES = 16u;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> neighbour: array<u32>;
@group(0) @binding(2) var<storage, read_write> distance_to: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
var<workgroup> scratch: array<f32, CANDIDATES * LANES>;
var<workgroup> best_of: array<f32, CANDIDATES>;
var<workgroup> best_at: array<u32, CANDIDATES>;
var<workgroup> nearest: u32;

@compute @workgroup_size(CANDIDATES * LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= GROUPS * N) {
    return;
  }
  let lane = index % LANES;
  let candidate = index / LANES;
  let begin = row / N * N;
  // Below every dot product of unit rows.
  var best = -2.0;
  var at = row;
  for (var first = 0u; first < N; first += CANDIDATES) {
    let other = begin + min(first + candidate, N - 1u);
    var product = 0.0;
    for (var q = lane; q < QUADS; q += LANES) {
      product += dot(x[row * QUADS + q], x[other * QUADS + q]);
    }
    scratch[index] = product;
    for (var step = LANES / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      if (lane < step) {
        scratch[index] += scratch[index + step];
      }
    }
    workgroupBarrier();
    let similarity = select(scratch[index - lane], -1.0, other == row);
    if (similarity > best) {
      best = similarity;
      at = other;
    }
    workgroupBarrier();
  }
  if (lane == 0u) {
    best_of[candidate] = best;
    best_at[candidate] = at;
  }
  workgroupBarrier();
  if (index == 0u) {
    for (var other = 1u; other < CANDIDATES; other++) {
      if (best_of[other] > best || (best_of[other] == best && best_at[other] < at)) {
        best = best_of[other];
        at = best_at[other];
      }
    }
    nearest = at;
  }
  workgroupBarrier();
  let j = nearest;
  var squares = 0.0;
  for (var q = index; q < QUADS; q += CANDIDATES * LANES) {
    let d = x[row * QUADS + q] - x[j * QUADS + q] + EPS;
    squares += dot(d, d);
  }
  scratch[index] = squares;
  for (var step = CANDIDATES * LANES / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (index < step) {
      scratch[index] += scratch[index + step];
    }
  }
  if (index == 0u) {
    let d = sqrt(scratch[0]);
    neighbour[row] = j;
    distance_to[row] = d;
    loss[row] = -log(d + EPS) / f32(N);
  }
}
