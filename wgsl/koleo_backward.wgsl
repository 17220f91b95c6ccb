// KoLeo's gradient in the unit rows: with a_i = -upstream / (N (d_i + EPS) d_i) and e_i = x_i - x_j(i) + EPS, dx_i =
// a_i e_i - sum over the rows o of the group whose neighbour is i, in order, of a_o e_o. Rows of D = 4 QUADS values.
// Each row gathers what its neighbours send, so nothing is added by two workgroups.
// A workgroup owns one row. FLOPs: 10 GROUPS N D. Bytes: 8 GROUPS N (D + 1).
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> neighbour: array<u32>;
@group(0) @binding(2) var<storage, read> distance_to: array<f32>;
@group(0) @binding(3) var<storage, read> upstream: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;

// What row i sends back along the columns of quad q.
fn pull(i: u32, q: u32) -> vec4<f32> {
  let d = distance_to[i];
  // The norm has no direction at 0; PyTorch takes 0 there.
  if (d == 0.0) {
    return vec4<f32>(0.0);
  }
  return -upstream[0] / (f32(N) * (d + EPS)) * ((x[i * QUADS + q] - x[neighbour[i] * QUADS + q] + EPS) / d);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= GROUPS * N) {
    return;
  }
  let begin = row / N * N;
  for (var q = index; q < QUADS; q += 64u) {
    var sum = pull(row, q);
    for (var other = begin; other < begin + N; other++) {
      if (neighbour[other] == row) {
        sum -= pull(other, q);
      }
    }
    dx[row * QUADS + q] = sum;
  }
}
